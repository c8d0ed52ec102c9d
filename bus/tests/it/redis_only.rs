//! What only a server of its own can do to us.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{
    Admin, Bus, BusError, Consumer, Context, DeadLetterFilter, DeadLetterPayload, Depth, Field,
    Handler, MessageSelector, Outcome, Outgoing, Policy, Producer, Queue, QueueAdmin, RecordStore,
    RedisBus, Reserve, SettleRequest, Settlement,
};
use parking_lot::Mutex;
use runtime::{Clock, Service, Shutdown, SystemClock};
use tempfile::TempDir;
use testkit::RedisServer;
use tokio::sync::Semaphore;

use crate::world::{NOTES, Note, OUT, PARTITIONED, note, text, written};

struct Server {
    server: RedisServer,
    bus: Arc<RedisBus>,
    _directory: TempDir,
}

impl Server {
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = RedisServer::start(directory.path()).await.unwrap();
        let bus = Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap());
        Self {
            server,
            bus,
            _directory: directory,
        }
    }

    async fn command<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(self.server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut cmd = redis::Cmd::new();
        for part in command {
            cmd.arg(*part);
        }
        cmd.query_async(&mut connection).await.unwrap()
    }

    fn packed(&self, text: &str) -> bus::Outgoing {
        NOTES.pack(&note(text), &SystemClock).unwrap()
    }
}

#[tokio::test]
async fn something_that_is_not_ours_in_a_stream_becomes_a_dead_letter_and_the_others_flow() {
    let world = Server::start().await;
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
    world.bus.push(vec![world.packed("ok")]).await.unwrap();
    let taken = world
        .bus
        .reserve(&NOTES.spec(), Reserve::now(10))
        .await
        .unwrap();
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["ok"]);
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
async fn a_foreign_entry_ends_as_one_dead_letter_and_stays_away_once_it_is_dropped() {
    let world = Server::start().await;
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
    let operator = Admin::new(world.bus.clone(), &[NOTES.spec(), PARTITIONED.spec()]);
    for (queue, stream, letters) in [
        (NOTES, "{test}:notes:ready", 2),
        (PARTITIONED, "{test}:partitioned:partition:x", 1),
    ] {
        let spec = queue.spec();
        for _ in 0..3 {
            assert!(
                world
                    .bus
                    .reserve(&spec, Reserve::now(10))
                    .await
                    .unwrap()
                    .is_empty()
            );
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
        let shown = operator
            .dead_letter(Some(spec.name), &found[0].id)
            .await
            .unwrap();
        assert!(shown.contents.body_bytes > 0, "{shown:?}");
        let named = DeadLetterFilter {
            ids: vec![found[0].id.clone()],
            ..DeadLetterFilter::default()
        };
        let chosen = operator.choose(&named).await.unwrap();
        let refused = operator
            .requeue_dead(&chosen)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(&found[0].id) && refused.contains("no message"),
            "{refused}"
        );
        let all = DeadLetterFilter {
            queue: Some(spec.name.to_owned()),
            all: true,
            ..DeadLetterFilter::default()
        };
        let chosen = operator.choose(&all).await.unwrap();
        let left = operator.requeue_dead(&chosen).await.unwrap();
        assert_eq!((left.requeued, left.unreadable.len()), (0, letters));

        assert_eq!(operator.drop_dead(&chosen).await.unwrap(), letters);
        assert!(
            world
                .bus
                .reserve(&spec, Reserve::now(10))
                .await
                .unwrap()
                .is_empty()
        );
        let depth = world.bus.depth(&spec).await.unwrap();
        assert_eq!(
            (depth.unfinished(), depth.dead),
            (0, 0),
            "it does not come back"
        );
    }
}

