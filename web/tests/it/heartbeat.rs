//! The heartbeat says what a request would meet, on a real Redis.

use std::sync::Arc;

use build::BuildRequest;
use bus::{Bus, MemoryBus, Policy, Queue, RedisBus};
use runtime::SystemClock;
use serde_json::Value;
use testkit::RedisServer;
use web::WebSettings;

use crate::{GOOD, World, log, settings};

impl World {
    /// The status of the heartbeat, and the checks that failed.
    async fn heartbeat(&self) -> (u16, Vec<String>) {
        let (status, text) = self.get("/__heartbeat__").await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        let checks = answer["checks"].as_object().unwrap().iter();
        let failed = checks
            .filter(|(_, check)| check["status"] != "ok")
            .map(|(name, check)| {
                assert!(check["detail"].is_string(), "{text}");
                name.clone()
            });
        (status, failed.collect())
    }
}

#[tokio::test]
async fn read_only_redis_fails_heartbeat_and_requests() {
    let directory = tempfile::tempdir().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let bus = Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap());
    let world = World::serve(settings(bus)).await;
    assert_eq!(world.heartbeat().await, (200, vec![]));
    assert_eq!(
        server.command::<u32>(&["DBSIZE"]).await.unwrap(),
        0,
        "nothing is left of the check"
    );

    let () = server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .await
        .unwrap();
    assert_eq!(world.heartbeat().await, (503, vec!["bus_write".to_owned()]));
    let (status, text) = world.post(GOOD).await;
    assert!(
        status == 503 && text.contains("no memory left") && text.contains("restart this build"),
        "{text}"
    );
    let () = server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .await
        .unwrap();
    assert_eq!(world.heartbeat().await, (200, vec![]));

    let () = server
        .command(&["REPLICAOF", "127.0.0.1", "1"])
        .await
        .unwrap();
    assert_eq!(world.heartbeat().await, (503, vec!["bus_write".to_owned()]));
    let () = server.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    assert_eq!(world.heartbeat().await, (200, vec![]));
    assert_eq!(world.post(GOOD).await.0, 200);
}

#[tokio::test]
async fn full_queue_fails_the_heartbeat() {
    const ONE: Queue<BuildRequest> = Queue::new(
        "build:load",
        Policy {
            max_depth: Some(1),
            ..Policy::DEFAULT
        },
    );
    let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(Arc::new(SystemClock)));
    let world = World::serve(WebSettings {
        log: log(ONE),
        ..settings(bus)
    })
    .await;
    assert_eq!(world.heartbeat().await, (200, vec![]));
    assert_eq!(world.post(GOOD).await.0, 200);
    assert_eq!(
        world.heartbeat().await,
        (503, vec!["queue_room".to_owned()])
    );
}

/// Builds that are stored already are accepted again, as Harbormaster may send a request twice.
#[tokio::test]
async fn queue_at_its_bound_in_bytes_refuses_new_builds_only_and_fails_the_heartbeat() {
    const SMALL: Queue<BuildRequest> = Queue::new(
        "build:load",
        Policy {
            max_bytes: Some(2000),
            ..Policy::DEFAULT
        },
    );
    let directory = tempfile::tempdir().unwrap();
    let server = RedisServer::start(directory.path()).await.unwrap();
    let redis = RedisBus::new(&server.options(), &SystemClock).unwrap();
    let memory = MemoryBus::new(Arc::new(SystemClock));
    let buses: [Arc<dyn Bus>; 2] = [Arc::new(redis), Arc::new(memory)];
    for bus in buses {
        let world = World::serve(WebSettings {
            log: log(SMALL),
            ..settings(bus)
        })
        .await;
        let query = |number: usize| {
            let repository = "PHID-REPO-gheyr7w2d2ab3qg236ha";
            format!("diff=3&repo={repository}&revision=1&target=PHID-HMBT-{number:020}")
        };
        let mut accepted = 0;
        let refused = loop {
            let (status, text) = world.post(&query(accepted)).await;
            if status != 200 {
                break (status, text);
            }
            accepted += 1;
            assert!(accepted < 50, "it has no end");
        };
        assert!(accepted > 0 && refused.0 == 503, "{accepted} {refused:?}");
        assert!(
            refused.1.contains("too many builds wait in its queue"),
            "{refused:?}"
        );
        for number in 0..accepted {
            assert_eq!(world.post(&query(number)).await.0, 200, "stored already");
        }
        assert_eq!(world.post(&query(accepted)).await.0, 503);
        assert_eq!(
            world.heartbeat().await,
            (503, vec!["queue_room".to_owned()])
        );
    }
}
