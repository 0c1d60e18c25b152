//! Who is there: members by user, told to the subscribers of a channel whose rule has presence.

use http::Request;
use http_body_util::Full;
use outrigger::auth;
use serde_json::{Value, json};

use crate::support::app::{TestApp, TestClient, json_of, settings, token};
use crate::support::backend::Reply;
use crate::support::client;
use crate::support::events::Events;

const ROOMS: &str = "channels:
  - { match: 'room.*', subscribe: public, publish: broadcast, presence: true, history: { size: 100, ttl: 10m } }
  - { match: 'plain.*', subscribe: public }
";

fn users(message: &Value) -> Vec<&str> {
    message["members"].as_array().expect("members").iter().map(|it| it["userId"].as_str().unwrap()).collect()
}

/// The next message is of this kind and about this user.
async fn expect(client: &mut TestClient, kind: &str, user: &str) -> Value {
    let message = client.expect(kind).await;
    assert_eq!((&message["channel"], &message["userId"]), (&json!("room.5"), &json!(user)), "{message}");
    message
}

/// Comes into the room and hears of its own coming, in whichever order the two are said.
async fn enter(app: &TestApp, user: &str) -> (TestClient, Value) {
    let mut client = app.client(user, &[]).await;
    let subscribed = client.subscribe("room.5").await;
    assert!(users(&subscribed).contains(&user), "{subscribed}");
    expect(&mut client, "joined", user).await;
    (client, subscribed)
}

#[tokio::test]
async fn two_users_see_each_other_come_and_go() {
    let app = TestApp::with(ROOMS).await;
    let (mut ada, subscribed) = enter(&app, "ada").await;
    assert_eq!(users(&subscribed), ["ada"]);
    let (bob, subscribed) = enter(&app, "bob").await;
    assert_eq!(users(&subscribed), ["ada", "bob"]);
    expect(&mut ada, "joined", "bob").await;
    drop(bob);
    expect(&mut ada, "left", "bob").await;
    ada.send(json!({ "type": "unsubscribe", "channel": "room.5" })).await;
    ada.expect("unsubscribed").await;
    let (_, answer) = app.call("GET", "/channels/room.5/members", Value::Null).await;
    assert_eq!((&answer["members"], &answer["total"]), (&json!([]), &json!(0)));
}

#[tokio::test]
async fn a_user_with_two_tabs_is_one_member_until_the_last_is_closed() {
    let app = TestApp::with(ROOMS).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let (first, _) = enter(&app, "bob").await;
    expect(&mut ada, "joined", "bob").await;
    let mut second = app.client("bob", &[]).await;
    assert_eq!(users(&second.subscribe("room.5").await), ["ada", "bob"]);
    drop(first);
    // Nothing is said of the second tab, nor of the first: what comes next is about somebody else.
    let (_carl, _) = enter(&app, "carl").await;
    expect(&mut ada, "joined", "carl").await;
    drop(second);
    expect(&mut ada, "left", "bob").await;
}

#[tokio::test]
async fn whoever_has_no_id_sees_who_is_there_and_is_not_seen() {
    let auth = "auth: { anonymous: true, jwt: { secret: 'a secret of the tests, thirty-two bytes' } }";
    let app = TestApp::with(&format!("{ROOMS}{auth}")).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let mut nobody = app.socket("").await;
    nobody.expect("connected").await;
    assert_eq!(users(&nobody.subscribe("room.5").await), ["ada"]);
    let (_bob, subscribed) = enter(&app, "bob").await;
    assert_eq!(users(&subscribed), ["ada", "bob"]);
    for client in [&mut ada, &mut nobody] {
        expect(client, "joined", "bob").await;
    }
}

#[tokio::test]
async fn subscribing_again_makes_nobody_leave() {
    let app = TestApp::with(ROOMS).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let (mut bob, _) = enter(&app, "bob").await;
    expect(&mut ada, "joined", "bob").await;
    assert_eq!(users(&bob.subscribe("room.5").await), ["ada", "bob"]);
    bob.send(json!({ "type": "refresh", "token": token("bob", &[]) })).await;
    bob.expect("refreshed").await;
    // Whatever was said of Bob would be said before this.
    let _carl = enter(&app, "carl").await;
    expect(&mut ada, "joined", "carl").await;
}

