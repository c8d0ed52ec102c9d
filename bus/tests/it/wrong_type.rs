//! A key of another type: a write to it is refused whole, and concerns nothing else.

use std::{
    collections::BTreeMap,
    sync::Arc,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Backoff, Bus, BusError, Consumer, Context, Delivery, Field, Handler, Outcome, Outgoing, Policy,
    Queue, QueueAdmin, RecordStore, RecordUpdate, SettleRequest, Settlement,
};
use runtime::SystemClock;
use uuid::Uuid;

use crate::{
    redis_world::RedisWorld,
    world::{NOTES, Note, OUT, PARTITIONED, POLICY, done, packed, text},
};

const BUILDS: RecordStore = RecordStore {
    name: "builds",
    retention: Duration::from_secs(600),
};

const MINUTE: Duration = Duration::from_secs(60);

/// Settles a delivery, with what is recorded.
async fn settle(
    world: &RedisWorld,
    delivery: &Delivery,
    how: &Settlement,
    updates: &[RecordUpdate],
) -> Result<(), BusError> {
    let request = SettleRequest {
        lease: &delivery.lease,
        how,
        updates,
    };
    let mut results = world.bus.settle_all(&[request]).await.unwrap();
    results.pop().unwrap()
}

/// Stores something that is not the bus's under a key. Returns the whole key, and all that Redis holds then.
async fn occupy(world: &RedisWorld, key: &str) -> (String, BTreeMap<String, Vec<u8>>) {
    let key = format!("{{test}}:{key}");
    let _: u32 = world.command(&["DEL", &key]).await;
    let _: String = world.command(&["SET", &key, "something else"]).await;
    (key, world.keyspace().await)
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T, BusError>, doing: &str, key: &str) {
    let refused = result.unwrap_err();
    assert!(
        matches!(refused, BusError::Refused { .. }),
        "{key}: {refused:?}"
    );
    assert_eq!(
        refused.to_string(),
        format!(
            "redis refused {doing}: WRONGTYPE {key} holds a string, which is not the bus's: remove it"
        )
    );
}

fn emitting(emit: Vec<Outgoing>) -> Settlement {
    Settlement::Done { emit }
}

/// A message now, one later with a key, and one in a partition.
fn three_messages() -> Vec<Outgoing> {
    let later = Outgoing {
        after: MINUTE,
        key: Some("once".to_owned()),
        ..packed(&OUT, "later")
    };
    vec![
        packed(&OUT, "now"),
        later,
        packed(&PARTITIONED, "partition"),
    ]
}

fn dead() -> Settlement {
    Settlement::Dead {
        id: Uuid::from_u128(7),
        reason: "why".to_owned(),
        attempts: 1,
        emit: vec![packed(&OUT, "answer")],
    }
}

/// Settlements that write to each kind of key: its name, the queue, how the message is settled, and what is recorded.
fn settlements() -> Vec<(&'static str, Queue<Note>, Settlement, Vec<RecordUpdate>)> {
    // No change before the refused one may be written.
    let updates = || {
        vec![
            BUILDS.add("good", &"event").unwrap(),
            BUILDS.add_to_index("good", "all"),
            BUILDS.remove_from_index("good", "open"),
            BUILDS.set("bad", Field::new("by"), &1).unwrap(),
            BUILDS.add_to_index("good", "last"),
        ]
    };
    let emits = || emitting(three_messages());
    let retry = |after| Settlement::Retry { after };
    let defer = |after| Settlement::Defer { after };
    vec![
        ("-record-:builds:record:bad", NOTES, emits(), updates()),
        ("-record-:builds:index:all", NOTES, emits(), updates()),
        ("-record-:builds:index:open", NOTES, emits(), updates()),
        (
            "-record-:builds:index:last",
            NOTES,
            retry(MINUTE),
            updates(),
        ),
        ("-record-:builds:record:bad", NOTES, dead(), updates()),
        ("out:ready", NOTES, emits(), updates()),
        ("out:delayed", NOTES, emits(), updates()),
        ("partitioned:partition:p", NOTES, emits(), updates()),
        ("partitioned:partitions", NOTES, emits(), updates()),
        ("partitioned:hint", NOTES, emits(), updates()),
        ("notes:delayed", NOTES, retry(MINUTE), updates()),
        ("notes:delayed", NOTES, defer(MINUTE), updates()),
        (
            "partitioned:hint",
            PARTITIONED,
            retry(Duration::ZERO),
            updates(),
        ),
        (
            "partitioned:partitions",
            PARTITIONED,
            defer(Duration::ZERO),
            updates(),
        ),
        (
            "partitioned:hint",
            PARTITIONED,
            Settlement::Release,
            Vec::new(),
        ),
        ("notes:dead", NOTES, dead(), updates()),
        ("notes:letters", NOTES, dead(), updates()),
        ("notes:bodies", NOTES, dead(), updates()),
        ("out:ready", NOTES, dead(), updates()),
    ]
}

