//! Behaviour that only Redis has: foreign keys and entries, shared script runs, expiry of keys.

use std::time::Duration;

use bus::{
    Admin, Bus, BusError, DeadLetterFilter, DeadLetterPayload, Field, MessageSelector, Outgoing,
    Queue, QueueAdmin, RecordStore, RedisBus, RedisOptions, SettleRequest,
};
use runtime::{Clock, SystemClock};

use crate::{
    redis_world::RedisWorld,
    world::{NOTES, Note, OUT, PARTITIONED, done, packed, texts, written},
};

#[tokio::test]
async fn foreign_entry_in_a_stream_becomes_a_dead_letter_and_the_others_flow() {
    let world = RedisWorld::start().await;
    let _: String = world
        .command(&["XADD", "{test}:notes:ready", "*", "some", "field"])
        .await;
    let _: String = world
        .command(&[
            "XADD",
            "{test}:notes:ready",
            "*",
            "a",
            "0",
            "e",
            "no envelope",
        ])
        .await;
    world.send(&NOTES, "ok").await;
    let deliveries = world.reserve_up_to(&NOTES, 10).await;
    assert_eq!(texts(&deliveries), ["ok"]);
    let letters = world.bus.dead(&NOTES.spec(), "", 10).await.unwrap();
    assert_eq!(letters.len(), 2);
    assert!(
        letters
            .iter()
            .all(|letter| letter.reason.starts_with("not an envelope")),
        "{letters:?}"
    );
    let mut kept = Vec::new();
    for letter in &letters {
        kept.push(
            world
                .bus
                .dead_letter(&NOTES.spec(), &letter.id)
                .await
                .unwrap()
                .unwrap()
                .1,
        );
    }
    for bytes in ["no envelope", "some field"] {
        assert!(
            kept.contains(&DeadLetterPayload::Unreadable(bytes.into())),
            "the bytes are kept: {kept:?}"
        );
    }
}

/// Whether it came into the stream of a queue, into that of a partition, or among the delayed ones.
#[tokio::test]
async fn foreign_entry_ends_as_one_dead_letter_and_stays_away_once_it_is_dropped() {
    let world = RedisWorld::start().await;
    let _: String = world
        .command(&["XADD", "{test}:notes:ready", "*", "a", "0", "e", "garbage"])
        .await;
    let _: u32 = world
        .command(&["ZADD", "{test}:notes:delayed", "1", "garbage that waits"])
        .await;
    let _: u32 = world
        .command(&["SADD", "{test}:partitioned:partitions", "x"])
        .await;
    let _: String = world
        .command(&[
            "XADD",
            "{test}:partitioned:partition:x",
            "*",
            "a",
            "0",
            "e",
            "garbage",
        ])
        .await;
    let admin = Admin::new(world.bus.clone(), &[NOTES.spec(), PARTITIONED.spec()]);
    for (queue, stream, letters) in [
        (NOTES, "{test}:notes:ready", 2),
        (PARTITIONED, "{test}:partitioned:partition:x", 1),
    ] {
        let spec = queue.spec();
        for _ in 0..3 {
            assert!(world.reserve_up_to(&queue, 10).await.is_empty());
        }
        let depth = world.bus.depth(&spec).await.unwrap();
        assert_eq!(
            (depth.unfinished(), depth.dead),
            (0, letters),
            "{stream}: neither ready nor in flight"
        );
        assert_eq!(world.command::<u32>(&["XLEN", stream]).await, 0);
        let pending: (u32, Option<String>, Option<String>, redis::Value) =
            world.command(&["XPENDING", stream, "workers"]).await;
        assert_eq!(pending.0, 0, "{stream}");

        let found = world.bus.dead(&spec, "", 10).await.unwrap();
        assert!(found.iter().all(|letter| letter.unreadable), "{found:?}");
        let shown = admin
            .dead_letter(Some(spec.name), &found[0].id)
            .await
            .unwrap();
        assert!(shown.contents.body_bytes > 0, "{shown:?}");
        let named = DeadLetterFilter {
            ids: vec![found[0].id.clone()],
            ..DeadLetterFilter::default()
        };
        let chosen = admin.choose(&named).await.unwrap();
        let refused = admin.requeue_dead(&chosen).await.unwrap_err().to_string();
        assert!(
            refused.contains(&found[0].id) && refused.contains("cannot read the message"),
            "{refused}"
        );
        let all = DeadLetterFilter {
            queue: Some(spec.name.to_owned()),
            all: true,
            ..DeadLetterFilter::default()
        };
        let chosen = admin.choose(&all).await.unwrap();
        let left = admin.requeue_dead(&chosen).await.unwrap();
        assert_eq!((left.requeued, left.unreadable.len()), (0, letters));

        assert_eq!(admin.drop_dead(&chosen).await.unwrap(), letters);
        assert!(world.reserve_up_to(&queue, 10).await.is_empty());
        let depth = world.bus.depth(&spec).await.unwrap();
        assert_eq!(
            (depth.unfinished(), depth.dead),
            (0, 0),
            "it does not come back"
        );
    }
}