#[tokio::test]
async fn event_streams_and_polls_are_members_and_hear_of_members() {
    let app = TestApp::with(ROOMS).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let path = format!("/realtime/sse?channels=room.5&token={}", token("stream", &[]));
    let mut stream = Events::open(app.public(), &path, &[]).await;
    stream.expect("connected").await;
    assert_eq!(users(&stream.expect("subscribed").await.data), ["ada", "stream"]);
    assert_eq!(stream.expect("joined").await.data["userId"], "stream");
    expect(&mut ada, "joined", "stream").await;

    let first = app.poll(&format!("channels=room.5&token={}", token("poll", &[]))).await;
    let subscribed = first["messages"].as_array().unwrap().iter().find(|it| it["type"] == "subscribed").unwrap();
    assert_eq!(users(subscribed), ["ada", "poll", "stream"]);
    expect(&mut ada, "joined", "poll").await;
    let joined = stream.expect("joined").await;
    assert_eq!((joined.name.as_str(), &joined.data["userId"]), ("joined", &json!("poll")));

    // The poll's session goes on between two polls, and nothing is lost meanwhile.
    drop(stream);
    expect(&mut ada, "left", "stream").await;
    let mut heard: Vec<(String, String)> = Vec::new();
    let mut cursor = first["cursor"].as_str().unwrap().to_owned();
    while !heard.iter().any(|it| it.0 == "left") {
        let answer = app.poll(&format!("cursor={cursor}")).await;
        let said = |it: &Value| (it["type"].as_str().unwrap().to_owned(), it["userId"].as_str().unwrap().to_owned());
        heard.extend(answer["messages"].as_array().unwrap().iter().map(said));
        cursor = answer["cursor"].as_str().unwrap().to_owned();
    }
    assert_eq!(heard.last(), Some(&("left".into(), "stream".into())), "{heard:?}");
    app.publish("room.5", json!(1)).await;
    ada.expect_push("room.5", 1).await;
}

