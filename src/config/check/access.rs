//! Who may come in, follow and publish.

use super::{Check, Complaints};
use crate::config::sections::{Algorithm, Config, Jwt, Publish, Subscribe, TokenFrom, WebhookEvent};
use crate::server::Address;

pub(super) const CHECKS: &[Check] = &[
    Check { reads: &["auth.jwt"], each: &[], run: tokens_have_a_key },
    Check { reads: &["auth.jwt.secret"], each: &[], run: secrets_are_long },
    Check { reads: &["auth.jwt"], each: &[], run: algorithms_fit_the_keys },
    Check { reads: &["auth"], each: &[], run: somebody_can_come_in },
    Check { reads: &["auth"], each: &[], run: tokens_are_looked_for },
    Check { reads: &["auth.cookie"], each: &[], run: the_cookie_has_a_name },
    Check { reads: &["realtime.allowed_origins"], each: &[], run: origins_are_origins },
    Check { reads: &["realtime.allowed_origins", "auth"], each: &[], run: foreign_pages_do_not_ride_on_cookies },
    Check { reads: &["auth"], each: &["channels"], run: grants_come_from_somewhere },
    Check { reads: &["auth"], each: &["channels"], run: members_have_ids },
    Check { reads: &["webhooks"], each: &["channels"], run: rules_ask_who_can_be_asked },
    Check { reads: &[], each: &["channels"], run: every_rule_can_be_reached },
    Check { reads: &["channels"], each: &[], run: there_are_rules },
    Check { reads: &[], each: &["api.keys"], run: api_keys_differ },
    Check { reads: &["api.keys"], each: &[], run: the_backend_has_a_key },
    Check { reads: &["api.listen", "api.tls"], each: &[], run: the_api_is_not_in_the_open },
];

/// RFC 7518 section 3.2: a shorter one can be guessed offline from a single token.
const SHORT_SECRET: usize = 32;
const SHORT_KEY: usize = 16;

fn tokens_have_a_key(config: &Config, complaints: &mut Complaints) {
    let Some(jwt) = &config.auth.jwt else { return };
    if jwt.secret.0.is_empty() && jwt.public_key.0.is_empty() && jwt.jwks.is_none() {
        complaints.error("auth.jwt", "tokens need a key to check them with: `secret`, `public_key` or `jwks`");
    }
    if jwt.user_claim.0.is_empty() {
        complaints.error("auth.jwt.user_claim", "no claim is named; `[sub, userId]` is the default");
    }
    let scheme = jwt.jwks.as_ref().map(|it| it.0.scheme_str().unwrap_or_default());
    if scheme.is_some_and(|it| it != "https" && it != "http") {
        complaints.error("auth.jwt.jwks", "expected an absolute URL such as https://login.example.com/jwks.json");
    }
    if scheme == Some("http") {
        complaints.warning("auth.jwt.jwks", "keys fetched over plain http can be replaced on their way");
    }
}

fn secrets_are_long(config: &Config, complaints: &mut Complaints) {
    let secrets = config.auth.jwt.iter().flat_map(|it| &it.secret.0).map(super::super::Secret::reveal);
    for (at, secret) in secrets.enumerate() {
        let key = format!("auth.jwt.secret.{at}");
        if secret.trim().is_empty() {
            complaints.error(&key, "this secret is empty");
        } else if secret.trim_start().starts_with("-----BEGIN") {
            complaints.error(&key, "this is a PEM block; a public key belongs into `public_key`");
        } else if secret.len() < SHORT_SECRET {
            let message = format!(
                "this secret has {} bytes and can be guessed; use {SHORT_SECRET} random ones or more (`openssl rand -base64 32`)",
                secret.len()
            );
            complaints.warning(&key, message);
        }
    }
}

