//! What every engine promises: one suite, passed by the reference in memory and by each server an installation may share.
//! What only shared engines promise stands in `engine_nodes.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outrigger::channel::{ConnectionId, Data, Epoch, Position, Retention};
use outrigger::engine;

use crate::support::engines::{Installation, KEEP, SETTINGS, draft, name, promised_by_every_engine, seqs};

promised_by_every_engine! {
    channels_are_numbered_each_on_its_own_and_delivered_in_order
    publishers_side_by_side_get_one_order_that_everybody_hears
    a_publication_is_delivered_and_stored_as_it_was_drafted
    a_repeated_id_answers_the_first_receipt_and_is_not_delivered_again
    an_id_is_forgotten_after_its_time
    history_gives_the_whole_gap_or_says_that_it_cannot
    a_long_gap_is_read_page_by_page
    without_a_position_the_newest_are_given
    history_keeps_no_more_than_its_size_and_no_longer_than_its_time
    a_rule_that_keeps_less_is_obeyed_at_once
    without_history_only_who_is_at_the_head_is_recovered
    deleted_history_is_gone_and_the_numbers_go_on
    a_channel_nobody_published_to_has_a_position_that_holds
    channels_are_listed_by_the_beginning_of_their_names
    heads_are_told_in_the_order_of_the_channels
    several_of_one_channel_are_taken_in_their_order
    an_erased_user_leaves_numbers_and_nothing_else
}

async fn channels_are_numbered_each_on_its_own_and_delivered_in_order(on: impl Installation) {
    let node = on.node().await;
    for channel in ["a", "b"] {
        node.follow(channel).await;
    }
    let mut epochs = Vec::new();
    for seq in 1..=5 {
        for channel in ["a", "b"] {
            let receipt = node.publish(channel).await;
            assert_eq!((receipt.position.seq, receipt.duplicate), (seq, false));
            assert_eq!(receipt.position.id, Some(receipt.id));
            epochs.push(receipt.position.epoch);
        }
    }
    assert!(epochs.chunks(2).all(|it| it == &epochs[..2]), "an epoch lasts");
    node.heard.hears("a", 1..=5).await;
    node.heard.hears("b", 1..=5).await;
}

async fn publishers_side_by_side_get_one_order_that_everybody_hears(on: impl Installation) {
    let node = on.node().await;
    node.follow("a").await;
    let publishing = (0..200).map(|_| node.publish("a"));
    let receipts = futures_util::future::join_all(publishing).await;
    let mut given: Vec<_> = receipts.iter().map(|it| it.position.seq).collect();
    given.sort_unstable();
    assert_eq!(given, (1..=200).collect::<Vec<_>>());
    node.heard.hears("a", 1..=200).await;
    for receipt in receipts {
        let heard = node.heard.publications();
        let it = heard.iter().find(|it| it.seq == receipt.position.seq).unwrap();
        assert_eq!(it.id, receipt.id, "the receipt names what was delivered under its number");
    }
}

async fn a_publication_is_delivered_and_stored_as_it_was_drafted(on: impl Installation) {
    let node = on.node().await;
    node.follow("a").await;
    for data in [Data::Json(Bytes::from_static(b"{\"a\":[1,\"\\n\"]}")), Data::Binary(Bytes::from_static(b"\0\n\xff"))]
    {
        node.heard.forget();
        let mut draft = draft("a", Some("order \"17\"\nß"));
        draft.id = format!("{} {}", draft.id, data.len()).into();
        draft.data = data;
        draft.event = Some("created".into());
        draft.user = Some("42".into());
        draft.subject = Some("43".into());
        draft.exclude = vec![ConnectionId(7), ConnectionId(u128::MAX)];
        let receipt = node.try_publish(draft.clone()).await.unwrap();
        node.heard.until("it is delivered", |it| !it.is_empty()).await;
        let delivered = node.heard.publications().remove(0);
        let stored = node.newest("a", 1).await.publications.remove(0);
        for it in [&delivered, &stored] {
            assert_eq!(it.position(), receipt.position);
            assert_eq!((&it.channel, &it.id, &it.event), (&draft.channel, &draft.id, &draft.event));
            assert_eq!((&it.user, &it.subject, &it.data), (&draft.user, &draft.subject, &draft.data));
            assert_eq!((&it.exclude, it.prev), (&draft.exclude, None));
        }
        assert_eq!(delivered.timestamp, stored.timestamp);
    }
}

async fn a_repeated_id_answers_the_first_receipt_and_is_not_delivered_again(on: impl Installation) {
    let node = on.node().await;
    node.follow("a").await;
    let first = node.publish_as("a", "x").await;
    node.publish("a").await;
    let again = node.publish_as("a", "x").await;
    assert_eq!((&again.position, &again.id, again.duplicate), (&first.position, &first.id, true));
    assert!(!node.publish_as("b", "x").await.duplicate, "ids are per channel");
    node.publish("a").await;
    node.heard.hears("a", 1..=3).await;
}

