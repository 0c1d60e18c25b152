//! Questions to the backend.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Check, Complaints};
use crate::config::sections::{Config, WebhookEvent};

pub(super) const CHECKS: &[Check] = &[
    Check { reads: &["realtime.path"], each: &[], run: the_path_is_one },
    Check { reads: &["webhooks.url", "realtime.path"], each: &[], run: the_url_leads_to_the_backend },
    Check { reads: &["webhooks.url", "webhooks.secret"], each: &[], run: questions_are_signed },
    Check { reads: &["webhooks.secret"], each: &[], run: secrets_can_be_decoded },
    Check { reads: &["auth.webhook", "webhooks"], each: &[], run: clients_are_asked_about },
];

fn the_path_is_one(config: &Config, complaints: &mut Complaints) {
    let path = &config.realtime.path;
    if !path.starts_with('/') || path.len() < 2 || path.ends_with('/') || path.contains(['?', '#', ' ']) {
        complaints.error("realtime.path", format!("`{path}` is no path such as `/realtime`"));
    }
}

fn the_url_leads_to_the_backend(config: &Config, complaints: &mut Complaints) {
    let path = &config.realtime.path;
    let Some(url) = config.webhooks.url.as_ref().map(|it| &it.0) else { return };
    match url.scheme_str() {
        Some("http" | "https") => {}
        None if url.path().starts_with('/') && url.authority().is_none() => {
            let under = url.path().strip_prefix(path.as_str());
            if url.path() == "/" {
                complaints.error(
                    "webhooks.url",
                    "the public listeners answer this path with 404: `/` is the whole front page",
                );
            } else if under.is_some_and(|it| it.is_empty() || it.starts_with('/')) {
                complaints.error(
                    "webhooks.url",
                    format!("everything under `{path}` is answered here and never reaches the backend"),
                );
            }
        }
        _ => complaints.error("webhooks.url", "expected a path such as `/webhooks/realtime`, or http(s)://HOST/PATH"),
    }
}

fn questions_are_signed(config: &Config, complaints: &mut Complaints) {
    if config.webhooks.url.is_some() && config.webhooks.secret.0.is_empty() {
        let message = "`webhooks.secret` is missing: the backend could not tell our questions from anybody's";
        complaints.error("webhooks.secret", message);
    }
}

fn secrets_can_be_decoded(config: &Config, complaints: &mut Complaints) {
    for (at, secret) in config.webhooks.secret.0.iter().enumerate() {
        let (key, secret) = (format!("webhooks.secret.{at}"), secret.reveal());
        let decoded = secret.strip_prefix("whsec_").map(|it| BASE64_STANDARD.decode(it));
        let length = match &decoded {
            Some(Ok(bytes)) => bytes.len(),
            Some(Err(_)) => {
                complaints.error(&key, "what follows `whsec_` is not base64");
                continue;
            }
            None => secret.len(),
        };
        if length == 0 {
            complaints.error(&key, "this secret is empty");
        } else if length < 24 {
            let message = format!("this secret has {length} bytes and can be guessed; the scheme asks for 24 to 64");
            complaints.warning(&key, message);
        }
    }
}

fn clients_are_asked_about(config: &Config, complaints: &mut Complaints) {
    let webhooks = &config.webhooks;
    if !config.auth.webhook {
        return;
    }
    if webhooks.url.is_none() {
        complaints.error("auth.webhook", "this asks the backend, but `webhooks.url` is not set");
    } else if !webhooks.events.contains(&WebhookEvent::Connect) {
        complaints.error("auth.webhook", "this asks the backend, but `connect` is not in `webhooks.events`");
    }
}
