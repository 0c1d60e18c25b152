use super::*;

#[tokio::test]
async fn a_revocation_names_the_node_that_holds_to_it_and_how_many_it_sent_away() {
    let bench = Bench::open();
    let _theirs = bench.follow("room.1", Format::Poll).await.listed(bench.hub.directory(), "42");
    let _others = bench.follow("room.1", Format::Poll).await.listed(bench.hub.directory(), "43");
    let answer = bench.ask(Method::POST, "/users/42/revoke", "", "").await;
    let node = bench.hub.node();
    assert_eq!((answer.status, answer.json), (200, json!({"applied": [node], "away": [], "closed": 1})));
    let answer = bench.ask(Method::POST, "/tokens/revoke", "", r#"{"jti":"t-1"}"#).await;
    assert_eq!((answer.status, &answer.json["closed"]), (200, &json!(0)));
}

#[tokio::test]
async fn what_cannot_be_meant_revokes_nothing_and_a_full_list_says_so() {
    let bench = Bench::open();
    let status = async |path: &str, body: &str| bench.ask(Method::POST, path, "", body.to_owned()).await.status;
    assert_eq!(status("/users/42/revoke", r#"{"before":99999999999999}"#).await, 400);
    assert_eq!(status("/users/42/revoke", r#"{"befor":1}"#).await, 400);
    assert_eq!(status("/users/%00/revoke", "").await, 400);
    for body in ["", "{}", r#"{"jti":""}"#, r#"{"jti":7}"#, "[]"] {
        assert_eq!(status("/tokens/revoke", body).await, 400, "{body}");
    }
    for (user, expected) in [("1", 200), ("2", 200), ("3", 507), ("1", 200)] {
        assert_eq!(status(&format!("/users/{user}/revoke"), "").await, expected, "{user}");
    }
    let erased = bench.ask(Method::DELETE, "/users/4", "", "").await;
    assert_eq!(erased.status, 507, "{}", erased.json);
}

#[tokio::test]
async fn an_erasure_that_the_engine_did_not_finish_says_what_was_done() {
    let bench = Bench::open();
    bench.fail("42", Error::Unavailable, 0, 1);
    let answer = bench.ask(Method::DELETE, "/users/42", "", "").await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.json["detail"].as_str().unwrap().contains("tokens revoked, but the engine is out of reach"),
        "{}",
        answer.json
    );
    assert_eq!(bench.ask(Method::DELETE, "/users/42", "", "").await.status, 200);
}