fn algorithms_fit_the_keys(config: &Config, complaints: &mut Complaints) {
    let Some(jwt) = &config.auth.jwt else { return };
    let is_hmac = |it: &Algorithm| matches!(it, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    let Jwt { secret, public_key, jwks, algorithms, .. } = jwt;
    if algorithms.is_empty() {
        return;
    }
    if !secret.0.is_empty() && !algorithms.iter().any(is_hmac) {
        complaints
            .error("auth.jwt.algorithms", "`secret` works with HS256, HS384 or HS512, and none of them is listed");
    }
    if !public_key.0.is_empty() && algorithms.iter().all(is_hmac) {
        complaints
            .error("auth.jwt.algorithms", "`public_key` works with RS…, PS…, ES… or EdDSA, and none of them is listed");
    }
    if jwks.is_some() && algorithms.iter().all(is_hmac) {
        complaints.error("auth.jwt.algorithms", "`jwks` holds public keys, and only algorithms for secrets are listed");
    }
}

fn somebody_can_come_in(config: &Config, complaints: &mut Complaints) {
    let auth = &config.auth;
    if !auth.anonymous && auth.jwt.is_none() && !auth.webhook {
        let message = "nobody can connect in real time: set `auth.jwt`, `auth.webhook: true` or `auth.anonymous: true`";
        complaints.warning("auth", message);
    }
}

fn tokens_are_looked_for(config: &Config, complaints: &mut Complaints) {
    if config.auth.jwt.is_some() && config.auth.token_from.is_empty() {
        complaints.error(
            "auth.token_from",
            "tokens are looked for nowhere; name query, header, cookie, subprotocol or message",
        );
    }
}

fn the_cookie_has_a_name(config: &Config, complaints: &mut Complaints) {
    let name = &config.auth.cookie;
    let is_token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    if name.is_empty() || !name.bytes().all(is_token) {
        complaints.error("auth.cookie", format!("`{name}` is no name of a cookie"));
    }
}

fn origins_are_origins(config: &Config, complaints: &mut Complaints) {
    for (at, origin) in config.realtime.allowed_origins.0.iter().enumerate() {
        if matches!(origin.as_str(), "same-origin" | "*") {
            continue;
        }
        let key = format!("realtime.allowed_origins.{at}");
        let uri = origin.parse::<http::Uri>().ok().filter(|it| it.scheme().is_some() && it.authority().is_some());
        let Some(uri) = uri else {
            let message = format!("`{origin}` is no origin; write `https://app.example.com`, `same-origin` or `*`");
            complaints.error(&key, message);
            continue;
        };
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |it| it.as_str()));
        let plain = format!("{scheme}://{authority}");
        if *origin != plain {
            complaints.error(&key, format!("an origin has no path: write `{plain}`"));
        } else if authority.contains('*') {
            complaints
                .error(&key, format!("`{origin}` would match nothing: an origin is compared as a whole, list each"));
        }
    }
}

fn foreign_pages_do_not_ride_on_cookies(config: &Config, complaints: &mut Complaints) {
    let auth = &config.auth;
    let is_open = config.realtime.allowed_origins.0.iter().any(|it| it == "*");
    let by_cookie = auth.jwt.is_some() && auth.token_from.contains(&TokenFrom::Cookie) || auth.webhook;
    if is_open && by_cookie {
        let message = "with \"*\" any web page can connect as its visitor, whose browser sends the cookie along; list the \
                       origins, or take `cookie` out of `auth.token_from`";
        complaints.warning("realtime.allowed_origins", message);
    }
}

fn grants_come_from_somewhere(config: &Config, complaints: &mut Complaints) {
    if config.auth.jwt.is_some() || config.auth.webhook {
        return;
    }
    for (at, rule) in config.channels.iter().enumerate() {
        let key = format!("channels.{at}.subscribe");
        let name = &rule.pattern;
        match rule.subscribe {
            Subscribe::Grant => complaints.error(
                &key,
                format!(
                    "nobody can follow `{name}`: grants come in a token or with the connect webhook; set `auth.jwt`, \
                         `auth.webhook: true` or `subscribe: public`"
                ),
            ),
            Subscribe::User => complaints.error(
                &key,
                format!("nobody can follow `{name}`: nobody has an id without `auth.jwt` or `auth.webhook: true`"),
            ),
            Subscribe::Public | Subscribe::Webhook => {}
        }
    }
}

fn members_have_ids(config: &Config, complaints: &mut Complaints) {
    if config.auth.jwt.is_some() || config.auth.webhook {
        return;
    }
    for (at, rule) in config.channels.iter().enumerate().filter(|(_, rule)| rule.presence) {
        let message = format!(
            "nobody will be in `{}`: members have an id, and nobody has one without `auth.jwt` or `auth.webhook: true`",
            rule.pattern
        );
        complaints.warning(&format!("channels.{at}.presence"), message);
    }
}