#[tokio::test]
async fn settlement_that_meets_a_key_of_wrong_type_writes_nothing_and_is_written_once_the_key_is_gone()
 {
    let world = RedisWorld::start().await;
    for (key, queue, how, updates) in settlements() {
        let _: String = world.command(&["FLUSHALL"]).await;
        world.send(&queue, "message").await;
        let delivery = world.reserve(&queue).await;
        let (key, before) = occupy(&world, key).await;

        let refused = settle(&world, &delivery, &how, &updates).await;
        assert_refused(refused, "settling a message", &key);
        assert!(
            world.keyspace().await == before,
            "{key}: something was written for {how:?}"
        );

        let _: u32 = world.command(&["DEL", &key]).await;
        settle(&world, &delivery, &how, &updates).await.unwrap();
        assert_eq!(
            world.bus.depth(&queue.spec()).await.unwrap().in_flight,
            0,
            "{key}: {how:?}"
        );
    }
}

#[tokio::test]
async fn refused_settlement_does_not_concern_the_others_of_its_batch() {
    let world = RedisWorld::start().await;
    for text in ["a", "b", "c", "d"] {
        world.send(&NOTES, text).await;
    }
    let key = "{test}:-record-:builds:record:b";
    let _: String = world.command(&["SET", key, "something else"]).await;
    let deliveries = world.reserve_up_to(&NOTES, 4).await;
    let settlements: Vec<_> = deliveries
        .iter()
        .map(|delivery| {
            let text = text(delivery);
            let updates = match text.as_str() {
                "a" => Vec::new(),
                _ => vec![
                    BUILDS.add_to_index(&text, "all"),
                    BUILDS.add(&text, &"event").unwrap(),
                ],
            };
            (delivery, emitting(vec![packed(&OUT, &text)]), updates)
        })
        .collect();
    let requests = settlements
        .iter()
        .map(|(delivery, how, updates)| SettleRequest {
            lease: &delivery.lease,
            how,
            updates,
        });
    let results = world
        .bus
        .settle_all(&requests.collect::<Vec<_>>())
        .await
        .unwrap();
    let refused: Vec<_> = results.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, true, false, false], "{results:?}");
    let depth = world.bus.depth(&NOTES.spec()).await.unwrap();
    assert_eq!((depth.ready, depth.in_flight), (0, 1));
    assert_eq!(world.bus.depth(&OUT.spec()).await.unwrap().ready, 3);
    let indexed = world.bus.indexed(&BUILDS, "all", 0..10).await.unwrap();
    let mut indexed: Vec<_> = indexed.into_iter().map(|(record, _)| record).collect();
    indexed.sort_unstable();
    assert_eq!(indexed, ["c", "d"]);
}

#[tokio::test]
async fn count_of_settled_messages_of_wrong_type_hinders_no_settlement() {
    let world = RedisWorld::start().await;
    world.send(&NOTES, "a").await;
    let delivery = world.reserve(&NOTES).await;
    let time: (u64, u64) = world.command(&["TIME"]).await;
    for minute in time.0 / 60..time.0 / 60 + 2 {
        let key = format!("{{test}}:notes:done:{minute}");
        let _: u32 = world.command(&["SADD", &key, "something else"]).await;
    }
    settle(&world, &delivery, &done(), &[]).await.unwrap();
    assert_eq!(
        world
            .command::<usize>(&["XLEN", "{test}:notes:ready"])
            .await,
        0
    );
}

/// Pushes that write to each kind of key: its name, and what is recorded. Each stores a message now, later and in a
/// partition.
fn pushes() -> Vec<(&'static str, Vec<RecordUpdate>)> {
    let open = |record: &str| BUILDS.open(record, Field::new("by"), &1).unwrap();
    let opening = || {
        vec![
            open("new"),
            BUILDS.add_to_index("new", "all"),
            BUILDS.add("good", &"event").unwrap(),
            BUILDS.remove_from_index("good", "open"),
            BUILDS.set("bad", Field::new("by"), &1).unwrap(),
            open("other"),
        ]
    };
    let without_opening = || opening().split_off(1);
    vec![
        ("-record-:builds:record:new", opening()),
        ("-record-:builds:record:other", opening()),
        ("-record-:builds:record:bad", opening()),
        ("-record-:builds:record:bad", without_opening()),
        ("-record-:builds:index:all", opening()),
        ("-record-:builds:index:open", opening()),
        ("-record-:builds:index:open", without_opening()),
        ("out:ready", opening()),
        ("out:delayed", opening()),
        ("partitioned:partition:p", opening()),
        ("partitioned:partitions", opening()),
        ("partitioned:hint", opening()),
        ("partitioned:hint", Vec::new()),
    ]
}

