//! The routes for queues, messages and dead letters.

use std::time::Duration;

use bus::Reserve;
use serde_json::json;

use super::PARTITIONED;
use crate::{GOOD, World};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn queues_and_their_messages_are_listed() {
    let world = World::with_api().await;
    assert_eq!(world.post(GOOD).await.0, 200);
    let id = world.send("a", Duration::ZERO).await;
    world.send("a", HOUR).await;
    let answer = world.ok("GET", "queues", "").await;
    let queues = answer["queues"].as_array().unwrap();
    let row = |at: usize| {
        let queue = &queues[at];
        (
            queue["queue"].as_str().unwrap(),
            queue["ready"].as_u64().unwrap(),
            queue["delayed"].as_u64().unwrap(),
        )
    };
    assert_eq!(
        (row(0), row(1)),
        (("build:load", 1, 0), ("jobs:partitioned", 1, 1))
    );
    assert_eq!(
        (&queues[0]["paused"], queues[0]["oldest_seconds"].is_f64()),
        (&json!(false), true),
        "{answer}"
    );

    let answer = world
        .ok("GET", "queues/jobs:partitioned/messages", "")
        .await;
    let messages = answer["messages"].as_array().unwrap();
    assert_eq!(
        (messages.len(), &messages[0]["id"], &messages[0]["state"]),
        (2, &json!(id), &json!("ready"))
    );
    assert_eq!(
        (&messages[1]["state"], messages[1]["due"].is_string()),
        (&json!("delayed"), true),
        "{answer}"
    );
    assert_eq!(
        (&messages[0]["partition"], &messages[0]["version"]),
        (&json!("a"), &json!(3))
    );
    assert!(messages[0].get("body").is_none(), "a list has no bodies");
    let answer = world
        .ok("GET", "queues/jobs%3Apartitioned/messages?limit=1", "")
        .await;
    assert_eq!(answer["messages"].as_array().unwrap().len(), 1);
    let answer = world
        .ok("GET", &format!("queues/jobs:partitioned/messages/{id}"), "")
        .await;
    assert_eq!(answer["body"], json!({"partition": "a"}));
}

#[tokio::test]
async fn waiting_messages_are_requeued_and_dropped() {
    let world = World::with_api().await;
    let delayed = world.send("a", HOUR).await;
    world.send("b", HOUR).await;
    let one = json!({"id": delayed}).to_string();
    assert_eq!(
        world
            .ok("POST", "queues/jobs:partitioned/requeue", &one)
            .await,
        json!({"requeued": 1})
    );
    let (status, answer) = world
        .call("POST", "queues/jobs:partitioned/requeue", &one)
        .await;
    assert_eq!(
        (
            status,
            answer["error"]
                .as_str()
                .unwrap()
                .contains("that is delayed")
        ),
        (404, true),
        "{answer}"
    );
    assert_eq!(
        world
            .ok(
                "POST",
                "queues/jobs:partitioned/requeue",
                r#"{"all": true}"#
            )
            .await,
        json!({"requeued": 1})
    );
    assert_eq!(
        world.ok("POST", "queues/jobs:partitioned/drop", &one).await,
        json!({"dropped": 1})
    );
    assert_eq!(
        world
            .ok("POST", "queues/jobs:partitioned/drop", r#"{"all": true}"#)
            .await,
        json!({"dropped": 1})
    );
    assert_eq!(
        world.bus.depth(&PARTITIONED.spec()).await.unwrap(),
        bus::Depth::default()
    );
}

#[tokio::test]
async fn queue_is_paused_and_resumed() {
    let world = World::with_api().await;
    assert_eq!(
        world.ok("POST", "queues/build:load/pause", "").await["paused"],
        json!(true)
    );
    assert_eq!(world.post(GOOD).await.0, 200, "builds are accepted");
    assert!(
        world
            .bus
            .reserve(&crate::LOAD.spec(), Reserve::now(1))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        world.ok("POST", "queues/build:load/resume", "{}").await["paused"],
        json!(false)
    );
    assert_eq!(
        world
            .bus
            .reserve(&crate::LOAD.spec(), Reserve::now(1))
            .await
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn dead_letters_are_listed_shown_requeued_and_dropped() {
    let world = World::with_api().await;
    let away = world.dead_letter("a", "phabricator is away & gone").await;
    let poison = world.dead_letter("b", "poison").await;
    let ids = async |query: &str| -> Vec<String> {
        let answer = world.ok("GET", &format!("dead-letters{query}"), "").await;
        let letters = answer["dead_letters"].as_array().unwrap().clone();
        letters
            .iter()
            .map(|letter| letter["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids("").await, [poison.clone(), away.clone()]);
    assert_eq!(ids("?limit=1").await, [poison.as_str()]);
    assert_eq!(
        ids("?queue=jobs:partitioned&reason=away%20%26").await,
        [away.as_str()]
    );
    assert!(ids("?queue=build:load").await.is_empty());
    let shown = world
        .ok("GET", &format!("dead-letters/jobs:partitioned/{away}"), "")
        .await;
    assert_eq!(
        (&shown["body"], &shown["partition"]),
        (&json!({"partition": "a"}), &json!("a")),
        "{shown}"
    );
    assert_eq!(
        (&shown["version"], shown["created_at"].is_string()),
        (&json!(3), true),
        "{shown}"
    );

    let matching = json!({"queue": "jobs:partitioned", "reason": "away"}).to_string();
    assert_eq!(
        world.ok("POST", "dead-letters/requeue", &matching).await,
        json!({"requeued": 1})
    );
    assert_eq!(
        world
            .ok(
                "POST",
                "dead-letters/drop",
                &json!({"ids": [poison]}).to_string()
            )
            .await,
        json!({"dropped": 1})
    );
    assert_eq!(
        world
            .call(
                "POST",
                "dead-letters/drop",
                &json!({"ids": [poison]}).to_string()
            )
            .await
            .0,
        404
    );
    assert_eq!(
        world
            .ok("POST", "dead-letters/drop", r#"{"all": true}"#)
            .await,
        json!({"dropped": 0})
    );
    let depth = world.bus.depth(&PARTITIONED.spec()).await.unwrap();
    assert_eq!((depth.ready, depth.dead), (1, 0));
}
