//! A key that somebody gave another type: what would write to it is refused whole, and concerns nothing else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Backoff, Bus, BusError, Consumer, Context, Delivery, Field, Handler, Outcome, Outgoing, Policy,
    Queue, QueueAdmin, RecordStore, RecordUpdate, RedisBus, Reserve, SettleRequest, Settlement,
};
use runtime::SystemClock;
use tempfile::TempDir;
use testkit::RedisServer;
use uuid::Uuid;

use crate::world::{NOTES, Note, OUT, PARTITIONED, POLICY, note, text};

const BUILDS: RecordStore = RecordStore {
    name: "builds",
    retention: Duration::from_secs(600),
};
const MINUTE: Duration = Duration::from_secs(60);

struct Server {
    connection: redis::aio::MultiplexedConnection,
    bus: Arc<RedisBus>,
    _server: RedisServer,
    _directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = RedisServer::start(directory.path()).await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        Self {
            connection: client.get_multiplexed_async_connection().await.unwrap(),
            bus: Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap()),
            _server: server,
            _directory: directory,
        }
    }

    async fn run<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        command.arg(words);
        command.query_async(&mut self.connection).await.unwrap()
    }

    /// All keys with what they hold.
    async fn keyspace(&mut self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        for key in self.run::<Vec<String>>(&["KEYS", "*"]).await {
            let dump = self.run(&["DUMP", &key]).await;
            found.insert(key, dump);
        }
        found
    }

    async fn send(&self, queue: &Queue<Note>, text: &str) {
        self.bus.push(vec![packed(queue, text)]).await.unwrap();
    }

    async fn take(&self, queue: &Queue<Note>) -> Delivery {
        let taken = self.bus.reserve(&queue.spec(), Reserve::now(1)).await;
        taken.unwrap().pop().expect("a message is ready")
    }

    async fn end(
        &self,
        leased: &Delivery,
        how: &Settlement,
        updates: &[RecordUpdate],
    ) -> Result<(), BusError> {
        let ending = SettleRequest {
            lease: &leased.lease,
            how,
            updates,
        };
        let mut results = self.bus.settle_all(&[ending]).await.unwrap();
        results.pop().unwrap()
    }
}

fn packed(queue: &Queue<Note>, text: &str) -> Outgoing {
    queue.pack(&note(text), &SystemClock).unwrap()
}

fn done(emit: Vec<Outgoing>) -> Settlement {
    Settlement::Done { emit }
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
    // What comes before the change that is refused must not be written either.
    let updates = || {
        vec![
            BUILDS.add("good", &"entry").unwrap(),
            BUILDS.tag("good", "all"),
            BUILDS.untag("good", "open"),
            BUILDS.set("bad", Field::new("by"), &1).unwrap(),
            BUILDS.tag("good", "last"),
        ]
    };
    let later = Outgoing {
        after: MINUTE,
        key: Some("once".to_owned()),
        ..packed(&OUT, "later")
    };
    let emit = || {
        vec![
            packed(&OUT, "now"),
            later.clone(),
            packed(&PARTITIONED, "partition"),
        ]
    };
    let retry = |after| Settlement::Retry { after };
    let defer = |after| Settlement::Defer { after };
    vec![
        ("-record-:builds:record:bad", NOTES, done(emit()), updates()),
        ("-record-:builds:tag:all", NOTES, done(emit()), updates()),
        ("-record-:builds:tag:open", NOTES, done(emit()), updates()),
        ("-record-:builds:tag:last", NOTES, retry(MINUTE), updates()),
        ("-record-:builds:record:bad", NOTES, dead(), updates()),
        ("out:ready", NOTES, done(emit()), updates()),
        ("out:delayed", NOTES, done(emit()), updates()),
        ("partitioned:partition:p", NOTES, done(emit()), updates()),
        ("partitioned:partitions", NOTES, done(emit()), updates()),
        ("partitioned:hint", NOTES, done(emit()), updates()),
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
    let mut world = Server::start().await;
    for (key, queue, how, updates) in settlements() {
        let _: String = world.run(&["FLUSHALL"]).await;
        world.send(&queue, "message").await;
        let leased = world.take(&queue).await;
        let key = format!("{{test}}:{key}");
        let _: u32 = world.run(&["DEL", &key]).await;
        let _: String = world.run(&["SET", &key, "something else"]).await;
        let before = world.keyspace().await;

        let refused = world.end(&leased, &how, &updates).await.unwrap_err();
        assert!(
            matches!(refused, BusError::Refused { .. }),
            "{key}: {refused:?}"
        );
        assert_eq!(
            refused.to_string(),
            format!(
                "redis refused settling a message: WRONGTYPE {key} holds a string, which is not the bus's: remove it"
            )
        );
        assert!(
            world.keyspace().await == before,
            "{key}: something was written for {how:?}"
        );

        let _: u32 = world.run(&["DEL", &key]).await;
        world.end(&leased, &how, &updates).await.unwrap();
        assert_eq!(
            world.bus.depth(&queue.spec()).await.unwrap().in_flight,
            0,
            "{key}: {how:?}"
        );
    }
}

#[tokio::test]
async fn refused_settlement_does_not_concern_the_others_of_its_batch() {
    let mut world = Server::start().await;
    for text in ["a", "b", "c", "d"] {
        world.send(&NOTES, text).await;
    }
    let key = "{test}:-record-:builds:record:b";
    let _: String = world.run(&["SET", key, "something else"]).await;
    let taken = world
        .bus
        .reserve(&NOTES.spec(), Reserve::now(4))
        .await
        .unwrap();
    let settlements: Vec<_> = taken
        .iter()
        .map(|leased| {
            let text = text(leased);
            let updates = match text.as_str() {
                "a" => Vec::new(),
                _ => vec![
                    BUILDS.tag(&text, "all"),
                    BUILDS.add(&text, &"entry").unwrap(),
                ],
            };
            (leased, done(vec![packed(&OUT, &text)]), updates)
        })
        .collect();
    let endings = settlements
        .iter()
        .map(|(leased, how, updates)| SettleRequest {
            lease: &leased.lease,
            how,
            updates,
        });
    let results = world
        .bus
        .settle_all(&endings.collect::<Vec<_>>())
        .await
        .unwrap();
    let refused: Vec<_> = results.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, true, false, false], "{results:?}");
    let depth = world.bus.depth(&NOTES.spec()).await.unwrap();
    assert_eq!((depth.ready, depth.in_flight), (0, 1));
    assert_eq!(world.bus.depth(&OUT.spec()).await.unwrap().ready, 3);
    let tagged = world.bus.tagged(&BUILDS, "all", 0..10).await.unwrap();
    let mut tagged: Vec<_> = tagged.into_iter().map(|(record, _)| record).collect();
    tagged.sort_unstable();
    assert_eq!(tagged, ["c", "d"]);
}