#[tokio::test]
async fn a_subscriber_may_ask_who_is_there_in_json_by_post_and_in_messagepack() {
    let app = TestApp::with(ROOMS).await;
    let (mut ada, _) = enter(&app, "ada").await;
    ada.send(json!({ "type": "presence", "channel": "room.5", "ref": 7 })).await;
    let answer = ada.expect("presence").await;
    assert_eq!((users(&answer), &answer["total"], &answer["ref"]), (vec!["ada"], &json!(1), &json!(7)));
    ada.send(json!({ "type": "presence", "channel": "room.5", "limit": 0 })).await;
    let answer = ada.expect("presence").await;
    assert_eq!((users(&answer).len(), &answer["total"]), (0, &json!(1)));

    ada.send(json!({ "type": "presence", "channel": "room.6" })).await;
    assert_eq!(ada.expect("error").await["code"], "not_subscribed");
    assert!(ada.subscribe("plain.a").await["members"].is_null());
    ada.send(json!({ "type": "presence", "channel": "plain.a" })).await;
    assert_eq!(ada.expect("error").await["code"], "not_allowed");

    let path = format!("/realtime/sse?channels=room.5&token={}", token("bob", &[]));
    let mut stream = Events::open(app.public(), &path, &[]).await;
    let connected = stream.expect("connected").await.data;
    let (id, secret) = (connected["connectionId"].as_str().unwrap(), connected["secret"].as_str().unwrap());
    let request = Request::post(format!("/realtime/connections/{id}/presence"))
        .header("host", "app.test")
        .header("authorization", format!("Bearer {secret}"))
        .body(Full::<bytes::Bytes>::from(r#"{"channel":"room.5"}"#))
        .unwrap();
    let answer = json_of(client::send(app.public(), request).await).await;
    assert_eq!((&answer["type"], users(&answer)), (&json!("presence"), vec!["ada", "bob"]));
    expect(&mut ada, "joined", "bob").await;

    let mut packed = packed(&app, "carl").await;
    let field = |name: &str, value: rmpv::Value| (rmpv::Value::from(name), value);
    packed
        .send_packed(&rmpv::Value::Map(vec![field("type", "subscribe".into()), field("channel", "room.5".into())]))
        .await;
    let subscribed = packed.next_packed().await;
    assert_eq!(subscribed["members"].as_array().unwrap().len(), 3);
    assert_eq!(packed.next_packed().await["userId"].as_str(), Some("carl"));
    packed
        .send_packed(&rmpv::Value::Map(vec![field("type", "presence".into()), field("channel", "room.5".into())]))
        .await;
    let answer = packed.next_packed().await;
    assert_eq!((answer["type"].as_str(), answer["total"].as_u64()), (Some("presence"), Some(3)));
    expect(&mut ada, "joined", "carl").await;
}

async fn packed(app: &TestApp, user: &str) -> TestClient {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let url = format!("ws://{}/realtime?token={}", app.public(), token(user, &[]));
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "outrigger.v1.msgpack".parse().unwrap());
    let mut client = TestClient::open(app.public(), request).await;
    assert_eq!(client.next_packed().await["type"].as_str(), Some("connected"));
    client
}

#[tokio::test]
async fn info_comes_with_the_connect_verdict_and_is_shown_to_the_others() {
    let asked = "auth: { webhook: true, jwt: { secret: 'a secret of the tests, thirty-two bytes' } }
webhooks: { url: /hooks, secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, events: [connect] }";
    let app = TestApp::with(&format!("{ROOMS}{asked}")).await;
    let (mut ada, _) = enter(&app, "ada").await;
    app.backend.on("/hooks", |_| Reply::json(200, json!({ "userId": "bob", "info": { "name": "Bob" } })));
    let mut bob = app.socket("").await;
    bob.expect("connected").await;
    let subscribed = bob.subscribe("room.5").await;
    assert_eq!(subscribed["members"][1], json!({ "userId": "bob", "info": { "name": "Bob" } }));
    assert_eq!(expect(&mut ada, "joined", "bob").await["info"], json!({ "name": "Bob" }));
    let (_, answer) = app.call("GET", "/channels/room.5/members?limit=1", Value::Null).await;
    let expected = json!({ "channel": "room.5", "presence": true, "members": [{ "userId": "ada" }], "total": 2, "truncated": true });
    assert_eq!(answer, expected);
}

/// A token with info, for an hour.
fn token_with(user: &str, info: Value) -> String {
    let settings = auth::Settings {
        secrets: vec![auth::Named::without_kid(settings::JWT_SECRET.into())],
        user_claim: vec!["sub".into()],
        ..auth::Settings::default()
    };
    let what = auth::ToSign {
        user: Some(user.into()),
        ttl: std::time::Duration::from_secs(3600),
        claims: json!({ "info": info }).as_object().cloned().unwrap(),
        ..auth::ToSign::default()
    };
    auth::Signer::build(&settings).unwrap().sign(&what)
}

#[tokio::test]
async fn the_info_of_a_refreshed_token_is_told_with_the_next_subscribe() {
    let app = TestApp::with(ROOMS).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let mut bob = app.socket(&format!("?token={}", token_with("bob", json!("away")))).await;
    bob.expect("connected").await;
    bob.subscribe("room.5").await;
    expect(&mut bob, "joined", "bob").await;
    assert_eq!(expect(&mut ada, "joined", "bob").await["info"], "away");
    bob.send(json!({ "type": "refresh", "token": token_with("bob", json!("here")) })).await;
    bob.expect("refreshed").await;
    bob.subscribe("room.5").await;
    assert_eq!(expect(&mut ada, "joined", "bob").await["info"], "here");
}

#[tokio::test]
async fn a_drain_leaves_nobody_behind() {
    let app = TestApp::with(ROOMS).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let _poll = app.poll(&format!("channels=room.5&token={}", token("poll", &[]))).await;
    expect(&mut ada, "joined", "poll").await;
    let hub = app.app.hub().clone();
    let drained = tokio::spawn(app.app.drain());
    while ada.next_or_close().await.is_ok() {}
    drop(ada);
    assert!(crate::support::soon("the drain", drained).await.unwrap().is_none());
    let room = outrigger::channel::ChannelName::parse("room.5").unwrap();
    assert_eq!(hub.members(&room, 10).await.unwrap().total, 0);
}

#[tokio::test]
async fn a_crowd_is_told_its_number_and_named_again_once_it_is_small() {
    let rooms = "channels: [ { match: 'room.*', subscribe: public, presence: true, max_members: 2 } ]\n";
    let app = TestApp::with(rooms).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let (_bob, _) = enter(&app, "bob").await;
    expect(&mut ada, "joined", "bob").await;
    let mut carl = app.client("carl", &[]).await;
    let subscribed = carl.subscribe("room.5").await;
    assert_eq!((&subscribed["members"], &subscribed["membersTotal"]), (&Value::Null, &json!(3)));
    assert_eq!(ada.expect("members").await, json!({ "type": "members", "channel": "room.5", "total": 3 }));
    drop(carl);
    let listed = ada.expect("members").await;
    assert_eq!((users(&listed), &listed["total"]), (vec!["ada", "bob"], &json!(2)));
}

#[tokio::test]
async fn a_reader_without_room_for_the_changes_gets_the_whole_list_again() {
    let rooms = "channels: [ { match: 'room.*', subscribe: public, presence: true, when_slow: drop_oldest } ]
realtime: { outbox: 4KiB, max_publication: 1KiB }
";
    let app = TestApp::with(rooms).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let first = app.poll(&format!("channels=room.5&token={}", token("poll", &[]))).await;
    expect(&mut ada, "joined", "poll").await;
    let mut others = Vec::new();
    for at in 0..8 {
        let user = format!("user{at}");
        let mut other = app.socket(&format!("?token={}", token_with(&user, json!("x".repeat(1000))))).await;
        other.expect("connected").await;
        other.subscribe("room.5").await;
        expect(&mut ada, "joined", &user).await;
        others.push(other);
    }
    let mut cursor = first["cursor"].as_str().unwrap().to_owned();
    let listed = loop {
        let answer = app.poll(&format!("cursor={cursor}")).await;
        if let Some(listed) = answer["messages"].as_array().unwrap().iter().find(|it| it["type"] == "members") {
            break listed.clone();
        }
        cursor = answer["cursor"].as_str().unwrap().to_owned();
    };
    assert_eq!((users(&listed).len(), &listed["total"]), (10, &json!(10)));
}

#[tokio::test]
async fn presence_can_be_switched_off_and_on_under_live_subscribers() {
    let app = TestApp::in_file(ROOMS).await;
    let (mut ada, _) = enter(&app, "ada").await;
    let (mut bob, _) = enter(&app, "bob").await;
    expect(&mut ada, "joined", "bob").await;

    app.write("channels: [ { match: 'room.*', subscribe: public } ]");
    assert!(app.app.reload().await);
    for client in [&mut ada, &mut bob] {
        client.send(json!({ "type": "ping" })).await;
        let mut told = client.next().await;
        if told["type"] == "left" {
            // Of whoever looked first.
            told = client.next().await;
        }
        assert_eq!((&told["type"], users(&told)), (&json!("members"), vec![]));
        client.expect("pong").await;
    }
    assert_eq!(app.call("GET", "/channels/room.5/members", Value::Null).await.1["total"], 0);

    app.write(ROOMS);
    assert!(app.app.reload().await);
    for client in [&mut ada, &mut bob] {
        client.send(json!({ "type": "ping" })).await;
    }
    // Whoever looks first finds itself alone; then the other is told.
    assert!(users(&ada.expect("members").await).contains(&"ada"));
    assert!(users(&bob.expect("members").await).contains(&"bob"));
    assert_eq!(app.call("GET", "/channels/room.5/members", Value::Null).await.1["total"], 2);
}

#[tokio::test]
async fn members_need_a_key_with_the_scope_read() {
    let app = TestApp::with(ROOMS).await;
    let request = Request::get("/channels/room.5/members").body(Full::<bytes::Bytes>::default()).unwrap();
    assert_eq!(client::send(app.api(), request).await.status(), 401);
    let (status, answer) = app.call("GET", "/channels/plain.a/members", Value::Null).await;
    assert_eq!((status, &answer["presence"]), (200, &json!(false)));
}
