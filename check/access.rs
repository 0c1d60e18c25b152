//! Who gets in, who asks whom, and with which secret.

use super::Check;
use super::shadow::covers;
use crate::config::{Publish, Secret, Subscribe, TokenFrom, WebhookEvent};

/// RFC 7518, section 3.2: a key for HS256 has at least the size of its hash.
const SHORTEST_HMAC_SECRET: usize = 32;

impl Check<'_> {
    pub(super) fn access(&mut self) {
        self.of(&["auth"], Self::jwt);
        self.of(&["auth"], Self::some_way_in);
        self.of(&["auth", "realtime"], Self::foreign_pages);
        self.of(&["auth", "webhooks"], Self::connect_webhook);
        self.of(&["channels"], Self::shadowed_rules);
        self.of(&["channels", "webhooks"], Self::asking_rules);
        self.of(&["channels", "auth"], Self::grants);
        self.of(&["webhooks"], Self::webhooks);
        self.of(&["api"], Self::api_keys);
    }

    fn jwt(&mut self) {
        let Some(jwt) = &self.config.auth.jwt else { return };
        if jwt.secret.0.is_empty() && jwt.public_key.0.is_empty() && jwt.jwks.is_none() {
            self.error("auth.jwt", "nothing to check tokens with: give `secret`, `public_key` or `jwks`");
        }
        if jwt.jwks.as_ref().is_some_and(|it| !is_absolute(&it.0)) {
            self.error("auth.jwt.jwks", "a key set is fetched from a whole URL such as `https://login.example.com/jwks.json`");
        }
        for (index, secret) in jwt.secret.0.iter().enumerate() {
            let length = text(secret).len();
            if length < SHORTEST_HMAC_SECRET {
                let message = format!("a secret of {length} bytes can be guessed; use {SHORTEST_HMAC_SECRET} random bytes or more");
                self.warning(&format!("auth.jwt.secret.{index}"), message);
            }
        }
    }

    fn some_way_in(&mut self) {
        let auth = &self.config.auth;
        if !auth.anonymous && auth.jwt.is_none() && !auth.webhook {
            self.warning("auth", "no client can connect: set `auth.jwt`, `auth.webhook` or `auth.anonymous`");
        }
    }

    fn foreign_pages(&mut self) {
        let auth = &self.config.auth;
        let takes_cookies = auth.webhook || auth.jwt.is_some() && auth.token_from.contains(&TokenFrom::Cookie);
        let origins = &self.config.realtime.allowed_origins.0;
        let everywhere = origins.iter().position(|it| it == "*");
        if let Some(index) = everywhere.filter(|_| takes_cookies) {
            let advice = "name the origins, or take `cookie` out of `auth.token_from` and leave `auth.webhook` off";
            let message = format!("any page may connect with its visitor's cookies: {advice}");
            self.warning(&format!("realtime.allowed_origins.{index}"), message);
        }
    }

    fn connect_webhook(&mut self) {
        if !self.config.auth.webhook {
            return;
        }
        if self.config.webhooks.url.is_none() {
            self.error("auth.webhook", "the backend is to be asked, but there is no `webhooks.url`");
        } else if !self.asks(WebhookEvent::Connect) {
            self.error("auth.webhook", "the backend is to be asked, but `webhooks.events` has no `connect`");
        }
    }

    fn asks(&self, event: WebhookEvent) -> bool {
        self.config.webhooks.events.contains(&event)
    }

    fn shadowed_rules(&mut self) {
        let rules = &self.config.channels;
        for (index, rule) in rules.iter().enumerate() {
            let pattern = rule.pattern.0.as_str();
            if let Some(earlier) = rules[..index].iter().find(|it| covers(it.pattern.0.as_str(), pattern)) {
                let message = format!("this rule is never used: `{}` comes first and matches as well", earlier.pattern);
                self.warning(&format!("channels.{index}.match"), message);
            }
        }
    }

    fn asking_rules(&mut self) {
        for (index, rule) in self.config.channels.iter().enumerate() {
            let subscribes = rule.subscribe == Subscribe::Webhook;
            let publishes = matches!(rule.publish, Publish::Webhook | Publish::WebhookAndBroadcast);
            let asked = [
                ("subscribe", WebhookEvent::Subscribe, subscribes),
                ("publish", WebhookEvent::Publish, publishes),
            ];
            for (key, event, _) in asked.into_iter().filter(|(_, _, is_asked)| *is_asked) {
                let at = format!("channels.{index}.{key}");
                if self.config.webhooks.url.is_none() {
                    self.error(&at, "the backend is to be asked, but there is no `webhooks.url`");
                } else if !self.asks(event) {
                    self.error(&at, format!("the backend is to be asked, but `webhooks.events` has no `{key}`"));
                }
            }
        }
    }

    fn grants(&mut self) {
        let auth = &self.config.auth;
        if auth.jwt.is_some() || auth.webhook {
            return;
        }
        for (index, rule) in self.config.channels.iter().enumerate() {
            if rule.subscribe == Subscribe::Grant {
                let at = format!("channels.{index}");
                let at = if self.is_written(index, "subscribe") { format!("{at}.subscribe") } else { format!("{at}.match") };
                self.warning(&at, "nobody can be granted this: grants come from `auth.jwt` or `auth.webhook`");
            }
        }
    }

    fn is_written(&self, rule: usize, key: &str) -> bool {
        let place = |key: &str| self.tree.place_of(&format!("channels.{rule}{key}"));
        place(&format!(".{key}")) != place("")
    }

    fn webhooks(&mut self) {
        let webhooks = &self.config.webhooks;
        let Some(url) = &webhooks.url else { return };
        let is_path = url.0.scheme().is_none() && url.0.authority().is_none() && url.0.path().starts_with('/');
        if !is_path && !is_absolute(&url.0) {
            self.error("webhooks.url", format!("`{url}` is neither a path such as `/webhooks/realtime` nor a whole URL"));
        }
        if webhooks.secret.0.is_empty() {
            self.error("webhooks.url", "questions are signed, but there is no `webhooks.secret`");
        }
        for (index, secret) in webhooks.secret.0.iter().enumerate() {
            if !text(secret).starts_with("whsec_") {
                let message = "a secret that does not begin with `whsec_`: verifier libraries decode what follows it as base64";
                self.warning(&format!("webhooks.secret.{index}"), message);
            }
        }
    }

    fn api_keys(&mut self) {
        let keys = &self.config.api.keys;
        if keys.is_empty() {
            self.warning("api.keys", "nobody can push: `api.keys` is empty");
        }
        for (index, key) in keys.iter().enumerate() {
            let before = &keys[..index];
            if before.iter().any(|it| it.name == key.name) {
                self.error(&format!("api.keys.{index}.name"), format!("another key is called `{}` already", key.name));
            }
            if let Some(same) = before.iter().find(|it| it.key == key.key) {
                self.error(&format!("api.keys.{index}.key"), format!("this is the key of `{}`, too", same.name));
            }
            if key.scope.is_empty() {
                self.error(&format!("api.keys.{index}.scope"), "a key for nothing: give it `push`, `read` or `admin`");
            }
        }
    }
}

fn is_absolute(url: &http::Uri) -> bool {
    matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|it| !it.is_empty())
}

/// Secrets in files have been read by now, or are a problem already.
fn text(secret: &Secret) -> &str {
    match secret {
        Secret::Text(text) => text,
        Secret::File(_) => "whsec_ that could not be read at all",
    }
}