#[tokio::test]
async fn all_waiting_messages_are_dropped_beside_foreign_entries() {
    let world = RedisWorld::start().await;
    let _: String = world
        .command(&["XADD", "{test}:notes:ready", "*", "some", "field"])
        .await;
    let _: u32 = world
        .command(&["ZADD", "{test}:notes:delayed", "1", "garbage that waits"])
        .await;
    world.send(&NOTES, "ok").await;
    assert_eq!(
        world
            .bus
            .drop_waiting(&NOTES.spec(), MessageSelector::All)
            .await
            .unwrap(),
        3
    );
    assert_eq!(
        world.bus.depth(&NOTES.spec()).await.unwrap().unfinished(),
        0
    );
}

#[tokio::test]
async fn pushes_at_the_same_time_are_each_stored_once_and_one_that_fails_concerns_no_other() {
    let world = RedisWorld::start().await;
    let _: String = world
        .command(&["SET", "{test}:out:ready", "not a stream"])
        .await;
    let keyed = |queue: &Queue<Note>, text: String| {
        vec![Outgoing {
            key: Some(text.clone()),
            ..packed(queue, &text)
        }]
    };
    let pushes = (0..300).map(|number| {
        let queue = if number % 10 == 0 { OUT } else { NOTES };
        // Each twice.
        let push = world.bus.push(keyed(&queue, format!("{}", number / 2)));
        async move { (queue.spec().name, push.await) }
    });
    let mut stored = 0;
    for (queue, pushed) in futures::future::join_all(pushes).await {
        match pushed {
            Ok(pushed) if queue == "notes" => stored += pushed.inserted,
            Err(BusError::Refused { .. }) if queue == "out" => {}
            other => panic!("{queue}: {other:?}"),
        }
    }
    assert_eq!(world.bus.depth(&NOTES.spec()).await.unwrap().ready, stored);
    assert_eq!(stored, 150, "0, 5, 10, … once: their other push failed");
    let keys: Vec<String> = world.command(&["KEYS", "{test}:out:key:*"]).await;
    assert_eq!(
        keys,
        Vec::<String>::new(),
        "a push that was not stored leaves no key"
    );
}

#[tokio::test]
async fn many_due_messages_and_large_ones_are_moved_in_chunks() {
    let world = RedisWorld::start().await;
    let soon = Duration::from_millis(1);
    let small = (0..250).map(|n| Outgoing {
        after: soon,
        ..packed(&NOTES, &format!("{n}"))
    });
    let large = (0..3).map(|_| Outgoing {
        after: soon,
        ..packed(&NOTES, &"x".repeat(3 << 20))
    });
    world.bus.push(small.chain(large).collect()).await.unwrap();
    SystemClock.sleep(Duration::from_millis(20)).await;
    let mut deliveries = Vec::new();
    let mut chunks = Vec::new();
    while deliveries.len() < 253 {
        let some = world.reserve_up_to(&NOTES, 1000).await;
        assert!(!some.is_empty());
        chunks.push(some.len());
        deliveries.extend(some);
    }
    assert!(
        chunks.len() >= 4 && chunks.iter().all(|chunk| *chunk <= 100),
        "{chunks:?}"
    );
}

