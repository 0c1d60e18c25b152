//! Key sets as their servers behave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use http::{Response, Uri};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{Fetch, KeySet};
use crate::auth::tests::{NOW, now, settings, signed};
use crate::auth::{Refused, Settings, Verifier};
use crate::backend;

/// A server of key sets that answers as it is told and counts.
#[derive(Clone, Default)]
struct FakeKeyServer(Arc<Mutex<Behaviour>>);

#[derive(Default)]
struct Behaviour {
    /// What it serves; it is away without.
    body: Option<String>,
    cache_control: Option<&'static str>,
    asked: u32,
}

impl FakeKeyServer {
    fn serving(keys: &[(&str, &rcgen::KeyPair)]) -> Self {
        let server = Self::default();
        server.serve(keys);
        server
    }

    fn serve(&self, keys: &[(&str, &rcgen::KeyPair)]) {
        let keys: Vec<_> = keys
            .iter()
            .map(|(kid, pair)| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": BASE64.encode(pair.public_key_raw())}))
            .chain([json!({"kty": "of tomorrow"}), json!({"kty": "oct", "k": "AA", "kid": 7})])
            .collect();
        self.0.lock().unwrap().body = Some(json!({ "keys": keys }).to_string());
    }

    fn set(&self, body: Option<&str>) {
        self.0.lock().unwrap().body = body.map(Into::into);
    }

    fn asked(&self) -> u32 {
        self.0.lock().unwrap().asked
    }

    fn verifier(&self) -> Verifier {
        let url = Uri::from_static("https://keys.example/jwks.json");
        let key_set = KeySet::fetched_by(&url, &[], self.fetch());
        let settings = Settings { secrets: Vec::new(), ..settings() };
        Verifier::with(&settings, Some(Arc::new(key_set))).unwrap()
    }

    fn fetch(&self) -> Fetch {
        let behaviour = self.0.clone();
        Box::new(move |_| {
            let mut it = behaviour.lock().unwrap();
            it.asked += 1;
            let reply = match &it.body {
                None => Err(backend::Error::Timeout(Duration::from_secs(10))),
                Some(body) => {
                    let mut response = Response::new(Bytes::from(body.clone()));
                    if let Some(line) = it.cache_control {
                        response.headers_mut().insert("cache-control", line.parse().unwrap());
                    }
                    Ok(response)
                }
            };
            Box::pin(std::future::ready(reply))
        })
    }
}

fn pair() -> rcgen::KeyPair {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap()
}

fn token_of(kid: &str, pair: &rcgen::KeyPair) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
    signed(&header, &json!({"exp": NOW, "sub": "42"}), &EncodingKey::from_ed_der(pair.serialized_der()))
}

#[tokio::test(start_paused = true)]
async fn the_first_token_waits_for_the_key_set_and_the_next_do_not() {
    let key = pair();
    let server = FakeKeyServer::serving(&[("a", &key)]);
    let verifier = server.verifier();
    assert_eq!(server.asked(), 0, "building reaches out to nobody");
    for _ in 0..3 {
        assert!(verifier.verify_at(&token_of("a", &key), now()).await.is_ok());
    }
    assert_eq!(server.asked(), 1);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(verifier.verify_at(&token_of("a", &pair()), now()).await, Err(Refused::Signature));
    assert_eq!(server.asked(), 1, "a wrong signature by a known key asks nobody");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_for_but_not_more_often_than_every_thirty_seconds() {
    let (old, new) = (pair(), pair());
    let server = FakeKeyServer::serving(&[("old", &old)]);
    let verifier = server.verifier();
    assert!(verifier.verify_at(&token_of("old", &old), now()).await.is_ok());
    server.serve(&[("old", &old), ("new", &new)]);
    for _ in 0..10 {
        assert_eq!(verifier.verify_at(&token_of("new", &new), now()).await, Err(Refused::Signature));
    }
    assert_eq!(server.asked(), 1);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert!(verifier.verify_at(&token_of("new", &new), now()).await.is_ok());
    assert_eq!(server.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_set_is_kept_while_its_server_is_away_or_talks_nonsense() {
    let key = pair();
    let server = FakeKeyServer::serving(&[("a", &key)]);
    let verifier = server.verifier();
    assert!(verifier.verify_at(&token_of("a", &key), now()).await.is_ok());
    for trouble in [None, Some("<html>"), Some(r#"{"keys":[]}"#), Some(r#"{"keys":[{"kty":"oct","k":"AA"}]}"#)] {
        server.set(trouble);
        let before = server.asked();
        tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
        assert!(server.asked() > before, "it goes on trying");
        assert!(verifier.verify_at(&token_of("a", &key), now()).await.is_ok(), "after {trouble:?}");
        let unknown = verifier.verify_at(&token_of("b", &key), now()).await;
        assert_eq!(unknown, Err(Refused::KeysUnavailable), "after {trouble:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_set_tokens_are_refused_for_now() {
    let server = FakeKeyServer::default();
    let refused = server.verifier().verify_at(&token_of("a", &pair()), now()).await.unwrap_err();
    assert_eq!(refused, Refused::KeysUnavailable);
    assert!(refused.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn the_set_is_fetched_again_before_its_max_age_within_bounds() {
    for (cache_control, least, most) in [
        (Some("public, max-age=600"), 450, 600),
        (Some("max-age=1"), 45, 60),
        (Some("no-cache"), 45, 60),
        (None, 2700, 3600),
        (Some("max-age=99999999"), 64_800, 86_400),
    ] {
        let key = pair();
        let server = FakeKeyServer::serving(&[("a", &key)]);
        server.0.lock().unwrap().cache_control = cache_control;
        let verifier = server.verifier();
        assert!(verifier.verify_at(&token_of("a", &key), now()).await.is_ok());
        tokio::time::sleep(Duration::from_secs(least - 1)).await;
        assert_eq!(server.asked(), 1, "{cache_control:?}");
        tokio::time::sleep(Duration::from_secs(most - least + 1)).await;
        assert_eq!(server.asked(), 2, "{cache_control:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fetching_ends_with_the_last_verifier() {
    let server = FakeKeyServer::serving(&[("a", &pair())]);
    let verifier = server.verifier();
    verifier.start();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.asked(), 1);
    drop(verifier);
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;
    assert_eq!(server.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_goes_on_with_the_same_set_and_only_with_that() {
    let server = FakeKeyServer::serving(&[("a", &pair())]);
    let url = |text| Uri::from_static(text);
    let follow = |url, known| KeySet::follow(&url, &[], known, || server.fetch());
    let first = follow(url("https://keys.example/a"), None).unwrap();
    let same = follow(url("https://keys.example/a"), Some(&first)).unwrap();
    let other = follow(url("https://keys.example/b"), Some(&first)).unwrap();
    assert!(Arc::ptr_eq(&first, &same) && !Arc::ptr_eq(&first, &other));
}

#[test]
fn keys_are_believed_from_https_and_from_this_machine_alone() {
    let follow = |text| KeySet::follow(&Uri::from_static(text), &[], None, || FakeKeyServer::default().fetch());
    for good in ["https://keys.example/", "http://127.0.0.1:1/", "http://localhost/", "http://[::1]:80/"] {
        assert!(follow(good).is_some(), "{good}");
    }
    for bad in ["http://keys.example/", "http://localhost.evil.example/", "/jwks.json", "ftp://keys.example/"] {
        assert!(follow(bad).is_none(), "{bad}");
    }
}
