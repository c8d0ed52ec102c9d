//! What Pulse says becomes notifications.

use notify::{Notification, Status};
use serde_json::{Value, json};

use crate::world::{NOTIFICATIONS, TASKS, World, capture_logs, message};

/// The channel, the identity and the addresses of each.
fn short(notifications: &[Notification]) -> Vec<(String, String, String)> {
    let one = |one: &Notification| {
        (
            one.channel.clone(),
            one.identity.clone().unwrap_or_default(),
            one.to.emails.join(" "),
        )
    };
    notifications.iter().map(one).collect()
}

fn strings(expected: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    expected
        .iter()
        .map(|(a, b, c)| ((*a).to_owned(), (*b).to_owned(), (*c).to_owned()))
        .collect()
}

async fn dispatched(world: &World, extra: Value, status: Status) -> Vec<Notification> {
    let task = world.task(extra);
    world.send(&TASKS, &message(&task, status, |_| {})).await;
    world.dispatch().await;
    world.peek(&NOTIFICATIONS).await
}

#[tokio::test]
async fn every_status_selects_its_section_under_either_name() {
    for status in Status::ALL {
        for name in ["notification", "notifications"] {
            let world = World::new().await;
            let section = json!({ "plugins": ["post"], "emails": ["ann@example.com"], "subject": status.name() });
            let found =
                dispatched(&world, json!({ name: { status.name(): section } }), status).await;
            let [one] = &found[..] else {
                panic!("{status}: {} notifications", found.len())
            };
            assert_eq!((one.status, one.subject.as_str()), (status, status.name()));
            assert_eq!(one.artifact.is_some(), status == Status::ArtifactCreated);
        }
    }
}

#[tokio::test]
async fn each_channel_and_identity_gets_its_own_message() {
    let world = World::with_identities(
        "ann: {emails: [ann@example.com]}\nrobots: {plugins: [robot], subject: beep}\nbob: {emails: [bob@example.com]}\n",
    )
    .await;
    let section = json!({ "plugins": ["post", "robot", "pigeon"], "emails": ["all@example.com"], "message": "m",
                          "ids": ["ann", "robots", "nobody"] });
    let found = dispatched(
        &world,
        json!({ "notification": { "task-failed": section } }),
        Status::TaskFailed,
    )
    .await;
    assert_eq!(
        short(&found),
        strings(&[
            ("post", "", "all@example.com"),
            ("robot", "", "all@example.com"),
            ("post", "ann", "ann@example.com"),
            ("robot", "ann", "ann@example.com"),
            ("robot", "robots", "all@example.com"),
        ])
    );
    assert_eq!(found[4].subject, "beep");
    assert!(found.iter().all(|one| one.message == "m"));
}

#[tokio::test]
async fn section_without_texts_gets_default_texts() {
    let world = World::new().await;
    let extra =
        json!({ "notification": { "task-completed": { "plugins": ["robot"], "subject": " " } } });
    let found = dispatched(&world, extra, Status::TaskCompleted).await;
    let (one, task) = (&found[0], &found[0].task.id);
    assert_eq!(one.subject, "build-linux64/opt: task-completed");
    let expected = format!(
        "Task build-linux64/opt ({task}), run 0: task-completed\nhttps://taskcluster.example/tasks/{task}"
    );
    assert_eq!(one.message, expected);
    let log = format!(
        "https://taskcluster.example/api/queue/v1/task/{task}/runs/0/artifacts/public/logs/live_backing.log"
    );
    assert_eq!(one.links.logs[0].url.as_str(), log);
}

#[tokio::test]
async fn placeholders_of_section_are_filled_in_once() {
    let world = World::new().await;
    let section = json!({ "plugins": ["robot"],
        "subject": "{task_name} of {product} {version}: {status}, run {run_id}",
        "message": "{task_id} {task_group_id} {link} {log} {artifact}| {unknown} {} {{task_id}} {task_id" });
    let props = json!({ "product": "firefox", "version": "{task_id}" });
    let extra = json!({ "notification": { "task-failed": section }, "build_props": props });
    let found = dispatched(&world, extra, Status::TaskFailed).await;
    let (one, id) = (&found[0], &found[0].task.id);
    assert_eq!(
        one.subject,
        "build-linux64/opt of firefox {task_id}: task-failed, run 0"
    );
    let (link, log) = (&one.links.task, &one.links.logs[0].url);
    assert_eq!(
        one.message,
        format!("{id} {id} {link} {log} | {{unknown}} {{}} {{{id}}} {{task_id")
    );
}

