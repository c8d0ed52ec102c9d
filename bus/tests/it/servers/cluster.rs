//! A Cluster of three masters.

use std::{sync::Arc, time::Duration};

use bus::{
    Bus, Field, Outgoing, Policy, Queue, QueueAdmin, RecordStore, RedisBus, RedisOptions, Reserve,
    Settlement,
};
use runtime::{Clock, SystemClock};
use tempfile::TempDir;
use testkit::{RedisCluster, RedisServer};
use tokio::sync::Notify;

use super::{connect, passing, persist, reserve, wait_begins};
use crate::world::{NOTES, Note, OUT, PARTITIONED, POLICY, done, packed, text};

const RECORDS: RecordStore = RecordStore {
    name: "records",
    retention: Duration::from_secs(600),
};

/// A namespace for each master.
async fn namespaces(cluster: &RedisCluster) -> [String; 3] {
    let mut found = [None, None, None];
    for name in ('a'..='z').map(String::from) {
        let master = cluster.master(&name).await.unwrap();
        found[master].get_or_insert(name);
    }
    found.map(|name| name.expect("26 names reach each master"))
}

async fn every_operation(bus: &Arc<RedisBus>, server: &RedisServer) {
    let soon = Duration::from_millis(50);
    bus.ping().await.unwrap();
    let delayed = Outgoing {
        after: soon,
        ..packed(&NOTES, "late")
    };
    bus.push(vec![
        packed(&NOTES, "a"),
        packed(&PARTITIONED, "one"),
        packed(&PARTITIONED, "two"),
        delayed,
    ])
    .await
    .unwrap();
    bus.push(vec![packed(&NOTES, "b")]).await.unwrap();
    for is_first in [true, false] {
        let change = RECORDS
            .compare_and_set("a", Field::new("by"), None, Some(&1))
            .unwrap();
        let updates = vec![
            RECORDS.add("b", &"won").unwrap(),
            RECORDS.add_to_index("b", "all"),
        ];
        assert_eq!(
            bus.compare_and_set(change, updates).await.unwrap(),
            is_first
        );
    }
    let records = bus.records(&RECORDS, &["b".to_owned()]).await.unwrap();
    assert_eq!(records[0].events::<String>().unwrap(), ["won"]);

    let delivery = reserve(bus, &NOTES).await;
    bus.extend(&delivery.lease).await.unwrap();
    let emit = vec![packed(&OUT, "of a"), packed(&PARTITIONED, "three")];
    bus.settle(&delivery.lease, &Settlement::Done { emit })
        .await
        .unwrap();
    assert_eq!(text(&reserve(bus, &OUT).await), "of a");

    let b = reserve(bus, &NOTES).await;
    assert_eq!(text(&b), "b");
    let id = b.envelope.id;
    let dead = Settlement::Dead {
        id,
        reason: "no good".to_owned(),
        attempts: 1,
        emit: Vec::new(),
    };
    bus.settle(&b.lease, &dead).await.unwrap();
    let late = reserve(bus, &NOTES).await;
    assert_eq!(text(&late), "late");
    bus.settle(&late.lease, &Settlement::Retry { after: soon })
        .await
        .unwrap();
    let late = reserve(bus, &NOTES).await;
    assert_eq!((text(&late).as_str(), late.attempt), ("late", 2));
    bus.settle(&late.lease, &Settlement::Release).await.unwrap();
    let late = reserve(bus, &NOTES).await;
    bus.settle(&late.lease, &done()).await.unwrap();
    let letters = bus.dead(&NOTES.spec(), "", 10).await.unwrap();
    assert_eq!(
        bus.requeue_dead(&NOTES.spec(), &[letters[0].id.clone()])
            .await
            .unwrap(),
        1
    );
    assert_eq!(text(&reserve(bus, &NOTES).await), "b");

    let mut partitions: Vec<String> = bus
        .reserve(&PARTITIONED.spec(), Reserve::now(10))
        .await
        .unwrap()
        .iter()
        .map(text)
        .collect();
    partitions.sort_unstable();
    assert_eq!(
        partitions,
        ["one", "two"],
        "the third shares a partition with the second"
    );

    // Waits are ended where they wait.
    for queue in [OUT, PARTITIONED] {
        let interrupt = Arc::new(Notify::new());
        let wait = Duration::from_secs(3600);
        let request = Reserve {
            wait,
            interrupt: interrupt.clone(),
            skip_partitions: vec!["t".to_owned()],
            ..Reserve::now(1)
        };
        let waiting = tokio::spawn({
            let bus = bus.clone();
            async move { bus.reserve(&queue.spec(), request).await }
        });
        wait_begins(server).await;
        interrupt.notify_one();
        assert!(waiting.await.unwrap().unwrap().is_empty());
    }
}

