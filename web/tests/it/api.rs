//! The API of operators.

use std::{sync::Arc, time::Duration};

use bus::{Message, Outgoing, Policy, Queue, Reserve, Settlement};
use runtime::SystemClock;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use web::WebSettings;

use crate::{GOOD, World, away::Away, memory, settings};

#[derive(Serialize, Deserialize)]
pub struct Job {
    partition: String,
}

impl Message for Job {
    const VERSION: u16 = 3;
}

pub const PARTITIONED: Queue<Job> =
    Queue::with_partitions("jobs:partitioned", Policy::DEFAULT, |job| {
        job.partition.clone()
    });

const TOKEN: &str = "api-t0ken";

impl World {
    async fn with_api() -> Self {
        Self::serve(WebSettings {
            api_token: Some(SecretString::from(TOKEN)),
            ..settings(memory())
        })
        .await
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.call_as(&format!("Bearer {TOKEN}"), method, path, body)
            .await
    }

    async fn call_as(
        &self,
        authorization: &str,
        method: &str,
        path: &str,
        body: &str,
    ) -> (u16, Value) {
        let request = format!(
            "{method} /api/v1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (status, text) = self.raw(request.as_bytes()).await;
        (
            status,
            serde_json::from_str(&text)
                .unwrap_or_else(|_| panic!("{method} {path}: {status}, no JSON: {text}")),
        )
    }

    async fn ok(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    async fn send(&self, partition: &str, after: Duration) -> String {
        let packed = PARTITIONED
            .pack(
                &Job {
                    partition: partition.to_owned(),
                },
                &SystemClock,
            )
            .unwrap();
        let id = packed.envelope.id.to_string();
        self.bus
            .push(vec![Outgoing { after, ..packed }])
            .await
            .unwrap();
        id
    }

    async fn bury(&self, partition: &str, reason: &str) -> String {
        let id = self.send(partition, Duration::ZERO).await;
        let leased = self
            .bus
            .reserve(&PARTITIONED.spec(), Reserve::now(1))
            .await
            .unwrap()
            .remove(0);
        let letter = leased.envelope.id;
        let how = Settlement::Dead {
            id: letter,
            reason: reason.to_owned(),
            attempts: 1,
            emit: Vec::new(),
        };
        self.bus.settle(&leased.lease, &how).await.unwrap();
        assert_eq!(letter.to_string(), id);
        id
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn without_a_token_in_the_configuration_there_is_no_api() {
    let world = World::open().await;
    for path in ["/api/v1/queues", "/api/v1/dead", "/api/v1/nothing"] {
        assert_eq!(world.get(path).await.0, 404);
    }
}

#[tokio::test]
async fn without_the_token_nothing_is_shown() {
    let world = World::with_api().await;
    let wrong = [
        "",
        "Bearer",
        "Bearer ",
        "Bearer api-t0ke",
        "Bearer api-t0kenn",
        "Basic api-t0ken",
        "api-t0ken",
        "Bearer \u{e4}",
    ];
    for authorization in wrong {
        // Many wrong ones in a world are answered otherwise.
        let world = World::with_api().await;
        for (method, path) in [
            ("GET", "queues"),
            ("POST", "queues/build:load/drop"),
            ("GET", "nothing"),
            ("PUT", "dead"),
        ] {
            let (status, answer) = world.call_as(authorization, method, path, "").await;
            assert_eq!(status, 401, "{authorization} {path}");
            assert!(
                answer["error"].as_str().unwrap().contains("token"),
                "{answer}"
            );
        }
    }
    assert_eq!(world.get("/api/v1/queues").await.0, 401);
    assert_eq!(
        world
            .call_as(&format!("bearer {TOKEN}"), "GET", "queues", "")
            .await
            .0,
        200
    );
    assert_eq!(
        world.get("/ping").await.0,
        200,
        "the other routes need none"
    );
}

#[tokio::test]
async fn queues_and_their_messages_are_shown() {
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
async fn a_queue_is_paused_and_resumed() {
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
async fn dead_letters_are_found_shown_requeued_and_dropped() {
    let world = World::with_api().await;
    let away = world.bury("a", "phabricator is away & gone").await;
    let poison = world.bury("b", "poison").await;
    let ids = async |query: &str| -> Vec<String> {
        let answer = world.ok("GET", &format!("dead{query}"), "").await;
        let letters = answer["letters"].as_array().unwrap().clone();
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
        .ok("GET", &format!("dead/jobs:partitioned/{away}"), "")
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
        world.ok("POST", "dead/requeue", &matching).await,
        json!({"requeued": 1})
    );
    assert_eq!(
        world
            .ok("POST", "dead/drop", &json!({"ids": [poison]}).to_string())
            .await,
        json!({"dropped": 1})
    );
    assert_eq!(
        world
            .call("POST", "dead/drop", &json!({"ids": [poison]}).to_string())
            .await
            .0,
        404
    );
    assert_eq!(
        world.ok("POST", "dead/drop", r#"{"all": true}"#).await,
        json!({"dropped": 0})
    );
    let depth = world.bus.depth(&PARTITIONED.spec()).await.unwrap();
    assert_eq!((depth.ready, depth.dead), (1, 0));
}

#[tokio::test]
async fn a_wrong_request_changes_nothing_and_its_fault_is_named() {
    let world = World::with_api().await;
    world.bury("a", "poison").await;
    world.send("a", HOUR).await;
    let before = world.bus.depth(&PARTITIONED.spec()).await.unwrap();
    let large = format!(r#"{{"ids": ["{}"]}}"#, "x".repeat(300_000));
    let table = [
        ("GET", "nothing", "", 404, "no such route"),
        ("GET", "dead/drop", "", 405, "another method"),
        ("POST", "queues", "", 405, "another method"),
        ("GET", "queues?verbose=1", "", 400, "verbose"),
        (
            "GET",
            "queues/build/messages",
            "",
            404,
            "did you mean build:load?; the queues are build:load, jobs:partitioned",
        ),
        ("GET", "queues/%ff/messages", "", 400, "UTF-8"),
        (
            "GET",
            "queues/build:load/messages?limit=0",
            "",
            400,
            "limit is from 1",
        ),
        (
            "GET",
            "queues/build:load/messages?limit=-1",
            "",
            400,
            "limit",
        ),
        (
            "GET",
            "queues/build:load/messages?offset=1",
            "",
            400,
            "offset",
        ),
        ("GET", "queues/build:load/messages/7", "", 400, "7"),
        ("GET", "dead?reson=x", "", 400, "reson"),
        ("GET", "dead/build:load/no-such-id", "", 404, "no-such-id"),
        (
            "POST",
            "queues/jobs:partitioned/drop",
            "",
            400,
            "name either an id or all",
        ),
        (
            "POST",
            "queues/jobs:partitioned/drop",
            "{}",
            400,
            "name either an id or all",
        ),
        (
            "POST",
            "queues/jobs:partitioned/drop",
            r#"{"al": true}"#,
            400,
            "unknown field `al`",
        ),
        (
            "POST",
            "queues/jobs:partitioned/drop",
            r#"{"id": "7"}"#,
            400,
            "UUID",
        ),
        (
            "POST",
            "queues/jobs:partitioned/requeue",
            "all",
            400,
            "expected",
        ),
        (
            "POST",
            "queues/jobs:partitioned/pause",
            r#"{"for": 5}"#,
            400,
            "unknown field `for`",
        ),
        (
            "POST",
            "dead/drop",
            r#"{"queue": "jobs:partitioned"}"#,
            400,
            "ids, or a reason, or all",
        ),
        (
            "POST",
            "dead/drop",
            r#"{"reason": ""}"#,
            400,
            "the reason is empty",
        ),
        (
            "POST",
            "dead/requeue",
            r#"{"reason": "", "queue": "jobs:partitioned"}"#,
            400,
            "the reason is empty",
        ),
        ("GET", "dead?reason=", "", 400, "the reason is empty"),
        (
            "POST",
            "dead/drop",
            r#"{"all": true, "dry_run": true}"#,
            400,
            "unknown field `dry_run`",
        ),
        ("POST", "dead/requeue", &large, 413, "limit"),
    ];
    for (method, path, body, expected, fault) in table {
        let (status, answer) = world.call(method, path, body).await;
        let error = answer["error"].as_str().unwrap();
        assert_eq!(
            (status, error.contains(fault)),
            (expected, true),
            "{method} {path}: {answer}"
        );
    }
    assert_eq!(world.bus.depth(&PARTITIONED.spec()).await.unwrap(), before);
}

#[tokio::test]
async fn a_bus_that_is_away_is_said() {
    let api_token = Some(SecretString::from(TOKEN));
    let world = World::serve(WebSettings {
        api_token,
        ..settings(Arc::new(Away::new(true)))
    })
    .await;
    for (method, path, body) in [
        ("GET", "queues", ""),
        ("GET", "dead", ""),
        ("POST", "queues/build:load/drop", r#"{"all": true}"#),
    ] {
        let (status, answer) = world.call(method, path, body).await;
        assert_eq!(
            (status, answer["error"].is_string()),
            (503, true),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn metrics_say_what_was_counted_and_how_full_the_queues_are() {
    let world = World::with_api().await;
    world.bury("a", "it broke").await;
    world.send("a", Duration::ZERO).await;
    let request =
        format!("GET /api/v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let (status, text) = world.raw(request.as_bytes()).await;
    assert_eq!(status, 200);
    assert!(
        text.contains("bus_queue_messages{queue=\"jobs:partitioned\",state=\"ready\"} 1\n"),
        "{text}"
    );
    assert!(
        text.contains("bus_queue_messages{queue=\"jobs:partitioned\",state=\"dead\"} 1\n")
            && text.contains("bus_queue_bytes{queue=\"build:load\"} ")
            && text.contains("bus_queue_full{queue=\"build:load\"} 0\n"),
        "{text}"
    );
}
