//! The preview and the replay of one task, for an operator.

use notify::{Dispatcher, Identities, Plan, Status, Templates, preview, replayed};
use serde_json::json;
use std::sync::Arc;
use testkit::taskcluster::TaskState;

use crate::world::{NOTIFICATIONS, ROOT, World, capture_logs, client};

#[tokio::test]
async fn dry_run_prints_messages_and_sends_nothing() {
    let world = World::new().await;
    let section =
        json!({ "plugins": ["post", "robot"], "emails": ["ann@example.com", "bob@example.com"] });
    let task = world.task(json!({ "notification": { "task-failed": section } }));
    world.fake.move_on(&task, TaskState::Failed);
    let plan = planned(&world, &task).await;
    assert_eq!(plan.omissions, []);
    let text = preview(&world.channels, &plan).replace(&task, "<task>");
    insta::assert_snapshot!(text);
    assert!(world.post.sent().is_empty() && world.robot.sent().is_empty());
    let nothing = preview(&world.channels, &Plan::default());
    assert_eq!(
        nothing,
        "nothing would be sent: the task has no section for this status\n"
    );
}

#[tokio::test]
async fn dry_run_prints_everything_that_is_logged() {
    for (section, expected, is_fault, recipients) in [
        (
            json!({ "plugins": ["post"], "emails": "ann@example.com" }),
            "ignoring task: its notification section is malformed: invalid notification section at extra.notification.task-failed",
            true,
            0,
        ),
        (
            json!({ "plugins": ["pigeon"] }),
            "ignoring channel pigeon: it is not enabled here",
            false,
            0,
        ),
        (
            json!({ "plugins": ["post"], "ids": ["zoe"] }),
            "ignoring identity zoe: it is not in the identities file",
            false,
            1,
        ),
        (
            json!({ "plugins": ["fax"], "emails": (0..60).map(|n| format!("{n}@x.org")).collect::<Vec<_>>() }),
            "ignoring 10 recipients on fax: the task names too many",
            false,
            10,
        ),
    ] {
        let (_guard, logs) = capture_logs();
        let world = World::new().await;
        let task = world.task(json!({ "notification": { "task-failed": section } }));
        let plan = planned(&world, &task).await;
        let [omission] = &plan.omissions[..] else {
            panic!("{:?}", plan.omissions)
        };
        assert!(omission.to_string().starts_with(expected), "{omission}");
        assert_eq!(
            (omission.is_fault(), omission.recipients()),
            (is_fault, recipients),
            "{omission}"
        );
        assert_eq!(plan.task, task);
        if plan.notifications.is_empty() {
            assert_eq!(preview(&world.channels, &plan), "nothing would be sent\n");
        }
        assert_eq!(logs.text(), "", "a look logs nothing");
        world.happens(&task, Status::TaskFailed).await;
        assert_eq!(
            logs.text().contains(expected),
            !expected.contains("pigeon"),
            "{}",
            logs.text()
        );
    }
}

/// What would be sent of this task, had it failed.
async fn planned(world: &World, task: &str) -> Plan {
    let client = client(&world.fake, &world.clock);
    let message = replayed(&client, task, Status::TaskFailed, None)
        .await
        .unwrap();
    let templates = Arc::new(Templates::ours().unwrap());
    let (root, channels) = (ROOT.parse().unwrap(), world.channels.clone());
    let dispatcher = Dispatcher::new(
        client,
        root,
        channels,
        Identities::default(),
        templates,
        NOTIFICATIONS,
    );
    dispatcher
        .plan(&message, runtime::Clock::now(world.clock.as_ref()))
        .await
        .unwrap()
}

#[tokio::test]
async fn every_status_can_be_replayed() {
    let world = World::new().await;
    for status in Status::ALL {
        let section = json!({ "plugins": ["robot"], "subject": status.name() });
        let task = world.task(json!({ "notification": { status.name(): section } }));
        let client = client(&world.fake, &world.clock);
        let message = replayed(&client, &task, status, None).await.unwrap();
        world.says(&message).await;
        assert_eq!(world.robot.sent().last().unwrap().1, status.name());
    }
}
