//! The fake answers as the real services do: every recorded request is sent to it, within the recorded world, and its
//! answer has the same status, the same fields, and the same words where they are a refusal's.

use std::{path::Path, sync::Arc};

use runtime::{Clock, ManualClock};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};
use taskcluster::{Taskcluster, model::TaskDefinition};
use testkit::taskcluster::{FakeArtifact, FakeTaskcluster, TaskState};

use crate::stage::{NOW, Signature, credentials, http, response_to};

#[derive(Deserialize)]
struct Recorded {
    request: Request,
    response: Answer,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    body: Value,
    auth: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    status: u16,
    headers: Value,
    body: Value,
}

/// The task that has artifacts, and the names that lead to them.
const RICH: &str = "CPx8cPUCRqeZIUU65BIbzw";
const DECISION: &str = "EHvlZcWCR6WAZapcRiLoNg";
const HOOK: (&str, &str) = ("project-relman", "code-review-dev");
const SECRET: &str = "project/relman/code-review/test";

#[tokio::test]
async fn fake_answers_as_recorded_services() {
    let files = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut differences = Vec::new();
    for name in files.map(|file| file.trim_end_matches(".json").to_owned()) {
        let recorded = read(&name);
        let fake = world(&name, &recorded).await;
        let ours = replay(&fake, &name, &recorded.request).await;
        let mut found = Vec::new();
        if ours.status != recorded.response.status {
            found.push(format!(
                "status {} instead of {}",
                ours.status, recorded.response.status
            ));
        }
        for header in ["location", "www-authenticate", "content-type"] {
            if ours.headers[header].is_null() != recorded.response.headers[header].is_null() {
                found.push(format!("header {header}: {}", ours.headers[header]));
            }
        }
        compare("body", &recorded.response.body, &ours.body, &mut found);
        differences.extend(
            found
                .into_iter()
                .map(|difference| format!("{name}: {difference}")),
        );
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rest")
}

fn read(name: &str) -> Recorded {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    // Anonymous readers had no rights when this was recorded; the fake's may read what is public.
    let text = if name.ends_with("no-anonymous-role") {
        text.replace("public/x.json", "private/x.json")
    } else {
        text
    };
    serde_json::from_str(&text).unwrap()
}

/// What was there when the request was recorded.
async fn world(name: &str, recorded: &Recorded) -> FakeTaskcluster {
    let fake = FakeTaskcluster::start(Arc::new(ManualClock::new(NOW.parse().unwrap())))
        .await
        .unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let client = Taskcluster::new(fake.root().clone(), Some(credentials(&fake)), http(), clock);
    let wanted = recorded.response.body["status"]["state"].clone();
    for page in ["queue-listTaskGroup-page1", "queue-listTaskGroup-page2"] {
        for task in read(page).response.body["tasks"].as_array().unwrap() {
            let id = task["status"]["taskId"].as_str().unwrap();
            if recorded.request.method == "PUT"
                && recorded.response.status == 200
                && recorded.request.path.ends_with(id)
            {
                continue;
            }
            client
                .create_task(id, &TaskDefinition::deserialize(&task["task"]).unwrap())
                .await
                .unwrap();
            assert_eq!(
                json!(fake.task(id).unwrap()),
                task["task"],
                "a definition passes through the client whole"
            );
            let asked = name.starts_with("queue-status") && recorded.request.path.contains(id);
            let state = if asked {
                &wanted
            } else {
                &task["status"]["state"]
            };
            let state = TaskState::deserialize(state).unwrap();
            if state != TaskState::Unscheduled {
                fake.move_on(id, state);
            }
        }
    }
    let schema = json!({ "type": "object", "properties": { "PHABRICATOR_OBJECT_PHID": { "type": "string" } } });
    fake.add_hook_with_schema(
        HOOK.0,
        HOOK.1,
        Some(json!({ "payload": { "env": { "TASK": 1 } } })),
        schema,
    );
    fake.add_hook(HOOK.0, "null-hook", None);
    if recorded.request.path.contains(RICH) || name.starts_with("index") {
        let reference =
            FakeArtifact::Reference("http://127.0.0.1:18120/public-bucket/issues.json".to_owned());
        let (reason, message) = ("file-missing-on-worker".to_owned(), "not found".to_owned());
        fake_artifacts(
            &fake,
            [
                ("public/code-review/issues.json", reference),
                (
                    "public/link.json",
                    FakeArtifact::Link("public/code-review/issues.json".to_owned()),
                ),
                ("public/s3.json", FakeArtifact::S3(Vec::new())),
                ("public/broken.txt", FakeArtifact::Error { reason, message }),
            ],
        );
    }
    fake.index("project.relman.test.latest", DECISION);
    fake.index("project.relman.manual", RICH);
    fake.add_secret(SECRET, read("secrets-get").response.body["secret"].clone());
    fake.denylist("deny@example.com");
    fake
}

fn fake_artifacts<const N: usize>(fake: &FakeTaskcluster, artifacts: [(&str, FakeArtifact); N]) {
    for (name, artifact) in artifacts {
        if fake.task(RICH).is_some() {
            fake.add_artifact(RICH, name, artifact);
        }
    }
}

async fn replay(fake: &FakeTaskcluster, name: &str, request: &Request) -> Answer {
    let mut path = request.path.replace("odWmnO3Mq1", "4%2F%2B%3D");
    if name == "queue-task-of-hook" {
        let hook = read("hooks-triggerHook").request;
        let made = send(fake, name, &hook, &hook.path, "first").await.body["taskId"]
            .as_str()
            .unwrap()
            .to_owned();
        path = format!("/api/queue/v1/task/{made}");
    }
    if name == "notify-email-204-duplicate" {
        send(fake, name, request, &path, "first").await;
    }
    send(fake, name, request, &path, "second").await
}

async fn send(
    fake: &FakeTaskcluster,
    name: &str,
    request: &Request,
    path: &str,
    nonce: &str,
) -> Answer {
    let url = fake.root().join(path).unwrap();
    let body = Some(request.body.to_string()).filter(|_| !request.body.is_null());
    let mut sent = http().request(request.method.parse().unwrap(), url.clone());
    if let Some(id) = request.auth.strip_prefix("hawk ") {
        let credentials = fake.credentials();
        let key = if name.ends_with("badmac") {
            "wrong"
        } else {
            credentials.access_token.expose_secret()
        };
        // {"authorizedScopes": []}
        let ext = if name.ends_with("authorizedScopes") {
            "eyJhdXRob3JpemVkU2NvcGVzIjogW119"
        } else {
            ""
        };
        let time = NOW.parse::<jiff::Timestamp>().unwrap().as_second();
        let header = Signature {
            id,
            key,
            time,
            nonce,
            ext,
        }
        .header(&request.method, &url, body.as_deref());
        sent = sent.header("authorization", header);
    }
    if let Some(body) = body {
        sent = sent.header("content-type", "application/json").body(body);
    }
    let answer = response_to(sent).await;
    let status = answer.status.as_u16();
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())));
    let headers = Value::Object(headers.collect());
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    Answer {
        status,
        headers,
        body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
    }
}

