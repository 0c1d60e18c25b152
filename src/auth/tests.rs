//! Tokens as attackers, identity providers and old applications write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::token::MAX_TOKEN;
use super::{Claim, Error, Identity, Named, Refused, Settings, Verifier};
use crate::channel::ChannelName;

const SECRET: &str = "a secret that is long enough for all";
/// The moment all tokens here are looked at.
pub(super) const NOW: u64 = 1_767_225_600;

pub(super) fn settings() -> Settings {
    Settings {
        secrets: vec![Named::without_kid(SECRET.into())],
        leeway: Duration::from_secs(30),
        user_claim: vec!["sub".into(), "userId".into()],
        info_claim: "info".into(),
        ..Settings::default()
    }
}

pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

async fn verify(settings: &Settings, token: &str) -> Result<Identity, Refused> {
    Verifier::with(settings, None).unwrap().verify_at(token, now()).await
}

pub(super) fn signed(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

fn hs256(claims: &Value) -> String {
    signed(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(SECRET.as_bytes()))
}

/// A token whose header and claims are any text, rightly signed with the secret.
fn raw(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

async fn refusal(claims: Value) -> Refused {
    verify(&settings(), &hs256(&claims)).await.unwrap_err()
}

fn which(refused: Refused) -> Claim {
    match refused {
        Refused::Claims { which, .. } => which,
        other => panic!("refused for another reason: {other:?}"),
    }
}

#[tokio::test]
async fn the_info_for_other_members_is_a_small_claim_that_the_backend_sees_too() {
    let claims = |info: Value| json!({ "sub": "42", "exp": NOW + 60, "info": info });
    let identity = verify(&settings(), &hs256(&claims(json!({ "name": "Ada" })))).await.unwrap();
    assert_eq!(identity.info.as_deref(), Some(r#"{"name":"Ada"}"#));
    assert_eq!(identity.claims.as_deref(), Some(r#"{"info":{"name":"Ada"}}"#));
    assert_eq!(verify(&settings(), &hs256(&claims(Value::Null))).await.unwrap().info, None);
    let refused = refusal(claims(json!("x".repeat(1023)))).await;
    assert_eq!(refused.to_string(), "the claim `info` is larger than 1024 bytes");
    assert_eq!(which(refused), Claim::Info);
}

#[tokio::test]
async fn a_token_says_who_and_what_and_leaves_the_rest_to_the_backend() {
    let token = hs256(&json!({
        "sub": "42", "exp": NOW + 60, "iat": NOW, "jti": "t-1", "channels": ["room.*"],
        "grants": {"subscribe": ["news"]}, "role": "admin", "tenant": {"id": 7}
    }));
    let identity = verify(&settings(), &token).await.unwrap();
    assert_eq!(identity.user.as_deref(), Some("42"));
    assert_eq!(identity.expires_at, Some(now() + Duration::from_secs(60)));
    assert_eq!(identity.issued_at, Some(now()));
    assert_eq!(identity.jti.as_deref(), Some("t-1"));
    assert_eq!(identity.claims.as_deref(), Some(r#"{"role":"admin","tenant":{"id":7}}"#));
    let [room, news] = ["room.5", "news"].map(|it| ChannelName::parse(it).unwrap());
    assert!(identity.grants.may_publish(&room, None) && identity.grants.may_subscribe(&room, None));
    assert!(identity.grants.may_subscribe(&news, None) && !identity.grants.may_publish(&news, None));
}

#[tokio::test]
async fn a_user_is_a_text_or_a_whole_number_from_the_first_claim_there_is() {
    for (claims, user) in [
        (json!({"exp": NOW, "sub": 42}), Some("42")),
        (json!({"exp": NOW, "userId": "u"}), Some("u")),
        (json!({"exp": NOW, "sub": "s", "userId": "u"}), Some("s")),
        (json!({"exp": NOW, "sub": null, "userId": 18446744073709551615u64}), Some("18446744073709551615")),
        (json!({"exp": NOW}), None),
    ] {
        assert_eq!(verify(&settings(), &hs256(&claims)).await.unwrap().user.as_deref(), user, "{claims}");
    }
    for bad in [json!(1.5), json!(true), json!(["42"]), json!({}), json!(""), json!("a\nb"), json!("x".repeat(201))] {
        assert_eq!(which(refusal(json!({"exp": NOW, "sub": bad})).await), Claim::User, "{bad}");
    }
}

#[tokio::test]
async fn times_count_with_the_leeway_and_an_expiry_is_required() {
    assert_eq!(refusal(json!({"exp": NOW - 31})).await, Refused::Expired);
    assert!(verify(&settings(), &hs256(&json!({"exp": NOW - 30}))).await.is_ok());
    assert!(verify(&settings(), &hs256(&json!({"exp": NOW as f64 + 0.5}))).await.is_ok());
    assert_eq!(which(refusal(json!({"sub": "42"})).await), Claim::Expiry);
    for bad in [json!("1e12"), json!(null), json!(-1), json!(1e300), json!([NOW])] {
        assert_eq!(which(refusal(json!({"exp": bad})).await), Claim::Expiry, "{bad}");
    }
    assert_eq!(which(refusal(json!({"exp": NOW + 99, "nbf": NOW + 31})).await), Claim::NotBefore);
    assert_eq!(which(refusal(json!({"exp": NOW + 99, "nbf": "soon"})).await), Claim::NotBefore);
    assert!(verify(&settings(), &hs256(&json!({"exp": NOW + 99, "nbf": NOW + 30}))).await.is_ok());
}

#[tokio::test]
async fn issuer_and_audience_are_required_once_configured() {
    let strict = Settings { issuer: vec!["us".into()], audience: vec!["a".into(), "b".into()], ..settings() };
    let check = async |iss: Value, aud: Value| {
        verify(&strict, &hs256(&json!({"exp": NOW, "iss": iss, "aud": aud}))).await.map(|_| ()).map_err(which)
    };
    assert_eq!(check(json!("us"), json!("a")).await, Ok(()));
    assert_eq!(check(json!("us"), json!(["z", "b"])).await, Ok(()));
    assert_eq!(check(json!("them"), json!("a")).await, Err(Claim::Issuer));
    assert_eq!(check(json!("us"), json!("z")).await, Err(Claim::Audience));
    assert_eq!(check(json!("us"), json!([])).await, Err(Claim::Audience));
    assert_eq!(check(json!("us"), json!({"a": 1})).await, Err(Claim::Audience));
    let without = hs256(&json!({"exp": NOW, "iss": "us"}));
    assert_eq!(which(verify(&strict, &without).await.unwrap_err()), Claim::Audience);
    assert!(verify(&settings(), &hs256(&json!({"exp": NOW, "aud": "anybody"}))).await.is_ok());
}

#[tokio::test]
async fn grants_that_cannot_be_understood_refuse_the_token() {
    for (claims, claim) in [
        (json!({"channels": ["a.**.b"]}), Claim::Channels),
        (json!({"channels": "room.*"}), Claim::Channels),
        (json!({"channels": vec!["a"; 101]}), Claim::Channels),
        (json!({"grants": {"subscribe": ["a b"]}}), Claim::Grants),
        (json!({"grants": {"presence": ["a"]}}), Claim::Grants),
        (json!({"grants": ["a"]}), Claim::Grants),
    ] {
        let mut claims = claims;
        claims["exp"] = json!(NOW);
        assert_eq!(which(refusal(claims).await), claim);
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let settings = Settings { secrets: Vec::new(), public_keys: vec![Named::without_kid(pem.clone())], ..settings() };
    let claims = json!({"exp": NOW, "sub": "42"});
    // The classic: HS256 keyed with the public key that everybody knows, as PEM or as DER.
    for key in [pem.as_bytes(), pair.public_key_raw()] {
        let forged = signed(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(key));
        assert_eq!(verify(&settings, &forged).await, Err(Refused::Signature));
    }
    let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
    for algorithm in [Algorithm::RS256, Algorithm::RS512, Algorithm::PS384] {
        assert!(verify(&settings, &signed(&Header::new(algorithm), &claims, &private)).await.is_ok());
    }
    let only_rs256 = Settings { algorithms: vec![Algorithm::RS256], ..settings };
    let ps256 = signed(&Header::new(Algorithm::PS256), &claims, &private);
    assert_eq!(verify(&only_rs256, &ps256).await, Err(Refused::Signature));
}

#[tokio::test]
async fn elliptic_curve_keys_work() {
    let (p256, ed) = (&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519);
    let [p256, ed] = [p256, ed].map(|it| rcgen::KeyPair::generate_for(it).unwrap());
    let public_keys = [&p256, &ed].map(|it| Named::without_kid(it.public_key_pem())).into();
    let settings = Settings { public_keys, ..settings() };
    let claims = json!({"exp": NOW, "sub": "42"});
    let es256 = EncodingKey::from_ec_der(p256.serialized_der());
    assert!(verify(&settings, &signed(&Header::new(Algorithm::ES256), &claims, &es256)).await.is_ok());
    let eddsa = EncodingKey::from_ed_der(ed.serialized_der());
    assert!(verify(&settings, &signed(&Header::new(Algorithm::EdDSA), &claims, &eddsa)).await.is_ok());
    assert!(verify(&settings, &hs256(&claims)).await.is_ok(), "a secret beside public keys works too");
}

#[tokio::test]
async fn unsigned_and_strangely_signed_tokens_are_refused() {
    let claims = format!(r#"{{"exp":{NOW},"sub":"42"}}"#);
    assert!(verify(&settings(), &raw(r#"{"alg":"HS256"}"#, &claims)).await.is_ok());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":""}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"["HS256"]"#,
        "",
    ] {
        assert!(matches!(verify(&settings(), &raw(header, &claims)).await, Err(Refused::Malformed(_))), "{header}");
    }
    // The header's own keys are not looked at.
    let own = r#"{"alg":"HS256","jwk":{"kty":"oct","k":"AA"},"jku":"https://evil.example/"}"#;
    let unsigned = format!("{}.{}.", BASE64.encode(own), BASE64.encode(&claims));
    assert_eq!(verify(&settings(), &unsigned).await, Err(Refused::Signature));
}

#[tokio::test]
async fn a_changed_token_is_refused() {
    let token = hs256(&json!({"exp": NOW, "sub": "42"}));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let other = BASE64.encode(format!(r#"{{"exp":{NOW},"sub":"1"}}"#));
    for changed in [
        format!("{header}.{other}.{signature}"),
        format!("{message}.{}", &signature[..signature.len() - 2]),
        format!("{message}.!!!"),
        format!("{message}."),
    ] {
        assert_eq!(verify(&settings(), &changed).await, Err(Refused::Signature), "{changed}");
    }
    for malformed in ["x", "a.b", &format!("{token}."), &format!("{token}.x"), "..", " "] {
        assert!(matches!(verify(&settings(), malformed).await, Err(Refused::Malformed(_))), "{malformed}");
    }
    assert_eq!(verify(&settings(), "").await, Err(Refused::Missing));
    let huge = "x".repeat(MAX_TOKEN + 1);
    assert_eq!(verify(&settings(), &huge).await, Err(Refused::TooLarge { limit: MAX_TOKEN }));
}

#[tokio::test]
async fn a_claim_given_twice_is_refused() {
    let twice = format!(r#"{{"exp":{NOW},"sub":"42","sub":"1"}}"#);
    let tail = format!(r#"{{"exp":{NOW}}} {{}}"#);
    for claims in [&twice, &tail, "[]", "42"] {
        let token = raw(r#"{"alg":"HS256"}"#, claims);
        assert!(matches!(verify(&settings(), &token).await, Err(Refused::Malformed(_))), "{claims}");
    }
}

#[tokio::test]
async fn a_key_id_picks_among_keys_and_is_nothing_but_a_name() {
    let named = |kid: &str, secret: &str| Named { kid: Some(kid.into()), value: secret.into() };
    let old = "another secret that is long enough 1";
    let settings = Settings { secrets: vec![named("new", SECRET), named("old", old)], ..settings() };
    let token = |kid: Option<&str>, secret: &str| {
        let header = Header { kid: kid.map(Into::into), ..Header::new(Algorithm::HS256) };
        signed(&header, &json!({"exp": NOW}), &EncodingKey::from_secret(secret.as_bytes()))
    };
    assert!(verify(&settings, &token(Some("old"), old)).await.is_ok());
    assert!(verify(&settings, &token(None, old)).await.is_ok());
    assert_eq!(verify(&settings, &token(Some("new"), old)).await, Err(Refused::Signature));
    for kid in ["../../dev/null", "", "new'; --", "https://evil.example/key"] {
        assert_eq!(verify(&settings, &token(Some(kid), SECRET)).await, Err(Refused::Signature), "{kid}");
    }
    // Secrets without names ignore what a token calls its key.
    assert!(verify(&super::tests::settings(), &token(Some("whatever"), SECRET)).await.is_ok());
}

#[test]
fn settings_without_any_key_are_an_error() {
    let nothing = Settings { secrets: Vec::new(), ..settings() };
    assert_eq!(Verifier::with(&nothing, None).unwrap_err(), Error::NoKeys);
}

#[tokio::test]
async fn an_explanation_shows_what_could_be_read() {
    let token = hs256(&json!({"exp": 1, "sub": "42"}));
    let explanation = Verifier::with(&settings(), None).unwrap().explain(&token).await;
    assert_eq!(explanation.header.as_deref(), Some(r#"{"typ":"JWT","alg":"HS256"}"#));
    assert_eq!(explanation.claims.as_deref(), Some(r#"{"exp":1,"sub":"42"}"#));
    assert_eq!(explanation.verdict, Err(Refused::Expired));
}
