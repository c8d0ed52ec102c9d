//! A Redis that is away, restarts, loses its data, stops answering, or has no memory left.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{
    Bus, BusError, Consumer, Context, Depth, Handler, Outcome, Policy, Producer, Queue, QueueAdmin,
    RecordStore, Reserve, Settlement,
};
use parking_lot::Mutex;
use runtime::{Clock, Service, Shutdown, SystemClock};
use tokio::sync::Semaphore;

use crate::{
    redis_world::RedisWorld,
    world::{NOTES, Note, done, note, packed, text},
};

#[tokio::test]
async fn write_probe_fails_on_a_server_that_answers_and_stores_nothing() {
    let world = RedisWorld::start().await;
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
async fn messages_survive_a_restart_of_redis_and_work_goes_on() {
    let mut world = RedisWorld::start().await;
    world
        .bus
        .push(vec![packed(&NOTES, "held"), packed(&NOTES, "ready")])
        .await
        .unwrap();
    let held = world.reserve(&NOTES).await;
    // A power cut may lose the last second (`appendfsync everysec`); a file that is rewritten is synced whole.
    let _: String = world
        .command(&["CONFIG", "SET", "appendfsync", "always"])
        .await;
    world.bus.ping().await.unwrap();
    world.bus.extend(&held.lease).await.unwrap();
    world.server.stop().unwrap();
    let gone = world
        .bus
        .push(vec![packed(&NOTES, "while it is away")])
        .await;
    assert!(
        matches!(
            gone,
            Err(BusError::Connection { .. } | BusError::Redis { .. })
        ),
        "{gone:?}"
    );
    world.server.restart().await.unwrap();

    let next = world.reserve(&NOTES).await;
    assert_eq!(text(&next), "ready");
    world.bus.settle(&held.lease, &done()).await.unwrap();
}

/// Notes each message that it begins with, and ends after a permit.
struct GatedHandler {
    begun: Mutex<Vec<String>>,
    may_end: Semaphore,
}

#[async_trait]
impl Handler<Note> for Arc<GatedHandler> {
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
    let mut world = RedisWorld::start().await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let handler = Arc::new(GatedHandler {
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
    // A kill may lose the reservation: Redis delays writes to its file while the disk syncs it.
    world.server.stop_gently().await.unwrap();
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
async fn redis_that_lost_its_scripts_or_its_data_is_used_again() {
    let world = RedisWorld::start().await;
    world.send(&NOTES, "a").await;
    let _: String = world.command(&["SCRIPT", "FLUSH"]).await;
    let delivery = world.reserve(&NOTES).await;
    let _: String = world.command(&["FLUSHALL"]).await;
    let lost = world
        .bus
        .settle(
            &delivery.lease,
            &Settlement::Done {
                emit: vec![packed(&NOTES, "b")],
            },
        )
        .await;
    assert!(matches!(lost, Err(BusError::LeaseLost { .. })), "{lost:?}");
    assert!(world.reserve_up_to(&NOTES, 1).await.is_empty());
    world.send(&NOTES, "c").await;
    assert_eq!(text(&world.reserve_up_to(&NOTES, 1).await[0]), "c");
}

#[tokio::test]
async fn dropped_reservation_loses_no_message_and_connections_stay_bounded() {
    let world = RedisWorld::start().await;
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
    world.send(&NOTES, "a").await;
    let deliveries = world.reserve_up_to(&NOTES, 1).await;
    assert_eq!(deliveries.len(), 1, "no dropped reservation holds it");
    let clients: String = world.command(&["CLIENT", "LIST"]).await;
    assert!(clients.lines().count() <= 17, "{clients}");
}

#[tokio::test]
async fn server_that_stops_answering_ends_the_wait() {
    let world = RedisWorld::start().await;
    let info: String = world.command(&["INFO", "server"]).await;
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("process_id:"))
        .unwrap()
        .trim()
        .to_owned();
    let signal = |name: &str| {
        let mut kill = std::process::Command::new("kill");
        let status = kill.args([&format!("-{name}"), &pid]).status().unwrap();
        assert!(status.success());
    };
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
    signal("STOP");
    let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    signal("CONT");
    let ended = ended.expect("the reservation ends").unwrap();
    assert!(ended.is_err(), "{ended:?}");
}

/// Else no step could begin, and nothing that fills the memory would ever end.
#[tokio::test]
async fn full_redis_refuses_messages_and_accepts_records_of_those_it_has() {
    let world = RedisWorld::start().await;
    let store = RecordStore {
        name: "builds",
        retention: Duration::from_secs(60),
    };
    let begins = || vec![store.add("a", &"begins").unwrap()];
    world
        .bus
        .push_with(vec![packed(&NOTES, "a")], begins())
        .await
        .unwrap();
    let _: String = world.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = world
        .bus
        .push_with(vec![packed(&NOTES, "b")], begins())
        .await;
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
    assert_eq!(record.events::<String>().unwrap().len(), 2);
}
