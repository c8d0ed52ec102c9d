//! Requests that the API refuses or cannot serve.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use web::WebSettings;

use super::{PARTITIONED, TOKEN};
use crate::{World, away::Away, settings};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn bad_request_changes_nothing_and_names_its_fault() {
    let world = World::with_api().await;
    world.dead_letter("a", "poison").await;
    world.send("a", HOUR).await;
    let before = world.bus.depth(&PARTITIONED.spec()).await.unwrap();
    let large = format!(r#"{{"ids": ["{}"]}}"#, "x".repeat(300_000));
    let table = [
        ("GET", "nothing", "", 404, "no such route"),
        ("GET", "dead-letters/drop", "", 405, "another method"),
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
            "limit must be from 1",
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
        ("GET", "dead-letters?reson=x", "", 400, "reson"),
        (
            "GET",
            "dead-letters/build:load/no-such-id",
            "",
            404,
            "no-such-id",
        ),
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
            "dead-letters/drop",
            r#"{"queue": "jobs:partitioned"}"#,
            400,
            "ids, or a reason, or all",
        ),
        (
            "POST",
            "dead-letters/drop",
            r#"{"reason": ""}"#,
            400,
            "the reason is empty",
        ),
        (
            "POST",
            "dead-letters/requeue",
            r#"{"reason": "", "queue": "jobs:partitioned"}"#,
            400,
            "the reason is empty",
        ),
        (
            "GET",
            "dead-letters?reason=",
            "",
            400,
            "the reason is empty",
        ),
        (
            "POST",
            "dead-letters/drop",
            r#"{"all": true, "dry_run": true}"#,
            400,
            "unknown field `dry_run`",
        ),
        ("POST", "dead-letters/requeue", &large, 413, "limit"),
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
async fn request_fails_with_503_while_the_bus_is_down() {
    let api_token = Some(SecretString::from(TOKEN));
    let world = World::serve(WebSettings {
        api_token,
        ..settings(Arc::new(Away::new(true)))
    })
    .await;
    for (method, path, body) in [
        ("GET", "queues", ""),
        ("GET", "dead-letters", ""),
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
