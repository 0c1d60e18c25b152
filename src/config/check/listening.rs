//! Sockets and the way to the backend.

use std::net::SocketAddr;

use super::{Check, Complaints};
use crate::config::sections::Config;
use crate::server::Address;

pub(super) const CHECKS: &[Check] = &[
    Check { reads: &["listen"], each: &[], run: there_is_somewhere_to_listen },
    Check { reads: &["listen", "api.listen"], each: &[], run: each_address_is_taken_once },
    Check { reads: &["listen"], each: &[], run: redirects_have_somewhere_to_go },
    Check { reads: &["listen", "trusted_proxies"], each: &[], run: somebody_may_send_a_proxy_header },
    Check { reads: &["upstream.url"], each: &[], run: there_is_a_backend },
    Check { reads: &["listen", "upstream.url"], each: &[], run: the_backend_is_not_this_node },
];

fn there_is_somewhere_to_listen(config: &Config, complaints: &mut Complaints) {
    if config.listen.is_empty() {
        complaints.error("listen", "there is no listener; `- address: 0.0.0.0:8080` is the usual first one");
    }
}

fn each_address_is_taken_once(config: &Config, complaints: &mut Complaints) {
    let public = config.listen.iter().enumerate().map(|(at, it)| (format!("listen.{at}.address"), &it.address.0));
    let all: Vec<(String, &Address)> = public.chain([("api.listen".to_owned(), &config.api.listen.0)]).collect();
    for (at, (key, address)) in all.iter().enumerate() {
        if let Some((_, other)) = all[..at].iter().find(|(_, other)| overlap(address, other)) {
            complaints.error(key, format!("{address} is taken by another listener, {other}"));
        }
    }
}

fn overlap(one: &Address, other: &Address) -> bool {
    let (Address::Tcp(one), Address::Tcp(other)) = (one, other) else { return one == other };
    let is_any = |it: &SocketAddr| it.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || is_any(one) || is_any(other))
}

fn redirects_have_somewhere_to_go(config: &Config, complaints: &mut Complaints) {
    let has_tls = config.listen.iter().any(|it| it.tls.is_some());
    for (at, listen) in config.listen.iter().enumerate().filter(|(_, it)| it.redirect_to_https) {
        let key = format!("listen.{at}.redirect_to_https");
        if listen.tls.is_some() {
            complaints.error(&key, "this listener has TLS itself: it would redirect to itself for ever");
        } else if !has_tls {
            complaints.error(&key, "no listener has `tls`, so there is nothing to redirect to");
        }
    }
}

fn somebody_may_send_a_proxy_header(config: &Config, complaints: &mut Complaints) {
    for (at, _) in config.listen.iter().enumerate().filter(|(_, it)| it.proxy_protocol) {
        if config.trusted_proxies.is_empty() {
            let message = "PROXY headers are believed only from `trusted_proxies`, and that list is empty";
            complaints.error(&format!("listen.{at}.proxy_protocol"), message);
        }
    }
}

fn there_is_a_backend(config: &Config, complaints: &mut Complaints) {
    if config.upstream.url.0.is_empty() {
        complaints.error("upstream.url", "there is no backend; write `url: http://127.0.0.1:3000`");
    }
}

fn the_backend_is_not_this_node(config: &Config, complaints: &mut Complaints) {
    let loopback = |host: &str| matches!(host, "127.0.0.1" | "localhost" | "::1" | "0.0.0.0");
    for target in &config.upstream.url.0 {
        let text = target.to_string();
        let Ok(uri) = text.parse::<http::Uri>() else { continue };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let ours = config
            .listen
            .iter()
            .any(|it| matches!(it.address.0, Address::Tcp(it) if Some(it.port()) == uri.port_u16()));
        if ours && loopback(host) {
            complaints
                .error("upstream.url", format!("{text} is a listener of this node: requests would go in circles"));
        }
    }
}