#[tokio::test]
async fn task_without_section_or_expired_is_no_error() {
    let world = World::new().await;
    for extra in [
        json!({}),
        json!({ "notification": { "task-failed": { "plugins": ["post"] } } }),
    ] {
        assert!(
            dispatched(&world, extra, Status::TaskCompleted)
                .await
                .is_empty()
        );
    }
    world
        .send(
            &TASKS,
            &message("AAAAAAAAAAAAAAAAAAAAAA", Status::TaskFailed, |_| {}),
        )
        .await;
    world.dispatch().await;
    assert_eq!(world.depth(&TASKS).await, bus::Depth::default());
}

#[tokio::test]
async fn malformed_section_is_logged_once_and_settled() {
    let world = World::new().await;
    let (_guard, logs) = capture_logs();
    let task = world.task(json!({ "notification": { "task-failed": { "plugins": "post" } } }));
    world.happens(&task, Status::TaskFailed).await;
    assert_eq!(world.depth(&TASKS).await, bus::Depth::default());
    assert_eq!(world.depth(&NOTIFICATIONS).await, bus::Depth::default());
    let logs = logs.text();
    let about: Vec<_> = logs.lines().filter(|line| line.contains(&task)).collect();
    let [line] = about[..] else { panic!("{logs}") };
    assert!(
        line.contains("invalid notification section at extra.notification.task-failed"),
        "{line}"
    );
}

#[tokio::test]
async fn control_characters_are_removed() {
    let world = World::new().await;
    let section = json!({ "plugins": ["post"], "subject": "s\r\nBcc: all@example.com", "message": "a\u{1b}[31m\nb",
                          "emails": ["ann@example.com\nRCPT TO:<bob@example.com>", "\u{0}", "ann@example.com"] });
    let found = dispatched(
        &world,
        json!({ "notification": { "task-failed": section } }),
        Status::TaskFailed,
    )
    .await;
    let one = &found[0];
    assert_eq!(
        (one.subject.as_str(), one.message.as_str()),
        ("s Bcc: all@example.com", "a[31m\nb")
    );
    assert_eq!(one.to.emails, ["ann@example.com"]);
}

#[tokio::test]
async fn duplicate_pulse_message_is_dispatched_once() {
    let world = World::new().await;
    let task = world.task(json!({ "notification": { "task-failed": { "plugins": ["robot"] } } }));
    for _ in 0..2 {
        world
            .send(&TASKS, &message(&task, Status::TaskFailed, |_| {}))
            .await;
    }
    world.dispatch().await;
    assert_eq!(world.depth(&NOTIFICATIONS).await.ready, 1);
}

#[tokio::test]
async fn invalid_message_becomes_dead_letter() {
    let world = World::new().await;
    let task = world.task(json!({}));
    let mut elsewhere = message(&task, Status::TaskFailed, |_| {});
    elsewhere.routing.exchange = "exchange/taskcluster-queue/v1/task-group-resolved".to_owned();
    let hostile = message("../../secrets/v1/x", Status::TaskFailed, |_| {});
    let unreadable = message(&task, Status::ArtifactCreated, |body| {
        body["artifact"] = Value::Null
    });
    for message in [elsewhere, hostile, unreadable] {
        world.send(&TASKS, &message).await;
    }
    world.dispatch().await;
    let dead = world.dead(&TASKS).await.join("\n");
    for expected in [
        "exchange/taskcluster-queue/v1/task-group-resolved is not a task-status exchange",
        "invalid task id ../../secrets/v1/x in a message from exchange/taskcluster-queue/v1/task-failed",
        "the message of exchange/taskcluster-queue/v1/artifact-created with routing key",
    ] {
        assert!(dead.contains(expected), "{dead}");
    }
}

#[tokio::test]
async fn overlong_text_is_cut() {
    let world = World::new().await;
    let emails: Vec<_> = (0..200)
        .map(|number| format!("{number}@example.com"))
        .collect();
    let section = json!({ "plugins": ["post"], "emails": emails, "subject": "s".repeat(5000), "message": "m".repeat(100_000),
                          "ids": [] });
    let found = dispatched(
        &world,
        json!({ "notification": { "task-failed": section } }),
        Status::TaskFailed,
    )
    .await;
    assert_eq!(
        (
            found[0].to.emails.len(),
            found[0].subject.len(),
            found[0].message.len()
        ),
        (50, 500, 20_000)
    );
}