#[tokio::test]
async fn every_operation_works_whichever_master_has_the_slot() {
    let directory = TempDir::new().unwrap();
    let cluster = RedisCluster::start(directory.path()).await.unwrap();
    let ports = cluster.ports();
    let orders = [[0, 1, 2], [1, 2, 0], [2, 0, 1]].map(|order| order.map(|place| ports[place]));
    let mut seeds = orders.map(Vec::from).to_vec();
    // One is enough, and one that nobody listens on does no harm.
    seeds.push(vec![1, ports[0]]);
    let namespaces = namespaces(&cluster).await;
    for (round, seeds) in seeds.iter().enumerate() {
        for (server, namespace) in cluster.nodes().zip(&namespaces) {
            let namespace = namespace.clone();
            let bus = connect(&RedisOptions {
                namespace: namespace.clone(),
                ..cluster.options(seeds)
            });
            every_operation(&bus, server).await;
            let keys: Vec<String> = server.command(&["KEYS", "*"]).await.unwrap();
            assert!(
                !keys.is_empty(),
                "round {round}: this is the master of {namespace}"
            );
            assert!(
                keys.iter()
                    .all(|key| key.starts_with(&format!("{{{namespace}}}:"))),
                "{keys:?}"
            );
            let () = server.command(&["FLUSHALL"]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn messages_survive_a_slot_that_moves() {
    const MESSAGES: usize = 300;
    /// Leases outlast the moves, so nothing comes twice.
    const PATIENT: Policy = Policy {
        lease: Duration::from_secs(120),
        ..POLICY
    };
    const WORK: Queue<Note> = Queue::new("work", PATIENT);
    const HELD: Queue<Note> = Queue::new("held", PATIENT);
    let directory = TempDir::new().unwrap();
    let cluster = RedisCluster::start(directory.path()).await.unwrap();
    let options = cluster.options(&cluster.ports());
    let bus = connect(&options);
    bus.push(vec![packed(&HELD, "held")]).await.unwrap();
    let held = reserve(&bus, &HELD).await;

    // Pushes and waits go on all the time.
    let pushing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for number in 0..MESSAGES {
                let after = Duration::from_millis(if number % 3 == 0 { 100 } else { 0 });
                let delayed = || Outgoing {
                    after,
                    ..packed(&WORK, &format!("{number} with another"))
                };
                persist("a push", || {
                    bus.push(vec![packed(&WORK, &format!("{number}"))])
                })
                .await;
                persist("a push", || {
                    bus.push(vec![delayed(), packed(&OUT, "another")])
                })
                .await;
                SystemClock.sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let handling = tokio::spawn({
        let bus = connect(&options);
        async move {
            let mut handled = Vec::new();
            while handled.len() < 2 * MESSAGES {
                let request = || Reserve {
                    wait: Duration::from_secs(1),
                    ..Reserve::now(10)
                };
                let some = persist("a reservation", || async {
                    bus.reserve(&WORK.spec(), request()).await
                })
                .await;
                for delivery in some {
                    persist("a settlement", || async {
                        bus.settle(&delivery.lease, &done()).await
                    })
                    .await;
                    handled.push(text(&delivery));
                }
            }
            handled
        }
    });
    for _ in 0..3 {
        let from = cluster.master("test").await.unwrap();
        let moving = cluster.begin_to_move("test", (from + 1) % 3).await.unwrap();
        // Half-way, what needs all keys is refused, and nothing is split.
        assert!(moving.move_a_key().await.unwrap());
        passing(bus.extend(&held.lease).await);
        moving.finish().await.unwrap();
        persist("a renewal", || bus.extend(&held.lease)).await;
    }
    pushing.await.unwrap();
    let mut handled = handling.await.unwrap();
    handled.sort_unstable();
    let mut pushed: Vec<String> = (0..MESSAGES)
        .flat_map(|number| [format!("{number}"), format!("{number} with another")])
        .collect();
    pushed.sort_unstable();
    assert_eq!(handled, pushed);
    assert_eq!(bus.depth(&OUT.spec()).await.unwrap().ready, MESSAGES);
}