#[tokio::test]
async fn all_that_waits_is_dropped_though_some_of_it_is_not_ours() {
    let world = Server::start().await;
    let _: String = world
        .command(&["XADD", "{test}:notes:ready", "*", "some", "field"])
        .await;
    let _: u32 = world
        .command(&["ZADD", "{test}:notes:delayed", "1", "garbage that waits"])
        .await;
    world.bus.push(vec![world.packed("ok")]).await.unwrap();
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
    let world = Server::start().await;
    let _: String = world
        .command(&["SET", "{test}:out:ready", "not a stream"])
        .await;
    let keyed = |queue: &Queue<Note>, text: String| {
        vec![Outgoing {
            key: Some(text.clone()),
            ..queue.pack(&note(&text), &SystemClock).unwrap()
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
        "what was not stored is not taken for stored"
    );
}

#[tokio::test]
async fn a_server_that_answers_and_stores_nothing_differs_from_one_that_does() {
    let world = Server::start().await;
    world.bus.probe_write().await.unwrap();
    assert_eq!(
        world.command::<u32>(&["DBSIZE"]).await,
        0,
        "nothing is left of it"
    );
    let _: String = world.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    world.bus.ping().await.unwrap();
    let full = world.bus.probe_write().await;
    assert!(matches!(full, Err(BusError::Memory { .. })), "{full:?}");
    let _: String = world.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let _: String = world.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    world.bus.ping().await.unwrap();
    let replica = world.bus.probe_write().await;
    assert!(
        matches!(replica, Err(BusError::Redis { .. })),
        "{replica:?}"
    );
}

#[tokio::test]
async fn what_was_stored_survives_a_restart_of_redis_and_work_goes_on() {
    let mut world = Server::start().await;
    world
        .bus
        .push(vec![world.packed("held"), world.packed("ready")])
        .await
        .unwrap();
    let held = world
        .bus
        .reserve(&NOTES.spec(), Reserve::now(1))
        .await
        .unwrap()
        .pop()
        .unwrap();
    // A power cut may lose the last second (`appendfsync everysec`); a file that is rewritten is synced whole.
    let _: String = world
        .command(&["CONFIG", "SET", "appendfsync", "always"])
        .await;
    world.bus.ping().await.unwrap();
    world.bus.extend(&held.lease).await.unwrap();
    world.server.stop().unwrap();
    let gone = world.bus.push(vec![world.packed("while it is away")]).await;
    assert!(
        matches!(
            gone,
            Err(BusError::Connection { .. } | BusError::Redis { .. })
        ),
        "{gone:?}"
    );
    world.server.restart().await.unwrap();

    let next = world
        .bus
        .reserve(&NOTES.spec(), Reserve::now(1))
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(text(&next), "ready");
    world
        .bus
        .settle(&held.lease, &Settlement::Done { emit: Vec::new() })
        .await
        .unwrap();
}

/// Notes what it begins with, and ends with each message when it may.
struct Held {
    begun: Mutex<Vec<String>>,
    may_end: Semaphore,
}

#[async_trait]
impl Handler<Note> for Arc<Held> {
    type Error = BusError;

    async fn handle(&self, note: Note, _: &Context) -> Result<Outcome, BusError> {
        self.begun.lock().push(note.text);
        self.may_end
            .acquire()
            .await
            .expect("it is not closed")
            .forget();
        Ok(Outcome::Done)
    }
}

#[tokio::test]
async fn worker_that_lives_keeps_its_message_over_an_outage_that_is_longer_than_its_lease() {
    const LEASE: Duration = Duration::from_secs(3);
    const LONG: Queue<Note> = Queue::new(
        "long",
        Policy {
            lease: LEASE,
            ..Policy::DEFAULT
        },
    );
    let mut world = Server::start().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let handler = Arc::new(Held {
        begun: Mutex::default(),
        may_end: Semaphore::new(0),
    });
    let shutdown = Shutdown::new();
    let consumer = Consumer::new(world.bus.clone(), clock.clone(), LONG, handler.clone());
    let running = tokio::spawn(Box::new(consumer).run(shutdown.clone()));
    let producer = Producer::new(world.bus.clone(), clock.clone());
    let begin = async |text: &str| {
        producer.send(&LONG, &note(text)).await.unwrap();
        while !handler.begun.lock().iter().any(|begun| begun == text) {
            clock.sleep(Duration::from_millis(10)).await;
        }
    };
    begin("held").await;
    world.server.stop().unwrap();
    clock.sleep(LEASE + LEASE / 2).await;
    world.server.restart().await.unwrap();

    // Reservations go on.
    begin("after it").await;
    assert_eq!(*handler.begun.lock(), ["held", "after it"]);
    handler.may_end.add_permits(2);
    while world.bus.depth(&LONG.spec()).await.unwrap() != Depth::default() {
        clock.sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(*handler.begun.lock(), ["held", "after it"]);
    shutdown.stop();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_redis_that_forgot_its_scripts_or_everything_is_worked_with() {
    let world = Server::start().await;
    world.bus.push(vec![world.packed("a")]).await.unwrap();
    let _: String = world.command(&["SCRIPT", "FLUSH"]).await;
    let taken = world
        .bus
        .reserve(&NOTES.spec(), Reserve::now(1))
        .await
        .unwrap()
        .pop()
        .unwrap();
    let _: String = world.command(&["FLUSHALL"]).await;
    let lost = world
        .bus
        .settle(
            &taken.lease,
            &Settlement::Done {
                emit: vec![world.packed("b")],
            },
        )
        .await;
    assert!(matches!(lost, Err(BusError::LeaseLost { .. })), "{lost:?}");
    assert!(
        world
            .bus
            .reserve(&NOTES.spec(), Reserve::now(1))
            .await
            .unwrap()
            .is_empty()
    );
    world.bus.push(vec![world.packed("c")]).await.unwrap();
    assert_eq!(
        text(
            &world
                .bus
                .reserve(&NOTES.spec(), Reserve::now(1))
                .await
                .unwrap()[0]
        ),
        "c"
    );
}

#[tokio::test]
async fn many_due_messages_and_large_ones_are_moved_in_chunks() {
    let world = Server::start().await;
    let soon = Duration::from_millis(1);
    let small = (0..250).map(|n| bus::Outgoing {
        after: soon,
        ..world.packed(&format!("{n}"))
    });
    let large = (0..3).map(|_| bus::Outgoing {
        after: soon,
        ..world.packed(&"x".repeat(3 << 20))
    });
    world.bus.push(small.chain(large).collect()).await.unwrap();
    SystemClock.sleep(Duration::from_millis(20)).await;
    let mut taken = Vec::new();
    let mut chunks = Vec::new();
    while taken.len() < 253 {
        let some = world
            .bus
            .reserve(&NOTES.spec(), Reserve::now(1000))
            .await
            .unwrap();
        assert!(!some.is_empty());
        chunks.push(some.len());
        taken.extend(some);
    }
    assert!(
        chunks.len() >= 4 && chunks.iter().all(|chunk| *chunk <= 100),
        "{chunks:?}"
    );
}

#[tokio::test]
async fn a_reservation_that_is_dropped_while_it_waits_takes_nothing_and_connections_stay_bounded() {
    let world = Server::start().await;
    for round in 0..50 {
        let request = Reserve {
            wait: Duration::from_secs(60),
            ..Reserve::now(1)
        };
        let spec = NOTES.spec();
        let dropped =
            tokio::time::timeout(Duration::from_millis(5), world.bus.reserve(&spec, request)).await;
        assert!(dropped.is_err(), "round {round}: nothing was there");
    }
    world.bus.push(vec![world.packed("a")]).await.unwrap();
    let taken = world
        .bus
        .reserve(&NOTES.spec(), Reserve::now(1))
        .await
        .unwrap();
    assert_eq!(taken.len(), 1, "no dropped reservation holds it");
    let clients: String = world.command(&["CLIENT", "LIST"]).await;
    assert!(clients.lines().count() <= 17, "{clients}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_not_waited_for_without_end() {
    let world = Server::start().await;
    let info: String = world.command(&["INFO", "server"]).await;
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"))
        .unwrap()
        .trim()
        .to_owned();
    let bus = world.bus.clone();
    let spec = NOTES.spec();
    let request = Reserve {
        wait: Duration::from_secs(3600),
        ..Reserve::now(1)
    };
    let waiting = tokio::spawn(async move { bus.reserve(&spec, request).await });
    while !world
        .command::<String>(&["CLIENT", "LIST"])
        .await
        .contains("cmd=xread")
    {}
    assert!(
        std::process::Command::new("kill")
            .args(["-STOP", &pid])
            .status()
            .unwrap()
            .success()
    );
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    assert!(
        std::process::Command::new("kill")
            .args(["-CONT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let ended = ended.expect("the reservation ends").unwrap();
    assert!(ended.is_err(), "{ended:?}");
}

/// Else no step could begin, and nothing that fills the memory would ever end.
#[tokio::test]
async fn a_full_redis_refuses_messages_and_takes_what_is_recorded_of_those_it_has() {
    let world = Server::start().await;
    let store = RecordStore {
        name: "builds",
        retention: Duration::from_secs(60),
    };
    let begins = || vec![store.add("a", &"begins").unwrap()];
    world
        .bus
        .push_with(vec![world.packed("a")], begins())
        .await
        .unwrap();
    let _: String = world.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = world.bus.push_with(vec![world.packed("b")], begins()).await;
    assert!(
        matches!(refused, Err(BusError::Memory { .. })),
        "{refused:?}"
    );
    world.bus.push_with(Vec::new(), begins()).await.unwrap();
    let record = world
        .bus
        .records(&store, &["a".to_owned()])
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!(record.entries::<String>().unwrap().len(), 2);
}

#[tokio::test]
async fn a_message_that_could_not_be_stored_does_not_open_its_record() {
    let world = Server::start().await;
    let store = RecordStore {
        name: "builds",
        retention: Duration::from_secs(60),
    };
    let send = async || {
        world
            .bus
            .push_with(
                vec![world.packed("a")],
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

#[tokio::test]
async fn an_evicting_server_is_refused() {
    let world = Server::start().await;
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

/// Whatever order records are written in, and whether with a message, with its settlement or alone.
#[tokio::test]
async fn every_key_of_a_record_expires() {
    const RETENTION: Duration = Duration::from_secs(600);
    const BUILDS: RecordStore = RecordStore {
        name: "builds",
        retention: RETENTION,
    };
    let world = Server::start().await;
    let entry = |record: &str| BUILDS.add(record, &"x").unwrap();
    let once = |record: &str| BUILDS.set_once(record, Field::new("end"), &1).unwrap();
    let accepted = vec![
        entry("a"),
        BUILDS.set("a", Field::new("now"), &1).unwrap(),
        BUILDS.tag("a", "open"),
    ];
    world
        .bus
        .push_with(vec![world.packed("a")], accepted)
        .await
        .unwrap();
    world
        .bus
        .push_with(
            Vec::new(),
            vec![once("b"), BUILDS.tag("b", "open"), BUILDS.tag("b", "all")],
        )
        .await
        .unwrap();
    let taken = world
        .bus
        .reserve(&NOTES.spec(), Reserve::now(1))
        .await
        .unwrap()
        .pop()
        .unwrap();
    let done = Settlement::Done { emit: Vec::new() };
    let ended = [
        BUILDS.erase("a"),
        entry("a"),
        once("a"),
        BUILDS.untag("a", "open"),
        BUILDS.tag("a", "all"),
    ];
    let ending = SettleRequest {
        lease: &taken.lease,
        how: &done,
        updates: &ended,
    };
    assert_eq!(
        written(world.bus.settle_all(&[ending]).await.unwrap()),
        [true]
    );
    let gone = vec![
        entry("c"),
        BUILDS.tag("c", "alone"),
        BUILDS.untag("c", "alone"),
        BUILDS.erase("c"),
    ];
    world.bus.push_with(Vec::new(), gone).await.unwrap();

    let mut keys: Vec<String> = world.command(&["KEYS", "{test}:-record-:*"]).await;
    keys.sort();
    assert_eq!(
        keys,
        ["record:a", "record:b", "tag:all", "tag:open"]
            .map(|key| format!("{{test}}:-record-:builds:{key}"))
    );
    for key in keys {
        let left: i64 = world.command(&["PTTL", &key]).await;
        assert!((1..=600_000).contains(&left), "{key}: {left}");
    }
}

#[test]
fn options_do_not_show_the_password() {
    let url = "redis://:hunter2@localhost:1/".into();
    let options = bus::RedisOptions {
        url,
        namespace: "x".to_owned(),
        ca: None,
        waiters: 1,
    };
    assert!(!format!("{options:?}").contains("hunter2"));
    let bad = bus::RedisOptions {
        url: "nonsense://:hunter2@x".into(),
        ..options
    };
    let error = RedisBus::new(&bad, &SystemClock).err().unwrap();
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
}