#[tokio::test]
async fn count_of_settled_messages_of_wrong_type_hinders_no_settlement() {
    let mut world = Server::start().await;
    world.send(&NOTES, "a").await;
    let leased = world.take(&NOTES).await;
    let time: (u64, u64) = world.run(&["TIME"]).await;
    for minute in time.0 / 60..time.0 / 60 + 2 {
        let key = format!("{{test}}:notes:done:{minute}");
        let _: u32 = world.run(&["SADD", &key, "something else"]).await;
    }
    world.end(&leased, &done(Vec::new()), &[]).await.unwrap();
    assert_eq!(world.run::<usize>(&["XLEN", "{test}:notes:ready"]).await, 0);
}

/// Pushes that write to each kind of key: its name, and what is recorded. Each stores a message now, later and in a
/// partition.
fn pushes() -> Vec<(&'static str, Vec<RecordUpdate>)> {
    let open = |record: &str| BUILDS.open(record, Field::new("by"), &1).unwrap();
    let opening = || {
        vec![
            open("new"),
            BUILDS.tag("new", "all"),
            BUILDS.add("good", &"entry").unwrap(),
            BUILDS.untag("good", "open"),
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
        ("-record-:builds:tag:all", opening()),
        ("-record-:builds:tag:open", opening()),
        ("-record-:builds:tag:open", without_opening()),
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
    let mut world = Server::start().await;
    let messages = || {
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
    };
    for (key, updates) in pushes() {
        let _: String = world.run(&["FLUSHALL"]).await;
        let key = format!("{{test}}:{key}");
        let _: String = world.run(&["SET", &key, "something else"]).await;
        let before = world.keyspace().await;

        let refused = world.bus.push_with(messages(), updates.clone()).await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            format!(
                "redis refused storing messages: WRONGTYPE {key} holds a string, which is not the bus's: remove it"
            )
        );
        assert!(world.keyspace().await == before, "{key}: {updates:?}");

        let _: u32 = world.run(&["DEL", &key]).await;
        let pushed = world.bus.push_with(messages(), updates).await.unwrap();
        assert_eq!((pushed.inserted, pushed.duplicates), (3, 0), "{key}");
    }
}

#[tokio::test]
async fn changes_of_records_that_meet_a_key_of_wrong_type_are_not_made() {
    let mut world = Server::start().await;
    for key in ["record:bad", "tag:all", "tag:open"] {
        let _: String = world.run(&["FLUSHALL"]).await;
        let key = format!("{{test}}:-record-:builds:{key}");
        let _: String = world.run(&["SET", &key, "something else"]).await;
        let before = world.keyspace().await;
        let updates = || {
            vec![
                BUILDS.add("good", &"entry").unwrap(),
                BUILDS.tag("good", "all"),
                BUILDS.untag("good", "open"),
                BUILDS.set("bad", Field::new("by"), &1).unwrap(),
            ]
        };
        let refused = world.bus.push_with(Vec::new(), updates()).await;
        assert!(
            matches!(&refused, Err(BusError::Refused { reason, .. }) if reason.contains(&key)),
            "{key}: {refused:?}"
        );
        assert!(world.keyspace().await == before, "{key}");
        let _: u32 = world.run(&["DEL", &key]).await;
        world.bus.push_with(Vec::new(), updates()).await.unwrap();
    }
}

#[tokio::test]
async fn compare_and_set_that_meets_a_key_of_wrong_type_names_it_and_changes_nothing() {
    let mut world = Server::start().await;
    for key in ["record:a", "record:b", "tag:all", "tag:open"] {
        let _: String = world.run(&["FLUSHALL"]).await;
        let key = format!("{{test}}:-record-:builds:{key}");
        let _: String = world.run(&["SET", &key, "something else"]).await;
        let before = world.keyspace().await;
        let change = || {
            BUILDS
                .compare_and_set("a", Field::new("by"), None, Some(&1))
                .unwrap()
        };
        let updates = || {
            vec![
                BUILDS.set("b", Field::new("by"), &1).unwrap(),
                BUILDS.tag("a", "all"),
                BUILDS.untag("a", "open"),
            ]
        };
        let refused = world.bus.compare_and_set(change(), updates()).await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            format!(
                "redis refused changing a record: WRONGTYPE {key} holds a string, which is not the bus's: remove it"
            )
        );
        assert!(world.keyspace().await == before, "{key}");
        let _: u32 = world.run(&["DEL", &key]).await;
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
    let mut world = Server::start().await;
    let key = "{test}:-record-:builds:record:bad";
    let _: String = world.run(&["SET", key, "something else"]).await;
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