fn rules_ask_who_can_be_asked(config: &Config, complaints: &mut Complaints) {
    let webhooks = &config.webhooks;
    let mut ask = |key: String, what: &str, event: WebhookEvent| {
        if webhooks.url.is_none() {
            complaints.error(&key, format!("{what} asks the backend, but `webhooks.url` is not set"));
        } else if !webhooks.events.contains(&event) {
            let name = format!("{event:?}").to_lowercase();
            complaints.error(&key, format!("{what} asks the backend, but `{name}` is not in `webhooks.events`"));
        }
    };
    for (at, rule) in config.channels.iter().enumerate() {
        if rule.subscribe == Subscribe::Webhook {
            ask(format!("channels.{at}.subscribe"), "`subscribe: webhook`", WebhookEvent::Subscribe);
        }
        match rule.publish {
            Publish::Webhook => ask(format!("channels.{at}.publish"), "`publish: webhook`", WebhookEvent::Publish),
            Publish::WebhookAndBroadcast => {
                ask(format!("channels.{at}.publish"), "`publish: webhook+broadcast`", WebhookEvent::Publish);
            }
            Publish::None | Publish::Broadcast => {}
        }
    }
}

fn every_rule_can_be_reached(config: &Config, complaints: &mut Complaints) {
    for (at, rule) in config.channels.iter().enumerate() {
        let later = rule.pattern.0.as_str();
        let earlier = config.channels[..at].iter().map(|it| it.pattern.0.as_str());
        if let Some(earlier) = earlier.into_iter().find(|earlier| covers(earlier, later)) {
            let message = format!(
                "this rule is never used: `{earlier}` above it matches everything that `{later}` does; move it up"
            );
            complaints.warning(&format!("channels.{at}.match"), message);
        }
    }
}

/// Whether every channel of the pattern `later` is one of `earlier` too. As a rule, `{user}` stands for anybody's id.
fn covers(earlier: &str, later: &str) -> bool {
    let mut later = later.split('.');
    for segment in earlier.split('.') {
        let Some(other) = later.next() else { return false };
        match segment {
            "**" => return true,
            "*" | "{user}" if other != "**" => {}
            literal if literal == other => {}
            _ => return false,
        }
    }
    later.next().is_none()
}

fn there_are_rules(config: &Config, complaints: &mut Complaints) {
    if config.channels.is_empty() {
        complaints.warning("channels", "there are no rules in `channels`, so nobody can follow or publish anything");
    }
}

fn the_backend_has_a_key(config: &Config, complaints: &mut Complaints) {
    if config.api.keys.is_empty() {
        complaints.warning("api.keys", "`api.keys` is empty, so the backend cannot push");
    }
}

fn api_keys_differ(config: &Config, complaints: &mut Complaints) {
    let keys = &config.api.keys;
    for (at, it) in keys.iter().enumerate() {
        let key = it.key.reveal();
        let place = |name: &str| format!("api.keys.{at}.{name}");
        if keys[..at].iter().any(|other| other.name == it.name) {
            complaints.error(&place("name"), format!("two keys are named `{}`", it.name));
        }
        if let Some(other) = keys[..at].iter().find(|other| other.key == it.key) {
            complaints.error(&place("key"), format!("`{}` has the same key; give each its own", other.name));
        }
        if key.is_empty() {
            complaints.error(&place("key"), "this key is empty");
        } else if !key.bytes().all(|it| it.is_ascii_graphic()) {
            complaints.error(&place("key"), "a key is sent in a header: ASCII only, without spaces");
        } else if key.len() < SHORT_KEY {
            complaints.warning(
                &place("key"),
                format!("this key has {} bytes and can be guessed; use {SHORT_KEY} or more", key.len()),
            );
        }
        if it.scope.is_empty() {
            complaints.error(&place("scope"), "this key opens nothing; name push, read or admin");
        }
    }
}

fn the_api_is_not_in_the_open(config: &Config, complaints: &mut Complaints) {
    let Address::Tcp(address) = &config.api.listen.0 else { return };
    if config.api.tls.is_none() && !address.ip().is_loopback() {
        let message = format!("keys travel to {address} unencrypted; add `api.tls` unless the network is yours alone");
        complaints.warning("api.listen", message);
    }
}