async fn an_id_is_forgotten_after_its_time(on: impl Installation) {
    let node = on.open(engine::Settings { idempotency: Duration::from_secs(1), ..SETTINGS }).await;
    assert!(!node.publish_as("a", "x").await.duplicate);
    assert!(node.publish_as("a", "x").await.duplicate);
    crate::support::soon("the id is forgotten", async {
        while node.publish_as("a", "x").await.duplicate {
            // The engine's own clock must pass; each question is a round trip.
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(node.newest("a", 10).await.head.seq, 2);
}

async fn history_gives_the_whole_gap_or_says_that_it_cannot(on: impl Installation) {
    const KEEP_3: Retention = Retention { size: 3, ..KEEP };
    let node = on.node().await;
    let mut positions = Vec::new();
    for _ in 0..5 {
        positions.push(node.broker.publish(draft("a", None), KEEP_3).await.unwrap().position);
    }
    let read = async |since: &Position| node.page("a", Some(since.clone()), KEEP_3).await;
    for (at, missed) in [(4, vec![]), (3, vec![5]), (2, vec![4, 5]), (1, vec![3, 4, 5])] {
        let page = read(&positions[at]).await;
        assert_eq!((page.unbroken, seqs(&page), &page.head), (true, missed, &positions[4]), "since {}", at + 1);
    }
    let last = &positions[4];
    assert!(!read(&positions[0]).await.unbroken, "2 is gone");
    assert!(read(&Position { id: None, ..positions[2].clone() }).await.unbroken, "an id need not be named");
    assert!(!read(&Position { epoch: Epoch(7), ..last.clone() }).await.unbroken, "another epoch");
    let named = |position: &Position| Position { id: Some("no".into()), ..position.clone() };
    assert!(!read(&named(&positions[3])).await.unbroken, "another publication stands there");
    assert!(!read(&Position { seq: 1000, id: None, ..last.clone() }).await.unbroken, "beyond the head");
    assert!(read(last).await.unbroken, "whatever somebody claims, the epoch goes on for everybody else");
}

async fn a_long_gap_is_read_page_by_page(on: impl Installation) {
    let node = on.node().await;
    let mut at = node.publish("a").await.position;
    for _ in 0..9 {
        node.publish("a").await;
    }
    let mut read = Vec::new();
    loop {
        let page = node.broker.history(&name("a"), Some(at.clone()), 4, KEEP).await.unwrap();
        assert!(page.unbroken);
        let Some(last) = page.publications.last() else { break };
        assert!(page.publications.len() <= 4);
        at = last.position();
        read.extend(seqs(&page));
    }
    assert_eq!(read, (2..=10).collect::<Vec<_>>());
}

async fn without_a_position_the_newest_are_given(on: impl Installation) {
    let node = on.node().await;
    for _ in 0..40 {
        node.publish("a").await;
    }
    assert_eq!(seqs(&node.newest("a", 3).await), [38, 39, 40]);
    assert_eq!(seqs(&node.newest("a", 30).await), (11..=40).collect::<Vec<_>>());
    let page = node.newest("a", 0).await;
    assert_eq!((seqs(&page), page.head.seq), (vec![], 40));
}

async fn history_keeps_no_more_than_its_size_and_no_longer_than_its_time(on: impl Installation) {
    let node = on.node().await;
    let short = Retention { size: 2, ttl: Duration::from_secs(1) };
    for _ in 0..4 {
        node.broker.publish(draft("a", None), short).await.unwrap();
    }
    assert_eq!(seqs(&node.page("a", None, short).await), [3, 4]);
    let head = node.page("a", None, short).await.head;
    crate::support::soon("they expire", async {
        while !node.page("a", None, short).await.publications.is_empty() {
            // The engine's own clock must pass; each question is a round trip.
            tokio::task::yield_now().await;
        }
    })
    .await;
    let page = node.page("a", Some(head.clone()), short).await;
    assert!(page.unbroken, "who is at the head misses nothing");
    assert!(!node.page("a", Some(Position { seq: 3, id: None, ..head }), short).await.unbroken);
    assert_eq!(node.broker.publish(draft("a", None), short).await.unwrap().position.seq, 5);
}

async fn a_rule_that_keeps_less_is_obeyed_at_once(on: impl Installation) {
    let node = on.node().await;
    for _ in 0..6 {
        node.publish("a").await;
    }
    let less = Retention { size: 2, ..KEEP };
    assert_eq!(seqs(&node.page("a", None, less).await), [5, 6]);
    assert_eq!(seqs(&node.page("a", None, KEEP).await), [5, 6], "it is gone, not hidden");
    assert!(node.page("a", None, Retention::NONE).await.publications.is_empty());
}

async fn without_history_only_who_is_at_the_head_is_recovered(on: impl Installation) {
    let node = on.node().await;
    let mut last = None;
    for _ in 0..3 {
        last = Some(node.broker.publish(draft("a", None), Retention::NONE).await.unwrap().position);
    }
    let head = last.unwrap();
    assert!(node.page("a", Some(head.clone()), Retention::NONE).await.unbroken);
    assert!(!node.page("a", Some(Position { seq: 2, id: None, ..head.clone() }), Retention::NONE).await.unbroken);
    let other = Position { id: Some("no".into()), ..head };
    assert!(!node.page("a", Some(other), Retention::NONE).await.unbroken);
}

async fn deleted_history_is_gone_and_the_numbers_go_on(on: impl Installation) {
    let node = on.node().await;
    let first = node.publish("a").await.position;
    node.publish("a").await;
    node.broker.delete_history(&name("a")).await.unwrap();
    assert!(node.newest("a", 10).await.publications.is_empty());
    assert!(!node.since("a", &first).await.unbroken);
    let next = node.publish("a").await.position;
    assert_eq!((next.epoch, next.seq), (first.epoch, 3));
    assert_eq!(seqs(&node.newest("a", 10).await), [3]);
    node.broker.delete_history(&name("never.used")).await.unwrap();
}

async fn a_channel_nobody_published_to_has_a_position_that_holds(on: impl Installation) {
    let node = on.node().await;
    let head = node.newest("a", 0).await.head;
    assert_eq!((head.seq, &head.id), (0, &None));
    assert_ne!(head.epoch, Epoch(0), "that stands for none");
    assert_eq!(node.newest("a", 0).await.head, head);
    node.publish("a").await;
    let page = node.since("a", &head).await;
    assert_eq!((page.unbroken, seqs(&page)), (true, vec![1]));
}

async fn channels_are_listed_by_the_beginning_of_their_names(on: impl Installation) {
    let node = on.node().await;
    for channel in ["room.2", "room.1", "room.[x]", "room.?", "other", "rooms", "größe.1"] {
        node.publish(channel).await;
    }
    let list = async |prefix: &str, limit| {
        let names = node.broker.channels(prefix, limit).await.unwrap();
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(list("room.", 10).await, ["room.1", "room.2", "room.?", "room.[x]"]);
    assert_eq!(list("room.[x", 10).await, ["room.[x]"]);
    assert_eq!(list("room.", 2).await, ["room.1", "room.2"]);
    assert_eq!(list("grö", 10).await, ["größe.1"]);
    assert_eq!(list("", 100).await.len(), 7);
    assert!(list("nothing", 10).await.is_empty());
}

async fn an_erased_user_leaves_numbers_and_nothing_else(on: impl Installation) {
    let node = on.node().await;
    let of = |channel: &str, user: Option<&str>, subject: Option<&str>| {
        let mut draft = draft(channel, None);
        (draft.user, draft.subject) = (user.map(Arc::from), subject.map(Arc::from));
        draft.event = Some("said".into());
        draft
    };
    let first = node.try_publish(of("a", Some("42"), None)).await.unwrap().position;
    for draft in
        [of("a", Some("7"), None), of("a", Some("7"), Some("42")), of("b", None, Some("42")), of("c", None, None)]
    {
        node.try_publish(draft).await.unwrap();
    }
    let erased = node.broker.erase("42").await.unwrap();
    assert_eq!((erased.publications, erased.channels), (3, 2));
    let page = node.newest("a", 10).await;
    assert_eq!(seqs(&page), [1, 2, 3]);
    assert_eq!(page.publications.iter().map(|it| it.erased).collect::<Vec<_>>(), [true, false, true]);
    let gone = &page.publications[0];
    assert_eq!((&gone.user, &gone.event, &gone.data), (&None, &None, &Data::Json(Bytes::from_static(b"null"))));
    assert_eq!(page.publications[1].user.as_deref(), Some("7"));
    let missed = node.since("a", &first).await;
    assert_eq!((missed.unbroken, seqs(&missed)), (true, vec![2, 3]), "positions hold");
    assert_eq!(node.publish("a").await.position.seq, 4);
    assert_eq!(node.broker.erase("42").await.unwrap().publications, 0, "what is erased names nobody");
}

async fn heads_are_told_in_the_order_of_the_channels(on: impl Installation) {
    let node = on.node().await;
    let mut expected = Vec::new();
    for channel in ["b", "a", "c"] {
        node.follow(channel).await;
        node.publish(channel).await;
        expected.push(node.publish(channel).await.position);
    }
    assert_eq!(node.broker.heads(&["b", "a", "c"].map(name)).await.unwrap(), expected);
}

async fn several_of_one_channel_are_taken_in_their_order(on: impl Installation) {
    let node = on.node().await;
    node.follow("a").await;
    node.publish_as("a", "x3").await;
    let drafts = (1..=5).map(|at| draft("a", Some(&format!("x{at}")))).collect();
    let receipts = node.broker.publish_all(drafts, KEEP).await;
    let told: Vec<_> =
        receipts.iter().map(|it| it.as_ref().unwrap()).map(|it| (it.position.seq, it.duplicate)).collect();
    assert_eq!(told, [(2, false), (3, false), (1, true), (4, false), (5, false)]);
    node.heard.hears("a", 1..=5).await;
    let ids: Vec<_> = node.newest("a", 10).await.publications.iter().map(|it| it.id.to_string()).collect();
    assert_eq!(ids, ["x3", "x1", "x2", "x4", "x5"]);
}
