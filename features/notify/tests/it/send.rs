//! Each notification reaches each of its recipients once.

mod fairness;
mod recipients;

use std::time::Duration;

use bus::{Depth, QueueAdmin};
use notify::{ChannelError, Status, muted};
use runtime::Clock;
use serde_json::{Value, json};

use crate::world::{NOTIFICATIONS, TASKS, World, capture_logs, message};

const ANN: &str = "ann@example.com";
const BOB: &str = "bob@example.com";

fn section(emails: &[&str]) -> Value {
    json!({ "notification": { "task-failed": { "plugins": ["post", "robot"], "emails": emails, "subject": "s" } } })
}

fn sent(to: &[&str]) -> Vec<(String, String)> {
    to.iter()
        .map(|to| ((*to).to_owned(), "s".to_owned()))
        .collect()
}

#[tokio::test]
async fn failed_task_is_sent_once_to_each_recipient() {
    let world = World::new().await;
    let task = world.task(section(&[ANN, BOB]));
    world.happens(&task, Status::TaskFailed).await;
    assert_eq!(
        (world.post.sent(), world.robot.sent()),
        (sent(&[ANN, BOB]), sent(&["tray"]))
    );
    assert_eq!(world.depth(&NOTIFICATIONS).await, Depth::default());
}

#[tokio::test]
async fn only_the_failed_channel_is_retried() {
    let world = World::new().await;
    let task = world.task(section(&[ANN, BOB]));
    let full = || ChannelError::Failed {
        channel: "post",
        problem: "452 mailbox full".to_owned(),
    };
    world.post.fail_next(full());
    world.happens(&task, Status::TaskFailed).await;
    assert_eq!(
        (world.post.sent(), world.robot.sent()),
        (sent(&[BOB]), sent(&["tray"]))
    );
    for _ in 0..3 {
        world.post.fail_next(full());
        world.pass(200).await;
    }
    assert_eq!(
        world.depth(&NOTIFICATIONS).await,
        Depth {
            delayed: 1,
            ..Depth::default()
        }
    );
    world.post.fail_next(full());
    world.pass(200).await;
    let expected =
        format!("cannot notify {ANN} of task-failed of task {task}: post failed: 452 mailbox full");
    assert_eq!(world.dead(&NOTIFICATIONS).await, [expected], "five tries");
    assert_eq!(
        (world.post.sent(), world.robot.sent()),
        (sent(&[BOB]), sent(&["tray"]))
    );
}

#[tokio::test]
async fn outage_counts_no_attempt_for_a_day() {
    let world = World::new().await;
    let task = world.task(section(&[ANN]));
    let away = || ChannelError::Unreachable {
        channel: "post",
        problem: "connection refused".to_owned(),
    };
    world.post.fail_next(away());
    world.happens(&task, Status::TaskFailed).await;
    for _ in 0..23 {
        world.post.fail_next(away());
        world.pass(3600).await;
    }
    assert_eq!(
        world.depth(&NOTIFICATIONS).await,
        Depth {
            delayed: 1,
            ..Depth::default()
        }
    );
    world.post.fail_next(away());
    world.pass(3601).await;
    let dead = world.dead(&NOTIFICATIONS).await;
    assert!(
        dead[0].contains("which is a day old: post cannot be reached: connection refused"),
        "{dead:?}"
    );
}

#[tokio::test]
async fn outage_and_recovery_are_logged_once_each() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    for number in 0..3 {
        let problem = "535 no: set notify.post.password".to_owned();
        world.post.fail_next(ChannelError::Credentials {
            channel: "post",
            problem,
        });
        world
            .happens(
                &world.task(section(&[&format!("{number}@example.com")])),
                Status::TaskFailed,
            )
            .await;
    }
    let said = |words: &str| {
        logs.text()
            .lines()
            .filter(|line| line.contains(words))
            .count()
    };
    assert_eq!(
        (said("535 no: set notify.post.password"), said("ERROR")),
        (1, 1),
        "{}",
        logs.text()
    );
    world.post.fail_next(ChannelError::Unreachable {
        channel: "post",
        problem: "connection refused".to_owned(),
    });
    let problem = "535 no: set notify.post.password".to_owned();
    world.post.fail_next(ChannelError::Credentials {
        channel: "post",
        problem,
    });
    world.pass(60).await;
    assert_eq!(said("ERROR"), 1, "it was logged in this outage");
    world.pass(60).await;
    assert_eq!(
        (said("connection refused"), said("channel recovered")),
        (1, 1),
        "another kind of outage is logged: {}",
        logs.text()
    );
    world.pass(60).await;
    assert_eq!((world.post.sent().len(), said("channel recovered")), (3, 1));
}

