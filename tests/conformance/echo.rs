//! The server the Autobahn cases run against: the product's own listener, takeover, frame reader, outbox and framing,
//! with an echo in place of the session.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use outrigger::drain::Drain;
use outrigger::hub::{Hub, Settings};
use outrigger::peer::{Stream, Takeover};
use outrigger::protocol::wire::Deflate;
use outrigger::server::{Admission, Listener, Metrics, Policy, Server, tls};
use outrigger::transport::websocket::echo;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let port = arguments.iter().skip_while(|it| *it != "--port").nth(1).expect("--port N");
    let certificates = || {
        let set = tls::Set::load(&[tls::Pair::SelfSigned], None).expect("a self-signed certificate can be made");
        tls::Certificates::new(Arc::new(set)).expect("TLS can be set up")
    };
    let listener = Listener {
        address: format!("127.0.0.1:{port}").parse().expect("a port"),
        tls: arguments.iter().any(|it| it == "--tls").then(certificates),
        proxy_protocol: false,
        redirect_to_https: None,
        http2_connect: false,
    };
    let policy = Arc::new(Policy::default());
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    let server = Server::bind(vec![listener], Arc::new(move || policy.clone()), Arc::<Admission>::default(), metrics);
    let engine = outrigger::engine::Settings {
        positions: std::time::Duration::from_secs(60),
        channels: 1,
        idempotency: std::time::Duration::from_secs(60),
        idempotency_ids: 1,
    };
    let deflate = arc_swap::ArcSwap::from_pointee(Deflate::default());
    let hub = Hub::open(Settings { shards: 1, engine }, Box::new(arc_swap::access::Map::new(deflate, identity)));
    let (_drain, draining) = Drain::new();
    server.expect("the port is free").run(move |request| answer(request, hub.clone()), draining).await;
}

fn identity(it: &Deflate) -> &Deflate {
    it
}

async fn answer(mut request: Request<Incoming>, hub: Arc<Hub>) -> Response<Full<Bytes>> {
    let takeover = request.extensions_mut().remove::<Takeover>().expect("HTTP/1.1");
    let request = request.map(drop);
    let run = Box::new(move |stream: Stream, read| -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(echo::serve(request, stream, read, hub))
    });
    match takeover.leave(run).await {}
}
