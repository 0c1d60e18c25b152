use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::sync::mpsc;

use super::*;

type Piece = Result<Frame<Bytes>, &'static str>;

/// A backend's reply whose body comes piece by piece.
fn reply(
    header: &str,
) -> (mpsc::Sender<Piece>, Response<impl http_body::Body<Data = Bytes, Error = &'static str> + Send + Unpin + use<>>) {
    let (pieces, mut received) = mpsc::channel(100);
    let body = StreamBody::new(stream::poll_fn(move |cx| received.poll_recv(cx)));
    let response = Response::builder().header("outrigger-push", header).header("content-type", "application/json");
    (pieces, response.body(body).unwrap())
}

fn piece(text: &str) -> Piece {
    Ok(Frame::data(Bytes::copy_from_slice(text.as_bytes())))
}

impl Bench {
    fn announcer(&self) -> Arc<Announcer> {
        Announcer::new(self.hub.clone(), self.metrics.clone(), self.drain.holds())
    }

    fn terms(&self) -> Terms {
        Terms { rules: self.settings.rules.clone(), max_publication: MAX_PUBLICATION, is_honoured: true }
    }

    fn counted(&self, outcome: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.contains(&format!("announced_total{{outcome=\"{outcome}\"}} 1\n"))
    }
}

#[tokio::test]
async fn a_reply_is_published_however_it_was_cut() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    let (pieces, response) = reply(r#""room.1";event="paid";id="o-1""#);
    let response = bench.announcer().take(response, &bench.terms());
    assert!(!response.headers().contains_key("outrigger-push"));
    for at in [r#"{ "o"#, "", r#"rder": ""#, "gr\u{f6}\u{df}e", "\"\n}"] {
        pieces.send(piece(at)).await.unwrap();
    }
    drop(pieces);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "{ \"order\": \"gr\u{f6}\u{df}e\"\n}".as_bytes());
    let heard: Value = serde_json::from_str(&bench.heard(&client).await).unwrap();
    assert_eq!(
        (&heard["data"]["order"], &heard["event"], &heard["id"]),
        (&json!("größe"), &json!("paid"), &json!("o-1"))
    );
    assert!(bench.counted("published"));
}

#[tokio::test]
async fn a_client_that_leaves_early_does_not_take_the_announcement_with_it() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    let (pieces, response) = reply(r#""room.1""#);
    let mut body = bench.announcer().take(response, &bench.terms()).into_body();
    pieces.send(piece("[1,")).await.unwrap();
    body.frame().await.unwrap().unwrap();
    drop(body);
    pieces.send(piece("2]")).await.unwrap();
    drop(pieces);
    let client_heard = bench.heard(&client).await;
    assert!(client_heard.contains(r#""data":[1,2]"#), "{client_heard}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_rest_of_an_announced_reply_but_not_for_ever() {
    let bench = Bench::open();
    let (pieces, response) = reply(r#""room.1""#);
    let announcer = bench.announcer();
    drop(announcer.take(response, &bench.terms()));
    let Bench { drain, metrics: _metrics, registry, .. } = bench;
    drain.begin();
    let begun = tokio::time::Instant::now();
    drain.finished().await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(r#"announced_total{outcome="abandoned"} 1"#), "{text}");
    drop(pieces);
}

#[tokio::test]
async fn what_cannot_be_published_is_counted_and_the_reply_goes_through() {
    let bench = Bench::open();
    let take = async |header: &str, content: &str, body: String| {
        let response = Response::builder().header("outrigger-push", header).header("content-type", content);
        let response =
            bench.announcer().take(response.body(Full::new(Bytes::from(body.clone()))).unwrap(), &bench.terms());
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    };
    take("\"a b\"", "application/json", "1".into()).await;
    assert!(bench.counted("invalid"));
    take("\"room.1\"", "application/json", format!("\"{}\"", "x".repeat(MAX_PUBLICATION))).await;
    assert!(bench.counted("too_large"));
    take("\"room.1\"", "text/html", "<html>".into()).await;
    assert!(bench.counted("unusable"));
    let (pieces, response) = reply("\"room.1\"");
    let mut body = bench.announcer().take(response, &bench.terms()).into_body();
    pieces.send(piece("[1")).await.unwrap();
    pieces.send(Err("broken")).await.unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap_err(), "broken");
    assert!(bench.counted("broken"));
    assert_eq!(bench.tries(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_tried_for_half_a_minute_under_one_id() {
    let bench = Bench::open();
    let client = bench.follow("room.1", Format::Poll).await;
    bench.fail("room.1", Error::Unavailable, 0, 3);
    let announce = || {
        let response =
            Response::builder().header("outrigger-push", "\"room.1\"").header("outrigger-push-data", "{\"n\": 1}");
        bench.announcer().take(response.body(Full::<Bytes>::default()).unwrap(), &bench.terms())
    };
    announce();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(bench.tries(), 4);
    assert!(client.read().contains(r#""data":{"n":1}"#) && bench.counted("published"));
    bench.fail("room.1", Error::Unavailable, 0, 10_000);
    announce();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(!bench.counted("lost"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(bench.counted("lost") && client.read().is_empty());
}