#[tokio::test]
async fn push_that_meets_a_key_of_wrong_type_writes_nothing_and_is_stored_once_the_key_is_gone() {
    let world = RedisWorld::start().await;
    for (key, updates) in pushes() {
        let _: String = world.command(&["FLUSHALL"]).await;
        let (key, before) = occupy(&world, key).await;

        let refused = world.bus.push_with(three_messages(), updates.clone()).await;
        assert_refused(refused, "storing messages", &key);
        assert!(world.keyspace().await == before, "{key}: {updates:?}");

        let _: u32 = world.command(&["DEL", &key]).await;
        let pushed = world
            .bus
            .push_with(three_messages(), updates)
            .await
            .unwrap();
        assert_eq!((pushed.inserted, pushed.duplicates), (3, 0), "{key}");
    }
}

#[tokio::test]
async fn changes_of_records_that_meet_a_key_of_wrong_type_are_not_made() {
    let world = RedisWorld::start().await;
    for key in ["record:bad", "index:all", "index:open"] {
        let _: String = world.command(&["FLUSHALL"]).await;
        let (key, before) = occupy(&world, &format!("-record-:builds:{key}")).await;
        let updates = || {
            vec![
                BUILDS.add("good", &"event").unwrap(),
                BUILDS.add_to_index("good", "all"),
                BUILDS.remove_from_index("good", "open"),
                BUILDS.set("bad", Field::new("by"), &1).unwrap(),
            ]
        };
        let refused = world.bus.push_with(Vec::new(), updates()).await;
        assert_refused(refused, "storing messages", &key);
        assert!(world.keyspace().await == before, "{key}");
        let _: u32 = world.command(&["DEL", &key]).await;
        world.bus.push_with(Vec::new(), updates()).await.unwrap();
    }
}

#[tokio::test]
async fn compare_and_set_that_meets_a_key_of_wrong_type_names_it_and_changes_nothing() {
    let world = RedisWorld::start().await;
    for key in ["record:a", "record:b", "index:all", "index:open"] {
        let _: String = world.command(&["FLUSHALL"]).await;
        let (key, before) = occupy(&world, &format!("-record-:builds:{key}")).await;
        let change = || {
            BUILDS
                .compare_and_set("a", Field::new("by"), None, Some(&1))
                .unwrap()
        };
        let updates = || {
            vec![
                BUILDS.set("b", Field::new("by"), &1).unwrap(),
                BUILDS.add_to_index("a", "all"),
                BUILDS.remove_from_index("a", "open"),
            ]
        };
        let refused = world.bus.compare_and_set(change(), updates()).await;
        assert_refused(refused, "changing a record", &key);
        assert!(world.keyspace().await == before, "{key}");
        let _: u32 = world.command(&["DEL", &key]).await;
        assert!(
            world
                .bus
                .compare_and_set(change(), updates())
                .await
                .unwrap()
        );
    }
}

const WORK: Queue<Note> = Queue::new(
    "work",
    Policy {
        attempts: 2,
        backoff: Backoff {
            first: Duration::from_millis(1),
            factor: 1,
            cap: Duration::from_millis(1),
        },
        ..POLICY
    },
);

/// Records each message in a record of its own name.
struct Recorder(Arc<AtomicU32>);

#[async_trait]
impl Handler<Note> for Recorder {
    type Error = BusError;

    async fn handle(&self, note: Note, cx: &Context) -> Result<Outcome, BusError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        cx.record(BUILDS.add(&note.text, &"handled")?);
        cx.send(&OUT, &note)?;
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn message_whose_settlement_is_refused_uses_up_its_attempts_and_the_others_flow() {
    let world = RedisWorld::start().await;
    let key = "{test}:-record-:builds:record:bad";
    let _: String = world.command(&["SET", key, "something else"]).await;
    for text in ["good", "bad", "better"] {
        world.send(&WORK, text).await;
    }
    let handled = Arc::new(AtomicU32::new(0));
    let recorder = Recorder(Arc::clone(&handled));
    let consumer = Consumer::new(world.bus.clone(), Arc::new(SystemClock), WORK, recorder);
    while world.bus.depth(&WORK.spec()).await.unwrap().dead == 0 {
        consumer.step().await.unwrap();
    }
    assert_eq!(handled.load(Ordering::Relaxed), 4, "one message twice");
    let letters = world.bus.dead(&WORK.spec(), "", 10).await.unwrap();
    assert_eq!(letters[0].attempts, 2);
    assert!(
        letters[0].reason.contains(key),
        "{:?}: what is to be removed",
        letters[0].reason
    );
    assert_eq!(world.bus.depth(&WORK.spec()).await.unwrap().unfinished(), 0);
    assert_eq!(world.bus.depth(&OUT.spec()).await.unwrap().ready, 2);
}