#[tokio::test]
async fn refused_notification_becomes_dead_letter_at_once() {
    let world = World::new().await;
    let task = world.task(section(&[ANN]));
    world.post.fail_next(ChannelError::Refused {
        channel: "post",
        problem: "too large".to_owned(),
    });
    world.happens(&task, Status::TaskFailed).await;
    let expected = format!(
        "cannot notify {ANN} of task-failed of task {task}: post refused the notification: too large"
    );
    assert_eq!(world.dead(&NOTIFICATIONS).await, [expected]);
}

#[tokio::test]
async fn duplicate_is_sent_once_a_day() {
    let world = World::with_identities("ann: {emails: [ann@example.com]}").await;
    let mut extra = section(&[ANN]);
    extra["notification"]["task-failed"]["ids"] = json!(["ann"]);
    let task = world.task(extra);
    world.happens(&task, Status::TaskFailed).await;
    assert_eq!(
        world.post.sent(),
        sent(&[ANN]),
        "for herself and as an identity"
    );
    // Later than a key of the queue is known.
    world.pass(24 * 3600 - 1).await;
    world
        .says(&message(&task, Status::TaskFailed, |body| {
            body["runId"] = json!(1)
        }))
        .await;
    assert_eq!(world.post.sent().len(), 2, "another run is other news");
    world.pass(24 * 3600).await;
    world.happens(&task, Status::TaskFailed).await;
    assert_eq!(world.post.sent().len(), 3);
}

#[tokio::test]
async fn first_claim_sends_despite_retries() {
    let world = World::with_identities("ann: {emails: [ann@example.com]}").await;
    let mut extra = section(&[ANN]);
    extra["notification"]["task-failed"]["ids"] = json!(["ann"]);
    world.post.fail_next(ChannelError::Failed {
        channel: "post",
        problem: "452 mailbox full".to_owned(),
    });
    world.happens(&world.task(extra), Status::TaskFailed).await;
    assert_eq!(
        world.post.sent(),
        [],
        "the identity of the same address leaves it to the section"
    );
    assert_eq!(
        world.depth(&NOTIFICATIONS).await,
        Depth {
            delayed: 1,
            ..Depth::default()
        }
    );
    world.pass(60).await;
    assert_eq!(world.post.sent(), sent(&[ANN]));
}

#[tokio::test]
async fn repeated_notification_is_sent_once_a_day_by_any_route() {
    let world = World::new().await;
    let task = world.task(section(&[ANN]));
    world
        .send(&TASKS, &message(&task, Status::TaskFailed, |_| {}))
        .await;
    world.dispatch().await;
    let waiting = world.peek(&NOTIFICATIONS).await;
    world.work().await;
    for _ in 0..2 {
        world.pass(12 * 3600 - 1).await;
        world.happens(&task, Status::TaskFailed).await;
        for one in &waiting {
            world.send(&NOTIFICATIONS, one).await;
        }
        world.work().await;
        assert_eq!(
            (world.post.sent(), world.robot.sent()),
            (sent(&[ANN]), sent(&["tray"]))
        );
    }
    world.pass(2).await;
    world.happens(&task, Status::TaskFailed).await;
    assert_eq!(
        (world.post.sent().len(), world.robot.sent().len()),
        (2, 2),
        "the next day it is news again"
    );
}

#[tokio::test]
async fn each_artifact_of_a_run_is_notified() {
    let world = World::new().await;
    let task =
        world.task(json!({ "notification": { "artifact-created": { "plugins": ["robot"] } } }));
    for name in ["public/a", "public/b", "public/a"] {
        let change = |body: &mut Value| body["artifact"]["name"] = name.into();
        world
            .says(&message(&task, Status::ArtifactCreated, change))
            .await;
    }
    assert_eq!(world.robot.sent().len(), 2);
}