/// The same fields of the same kinds; of lists, the first member. What tests put into a definition is their matter.
fn compare(place: &str, real: &Value, fake: &Value, found: &mut Vec<String>) {
    let free = [
        "body.requestInfo.payload",
        ".payload.env",
        ".extra",
        ".tags",
        ".metadata",
        "body.secret",
        ".data",
    ];
    match (real, fake) {
        _ if free.iter().any(|part| place.ends_with(part)) => {}
        (Value::Object(real_fields), Value::Object(fake_fields)) => {
            for name in real_fields
                .keys()
                .chain(fake_fields.keys())
                .collect::<std::collections::BTreeSet<_>>()
            {
                let place = format!("{place}.{name}");
                match (real_fields.get(name), fake_fields.get(name)) {
                    (Some(real), Some(fake)) => compare(&place, real, fake, found),
                    (Some(_), None) => found.push(format!("{place} is missing")),
                    (None, _) => found.push(format!("{place} is not known to the real one")),
                }
            }
        }
        (Value::Array(real_items), Value::Array(fake_items)) => {
            if place.ends_with("tasks") && real_items.len() != fake_items.len() {
                found.push(format!(
                    "{place}: {} instead of {}",
                    fake_items.len(),
                    real_items.len()
                ));
            }
            if let (Some(real), Some(fake)) = (real_items.first(), fake_items.first()) {
                compare(&format!("{place}[]"), real, fake, found);
            }
        }
        (Value::String(real_text), Value::String(fake_text)) => {
            let exact = [
                ".code",
                ".state",
                ".storageType",
                ".reason",
                ".reasonCreated",
                ".method",
                ".message",
            ];
            let said = |text: &str| text.split("\n\n---\n").next().unwrap().to_owned();
            let (real_said, fake_said) = (said(real_text), said(fake_text));
            // What a schema finds is listed in the validator's own order and words.
            let schema = real_said.contains("Schema Validation Failed!")
                && fake_said.contains("Schema Validation Failed!");
            if exact.iter().any(|part| place.ends_with(part)) && real_said != fake_said && !schema {
                found.push(format!("{place}: `{fake_said}` instead of `{real_said}`"));
            }
            if real_text.parse::<jiff::Timestamp>().is_ok()
                && (
                    fake_text.len(),
                    fake_text.parse::<jiff::Timestamp>().is_ok(),
                ) != (24, true)
            {
                found.push(format!(
                    "{place}: `{fake_text}` is no moment as `{real_text}`"
                ));
            }
        }
        _ if std::mem::discriminant(real) == std::mem::discriminant(fake) => {}
        _ => found.push(format!("{place}: {fake} instead of {real}")),
    }
}
