use super::*;
use crate::channel::ConnectionId;
use crate::webhook::Target;

const LIMITS: Limits = Limits { data: 64, state: 32 };

fn parse(body: &str) -> Result<Verdict, Invalid> {
    Verdict::parse(body.as_bytes(), "msg_1", LIMITS)
}

fn field(body: &str) -> String {
    parse(body).expect_err(body).field.into_owned()
}

fn json(text: &'static str) -> Data {
    Data::Json(Bytes::from_static(text.as_bytes()))
}

#[test]
fn every_part_of_a_verdict_is_understood() {
    let verdict = parse(
        r#"{"action":"allow","data":{"text":"hi"},"reply":{"n":1},
            "push":[{"channel":"room.5","data":{"a":1}},
                    {"user":42,"data":[1],"event":"mail","id":"mine","subject":"7"},
                    {"connection":"0000000100000000000000000000002a","data_base64":"AAE="},
                    {"channels":["a","b"],"event":"ping","exclude":["2a"]}],
            "state":{"step":2},"subscribe":["a","b"],"unsubscribe":["c"],"userId":"42","claims":{"role":"x"},
            "channels":["room.*"],"expiresAt":1767225600123,"ttl":60,
            "disconnect":{"code":4403,"reason":"bye"},"error":{"code":"no","message":"not you"}}"#,
    )
    .unwrap();
    assert_eq!(verdict.action, Action::Allow);
    assert_eq!(verdict.data, Some(json(r#"{"text":"hi"}"#)));
    assert_eq!(verdict.reply.as_deref(), Some(br#"{"n":1}"# as &[u8]));
    assert_eq!(verdict.state.as_deref(), Some(r#"{"step":2}"#));
    assert_eq!(verdict.subscribe.iter().map(ChannelName::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(verdict.unsubscribe.len(), 1);
    assert_eq!(verdict.user.as_deref(), Some("42"));
    assert_eq!(verdict.claims.as_deref(), Some(r#"{"role":"x"}"#));
    assert!(verdict.grants.as_ref().unwrap().may_publish(&ChannelName::parse("room.1").unwrap(), None));
    assert_eq!(verdict.expires_at, Some(UNIX_EPOCH + Duration::from_millis(1_767_225_600_123)));
    assert_eq!(verdict.ttl, Some(Duration::from_secs(60)));
    assert_eq!(verdict.disconnect, Some(Disconnect { code: 4403, reason: "bye".into() }));
    assert_eq!(verdict.error, Some(Refusal::new("no", "not you")));
    assert!(verdict.refusal().is_none() && !verdict.is_plain());
}

#[test]
fn pushes_take_the_questions_id_and_their_index_unless_they_have_their_own() {
    let verdict = parse(
        r#"{"push":[{"channel":"room.5","data":{"a":1}},{"user":42,"data":[1],"event":"mail","id":"mine"},
            {"connection":"0000000100000000000000000000002a","data_base64":"AAE="},
            {"channels":["a","b"],"event":"ping","exclude":["2a"]}]}"#,
    )
    .unwrap();
    let [first, second, third, fourth] = &verdict.push[..] else { panic!("{verdict:?}") };
    assert_eq!((&*first.id, &*second.id, &*third.id, &*fourth.id), ("msg_1-0", "mine", "msg_1-2", "msg_1-3"));
    assert_eq!(first.to, Target::Channels(vec![ChannelName::parse("room.5").unwrap()]));
    assert_eq!((&second.to, second.event.as_deref()), (&Target::User("42".into()), Some("mail")));
    assert_eq!(third.to, Target::Connection(ConnectionId((1 << 96) + 0x2a)));
    assert_eq!(third.data, Data::Binary(Bytes::from_static(&[0, 1])));
    assert_eq!((&fourth.data, fourth.exclude.len()), (&json("null"), 1));
}

#[test]
fn nothing_and_nulls_allow() {
    for body in ["", " \n", "{}", r#"{"action":null,"data":null,"push":null,"error":null}"#, r#"{"later":"x"}"#] {
        let verdict = parse(body).expect(body);
        assert!(verdict.action == Action::Allow && verdict.data.is_none() && verdict.is_plain(), "{body}");
    }
}

#[test]
fn a_rejection_always_has_something_to_say() {
    assert_eq!(parse(r#"{"action":"reject"}"#).unwrap().refusal(), Some(Refusal::default()));
    let only_message = parse(r#"{"action":"reject","error":{"message":"too late"}}"#).unwrap();
    assert_eq!(only_message.refusal(), Some(Refusal::new("rejected", "too late")));
    let long = parse(&format!(r#"{{"action":"reject","error":{{"message":"{}"}}}}"#, "ü".repeat(400))).unwrap();
    assert_eq!(long.refusal().unwrap().message.len(), 500);
}

#[test]
fn a_verdict_revises_who_the_client_is_only_where_it_says_so() {
    let token = Identity { user: Some("42".into()), jti: Some("t".into()), ..Identity::default() };
    let mut identity = token.clone();
    parse(r#"{"data":1}"#).unwrap().revise(&mut identity);
    assert_eq!(identity, token);
    parse(r#"{"userId":"7","claims":{},"info":{"name":"Ada"},"channels":["a"],"expiresAt":1}"#)
        .unwrap()
        .revise(&mut identity);
    assert_eq!((identity.user.as_deref(), identity.claims.as_deref()), (Some("7"), Some("{}")));
    assert_eq!((identity.expires_at, identity.jti), (Some(UNIX_EPOCH + Duration::from_secs(1)), token.jti));
    assert_eq!(identity.info.as_deref(), Some(r#"{"name":"Ada"}"#));
    assert!(identity.grants.may_subscribe(&ChannelName::parse("a").unwrap(), None));
}

#[test]
fn pretty_printed_data_fits_one_line_and_strings_keep_their_escapes() {
    let verdict = parse("{\"data\": {\r\n  \"a\": \"x\\ny\"\n}}").unwrap();
    assert_eq!(verdict.data, Some(json("{    \"a\": \"x\\ny\" }")));
}

#[test]
fn a_time_in_seconds_is_one_too() {
    let expiry = |number: &str| parse(&format!(r#"{{"expiresAt":{number}}}"#)).unwrap().expires_at.unwrap();
    assert_eq!(expiry("1767225600"), expiry("1767225600000"));
}

#[test]
fn one_wrong_field_spoils_the_whole_reply_and_is_named() {
    for (body, name) in [
        ("[]", "body"),
        ("null", "body"),
        ("OK", "body"),
        (r#"{"action":"allow"} x"#, "body"),
        (r#"{"action":"allow","action":"reject"}"#, "body"),
        (r#"{"action":"deny"}"#, "action"),
        (r#"{"action":true}"#, "action"),
        (r#"{"data":1,"data_base64":"AA=="}"#, "data_base64"),
        (r#"{"data_base64":"%"}"#, "data_base64"),
        (r#"{"push":{}}"#, "push"),
        (r#"{"push":["a"]}"#, "push"),
        (r#"{"push":[{"channel":"a"},{"channel":"a b"}]}"#, "push[1].channel"),
        (r#"{"push":[{"data":1}]}"#, "push[0].channel"),
        (r#"{"push":[{"channel":"a","user":"b"}]}"#, "push[0].channel"),
        (r#"{"push":[{"channel":7}]}"#, "push[0].channel"),
        (r#"{"push":[{"channels":[]}]}"#, "push[0].channels"),
        (r#"{"push":[{"user":""}]}"#, "push[0].user"),
        (r#"{"push":[{"connection":"xyz"}]}"#, "push[0].connection"),
        (r#"{"push":[{"channel":"a","event":""}]}"#, "push[0].event"),
        (r#"{"push":[{"channel":"a","id":5}]}"#, "push[0].id"),
        (r#"{"push":[{"channel":"a","exclude":["?"]}]}"#, "push[0].exclude"),
        (r#"{"state":"a text that is too long to be a state"}"#, "state"),
        (r#"{"subscribe":"a"}"#, "subscribe"),
        (r#"{"subscribe":["a","b c"]}"#, "subscribe[1]"),
        (r#"{"unsubscribe":[1]}"#, "unsubscribe"),
        (r#"{"userId":""}"#, "userId"),
        (r#"{"userId":1.5}"#, "userId"),
        (r#"{"claims":"x"}"#, "claims"),
        (r#"{"claims":[]}"#, "claims"),
        (r#"{"channels":["a-*"]}"#, "channels"),
        (r#"{"expiresAt":"tomorrow"}"#, "expiresAt"),
        (r#"{"expiresAt":-1}"#, "expiresAt"),
        (r#"{"expiresAt":1e300}"#, "expiresAt"),
        (r#"{"ttl":-1}"#, "ttl"),
        (r#"{"ttl":"60"}"#, "ttl"),
        (r#"{"disconnect":{}}"#, "disconnect"),
        (r#"{"disconnect":{"code":1006}}"#, "disconnect.code"),
        (r#"{"disconnect":{"code":5000}}"#, "disconnect.code"),
        (r#"{"error":"no"}"#, "error"),
    ] {
        assert_eq!(field(body), name, "{body}");
    }
    assert_eq!(field(&format!(r#"{{"data":"{}"}}"#, "x".repeat(63))), "data");
    assert_eq!(field(&format!(r#"{{"info":"{}"}}"#, "x".repeat(1023))), "info");
    assert_eq!(field(&format!(r#"{{"reply":"{}"}}"#, "x".repeat(63))), "reply");
    assert_eq!(field(&format!(r#"{{"push":[{{"channel":"a","data":"{}"}}]}}"#, "x".repeat(63))), "push[0].data");
    assert_eq!(
        field(&format!(r#"{{"disconnect":{{"code":1000,"reason":"{}"}}}}"#, "x".repeat(124))),
        "disconnect.reason"
    );
    assert_eq!(field(&format!(r#"{{"subscribe":[{}"a"]}}"#, r#""a","#.repeat(1000))), "subscribe");
}

#[test]
fn a_complaint_does_not_repeat_what_was_sent() {
    let complaint = parse(r#"{"userId":{"password":"hunter2"}}"#).unwrap_err().to_string();
    assert_eq!(complaint, "`userId` is neither a usable text nor a whole number");
}
