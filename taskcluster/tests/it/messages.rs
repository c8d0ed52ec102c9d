//! Every recorded message of the queue can be read.

use std::{collections::BTreeSet, path::Path};

use serde::Deserialize;
use serde_json::Value;
use taskcluster::model::{GroupResolvedMessage, TaskMessage, TaskState};

#[derive(Deserialize)]
struct Recorded {
    exchange: String,
    #[serde(rename = "routingKey", alias = "routes")]
    routing_key: String,
    #[serde(alias = "payload")]
    body: Value,
}

fn recorded() -> Vec<Recorded> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let old: Vec<Recorded> = read(&root.join("pulse-of-2019.json"));
    let files = std::fs::read_dir(root.join("pulse")).unwrap();
    files
        .map(|file| read(&file.unwrap().path()))
        .chain(old)
        .collect()
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

#[test]
fn message_and_routing_key_agree() {
    let mut seen = BTreeSet::new();
    for Recorded {
        exchange,
        routing_key,
        body,
    } in recorded()
    {
        let kind = exchange
            .strip_prefix("exchange/taskcluster-queue/v1/")
            .unwrap();
        seen.insert(kind.to_owned());
        let words: Vec<_> = routing_key.split('.').collect();
        if kind == "task-group-resolved" {
            let message = GroupResolvedMessage::deserialize(body).unwrap();
            assert_eq!(
                [words[1], words[2]],
                [message.task_group_id.as_str(), &message.scheduler_id]
            );
            continue;
        }
        let message =
            TaskMessage::deserialize(&body).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let status = &message.status;
        assert_eq!(
            [words[1], words[7], words[8]],
            [
                &status.task_id,
                &status.scheduler_id,
                &*status.task_group_id
            ]
        );
        assert_eq!(
            message.run_id.map_or("_".to_owned(), |run| run.to_string()),
            words[2]
        );
        let state = serde_json::to_value(status.state).unwrap();
        assert!(
            kind == "task-defined" || kind == format!("task-{}", state.as_str().unwrap()),
            "{kind}: {state}"
        );
        assert!(
            status
                .runs
                .iter()
                .all(|run| run.state != TaskState::Unknown)
        );
    }
    let kinds = [
        "completed",
        "defined",
        "exception",
        "failed",
        "group-resolved",
        "pending",
        "running",
    ];
    assert_eq!(seen, kinds.map(|kind| format!("task-{kind}")).into());
}

#[test]
fn message_with_status_alone_is_read() {
    for Recorded {
        exchange, mut body, ..
    } in recorded()
        .into_iter()
        .filter(|message| !message.exchange.ends_with("group-resolved"))
    {
        let whole = TaskMessage::deserialize(&body).unwrap();
        body.as_object_mut()
            .unwrap()
            .retain(|name, _| name == "status" || name == "version");
        let bare =
            TaskMessage::deserialize(&body).unwrap_or_else(|error| panic!("{exchange}: {error}"));
        assert_eq!(
            (bare.status, bare.run_id, bare.task),
            (whole.status, None, None)
        );
    }
}

#[test]
fn unknown_tags_and_states_are_tolerated() {
    let Recorded { mut body, .. } = recorded().pop().unwrap();
    body["task"] = serde_json::json!({ "tags": { "kind": "test" }, "more": 1 });
    body["status"]["state"] = "asleep".into();
    let message = TaskMessage::deserialize(&body).unwrap();
    assert_eq!(message.tag("kind"), Some("test"));
    assert_eq!(message.tag("other"), None);
    assert_eq!(message.status.state, TaskState::Unknown);
}
