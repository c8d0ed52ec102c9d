//! The operators' API.

mod bad_requests;
mod queues;

use std::time::Duration;

use bus::{Message, Outgoing, Policy, Queue, Reserve, Settlement};
use runtime::SystemClock;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use web::WebSettings;

use crate::{World, memory, settings};

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

    async fn dead_letter(&self, partition: &str, reason: &str) -> String {
        let id = self.send(partition, Duration::ZERO).await;
        let delivery = self
            .bus
            .reserve(&PARTITIONED.spec(), Reserve::now(1))
            .await
            .unwrap()
            .remove(0);
        let letter = delivery.envelope.id;
        let how = Settlement::Dead {
            id: letter,
            reason: reason.to_owned(),
            attempts: 1,
            emit: Vec::new(),
        };
        self.bus.settle(&delivery.lease, &how).await.unwrap();
        assert_eq!(letter.to_string(), id);
        id
    }
}

#[tokio::test]
async fn deployment_without_a_token_has_no_api() {
    let world = World::open().await;
    for path in ["/api/v1/queues", "/api/v1/dead-letters", "/api/v1/nothing"] {
        assert_eq!(world.get(path).await.0, 404);
    }
}

#[tokio::test]
async fn request_without_the_token_is_refused() {
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
        for (method, path) in [
            ("GET", "queues"),
            ("POST", "queues/build:load/drop"),
            ("GET", "nothing"),
            ("PUT", "dead-letters"),
        ] {
            let (status, answer) = world.call_as(authorization, method, path, "").await;
            assert_eq!(status, 401, "{authorization} {path}");
            let error = answer["error"].as_str().unwrap();
            for remedy in ["api_token", "Authorization: Bearer"] {
                assert!(error.contains(remedy), "{answer}");
            }
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
async fn metrics_hold_counters_and_depths_of_queues() {
    let world = World::with_api().await;
    world.dead_letter("a", "it broke").await;
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