#[tokio::test]
async fn message_that_was_not_stored_does_not_open_its_record() {
    let world = RedisWorld::start().await;
    let store = RecordStore {
        name: "builds",
        retention: Duration::from_secs(60),
    };
    let send = async || {
        world
            .bus
            .push_with(
                vec![packed(&NOTES, "a")],
                vec![store.open("a", Field::new("accepted"), &1).unwrap()],
            )
            .await
    };
    // Something else is where the queue should be.
    let _: String = world
        .command(&["SET", "{test}:notes:ready", "no stream"])
        .await;
    let refused = send().await;
    assert!(
        matches!(refused, Err(BusError::Refused { .. })),
        "{refused:?}"
    );
    assert!(world.bus.records(&store, &["a".to_owned()]).await.unwrap()[0].is_empty());
    let _: u32 = world.command(&["DEL", "{test}:notes:ready"]).await;
    assert_eq!(send().await.unwrap().inserted, 1);
}

/// Whatever order records are written in, and whether with a message, with its settlement or alone.
#[tokio::test]
async fn every_key_of_a_record_expires() {
    const RETENTION: Duration = Duration::from_secs(600);
    const BUILDS: RecordStore = RecordStore {
        name: "builds",
        retention: RETENTION,
    };
    let world = RedisWorld::start().await;
    let entry = |record: &str| BUILDS.add(record, &"x").unwrap();
    let once = |record: &str| BUILDS.set_once(record, Field::new("end"), &1).unwrap();
    let accepted = vec![
        entry("a"),
        BUILDS.set("a", Field::new("now"), &1).unwrap(),
        BUILDS.add_to_index("a", "open"),
    ];
    world
        .bus
        .push_with(vec![packed(&NOTES, "a")], accepted)
        .await
        .unwrap();
    world
        .bus
        .push_with(
            Vec::new(),
            vec![
                once("b"),
                BUILDS.add_to_index("b", "open"),
                BUILDS.add_to_index("b", "all"),
            ],
        )
        .await
        .unwrap();
    let delivery = world.reserve(&NOTES).await;
    let done = done();
    let ended = [
        BUILDS.erase("a"),
        entry("a"),
        once("a"),
        BUILDS.remove_from_index("a", "open"),
        BUILDS.add_to_index("a", "all"),
    ];
    let request = SettleRequest {
        lease: &delivery.lease,
        how: &done,
        updates: &ended,
    };
    assert_eq!(
        written(world.bus.settle_all(&[request]).await.unwrap()),
        [true]
    );
    let gone = vec![
        entry("c"),
        BUILDS.add_to_index("c", "alone"),
        BUILDS.remove_from_index("c", "alone"),
        BUILDS.erase("c"),
    ];
    world.bus.push_with(Vec::new(), gone).await.unwrap();

    let mut keys: Vec<String> = world.command(&["KEYS", "{test}:-record-:*"]).await;
    keys.sort();
    assert_eq!(
        keys,
        ["index:all", "index:open", "record:a", "record:b"]
            .map(|key| format!("{{test}}:-record-:builds:{key}"))
    );
    for key in keys {
        let left: i64 = world.command(&["PTTL", &key]).await;
        assert!((1..=600_000).contains(&left), "{key}: {left}");
    }
}

#[tokio::test]
async fn evicting_server_is_refused() {
    let world = RedisWorld::start().await;
    assert_eq!(world.bus.check().await.unwrap(), Vec::<String>::new());
    let _: String = world
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await;
    let refused = world.bus.check().await;
    assert!(
        matches!(&refused, Err(BusError::Unfit { reason }) if reason.contains("noeviction")),
        "{refused:?}"
    );
}

#[test]
fn options_do_not_show_the_password() {
    let url = "redis://:hunter2@localhost:1/".into();
    let options = RedisOptions {
        url,
        namespace: "x".to_owned(),
        ca: None,
        waiters: 1,
    };
    assert!(!format!("{options:?}").contains("hunter2"));
    let bad = RedisOptions {
        url: "nonsense://:hunter2@x".into(),
        ..options
    };
    let error = RedisBus::new(&bad, &SystemClock).err().unwrap();
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}
