//! Each notification reaches each of its recipients once.

use std::time::Duration;

use bus::{Depth, Operate};
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
        format!("cannot tell {ANN} of task-failed of task {task}: post failed: 452 mailbox full");
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
        dead[0].contains("and it is a day old: post cannot be reached: connection refused"),
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
    world.pass(60).await;
    assert_eq!(
        (said("connection refused"), said("sends again")),
        (1, 1),
        "another trouble is news: {}",
        logs.text()
    );
    world.pass(60).await;
    assert_eq!((world.post.sent().len(), said("sends again")), (3, 1));
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
    let expected =
        format!("cannot tell {ANN} of task-failed of task {task}: post refused it: too large");
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
async fn large_task_does_not_delay_others() {
    let world = World::new().await;
    let all: Vec<_> = (0..100)
        .map(|number| format!("{number}@example.com"))
        .collect();
    let extra = json!({ "notification": { "artifact-created": { "plugins": ["fax"], "emails": all, "subject": "large" } } });
    let large = world.task(extra);
    for number in 0..30 {
        let message = message(&large, Status::ArtifactCreated, |body| {
            body["artifact"]["name"] = json!(format!("a{number}"))
        });
        world.send(&TASKS, &message).await;
    }
    // Behind them, in whatever lane.
    let extra = json!({ "notification": { "task-failed": { "plugins": ["fax"], "emails": [ANN], "subject": "small" } } });
    let small: Vec<_> = (0..10).map(|_| world.task(extra.clone())).collect();
    for task in &small {
        world
            .send(&TASKS, &message(task, Status::TaskFailed, |_| {}))
            .await;
    }
    world.work().await;
    let sent = world.fax.sent();
    assert_eq!(sent.len(), 30 * 50 + small.len(), "50 of a kind");
    let last = sent
        .iter()
        .rposition(|(_, subject)| subject == "small")
        .unwrap();
    assert!(last < 200, "{last} went out before, of {}", sent.len());
    let first = sent
        .iter()
        .position(|(_, subject)| subject == "large")
        .unwrap();
    assert!(first < last, "it was sent in between");
}

#[tokio::test]
async fn notifications_beyond_the_share_are_skipped_and_logged() {
    let (_guard, logs) = capture_logs();
    let world = World::new().await;
    let all: Vec<_> = (0..53)
        .map(|number| format!("{number}@example.com"))
        .collect();
    let task = world.task(
        json!({ "notification": { "artifact-created": { "plugins": ["fax"], "emails": all } } }),
    );
    let made = |number: u32| {
        message(&task, Status::ArtifactCreated, move |body| {
            body["artifact"]["name"] = json!(format!("a{number}"))
        })
    };
    for number in 0..100 {
        world.says(&made(number)).await;
    }
    assert_eq!(world.fax.sent().len(), 100 * 50);
    let message = world.fax.last().message;
    assert!(
        message.contains("(3 more recipients are not notified: "),
        "{message}"
    );
    assert!(
        message
            .contains("(The task made 100 artifacts by now: of further ones nobody is notified.)"),
        "{message}"
    );
    let said = |words: &str| {
        logs.text()
            .lines()
            .filter(|line| line.contains(words))
            .count()
    };
    assert_eq!(
        said("the task names 3 recipients too many on fax: left out"),
        100
    );
    for number in 100..105 {
        world.says(&made(number)).await;
    }
    assert_eq!(
        (
            world.fax.sent().len(),
            said("nor of further ones: the task makes too many")
        ),
        (100 * 50, 1)
    );
    world.says(&made(7)).await;
    assert_eq!(
        world.fax.sent().len(),
        100 * 50,
        "the same again is the same"
    );
    let other = world.task(
        json!({ "notification": { "artifact-created": { "plugins": ["fax"], "emails": [ANN] } } }),
    );
    world.happens(&other, Status::ArtifactCreated).await;
    assert_eq!(
        world.fax.sent().len(),
        100 * 50 + 1,
        "another task has a share of its own"
    );
}

#[tokio::test]
async fn muted_recipient_can_be_unmuted() {
    let world = World::new().await;
    let bounce = || ChannelError::HardBounce {
        channel: "post",
        recipient: ANN.to_owned(),
        problem: "550 unknown".to_owned(),
    };
    world.post.fail_next(bounce());
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), [], "muted");
    let now = world.clock.now();
    assert!(
        !notify::unmute(&*world.bus, "post", BOB, now).await.unwrap(),
        "nobody muted him"
    );
    assert!(notify::unmute(&*world.bus, "post", ANN, now).await.unwrap());
    assert_eq!(muted(&*world.bus, now).await.unwrap(), []);
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[ANN]));
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

#[tokio::test]
async fn unreachable_recipient_is_muted_for_a_day_and_listed() {
    let world = World::new().await;
    let problem = "550 no such user".to_owned();
    world.post.fail_next(ChannelError::HardBounce {
        channel: "post",
        recipient: ANN.to_owned(),
        problem,
    });
    world
        .happens(&world.task(section(&[ANN, BOB])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[BOB]));
    let dead = world.dead(&NOTIFICATIONS).await;
    assert!(
        dead[0].contains("nothing more is sent there for a day: 550 no such user"),
        "{dead:?}"
    );
    let listed = muted(
        world.bus.as_ref(),
        runtime::Clock::now(world.clock.as_ref()),
    )
    .await
    .unwrap();
    assert_eq!(
        (
            listed.len(),
            listed[0].recipient.as_str(),
            listed[0].channel.as_str()
        ),
        (1, ANN, "post")
    );

    world.pass(3600).await;
    world
        .happens(&world.task(section(&[ANN, BOB])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[BOB, BOB]));

    world.pass(24 * 3600).await;
    world
        .happens(&world.task(section(&[ANN])), Status::TaskFailed)
        .await;
    assert_eq!(world.post.sent(), sent(&[BOB, BOB, ANN]));
    assert_eq!(
        muted(
            world.bus.as_ref(),
            runtime::Clock::now(world.clock.as_ref())
        )
        .await
        .unwrap(),
        []
    );
}

#[tokio::test]
async fn waiting_channel_does_not_block_others() {
    let world = World::new().await;
    for number in 0..20 {
        world.post.fail_next(ChannelError::Busy {
            channel: "post",
            retry_after: Some(Duration::from_secs(120)),
            problem: "slow down".to_owned(),
        });
        let somebody = format!("{number}@example.com");
        world
            .happens(&world.task(section(&[&somebody])), Status::TaskFailed)
            .await;
    }
    assert_eq!((world.post.sent().len(), world.robot.sent().len()), (0, 20));
    let waiting = world.bus.depth(&NOTIFICATIONS.spec()).await.unwrap();
    assert_eq!(
        waiting,
        Depth {
            delayed: 20,
            ..Depth::default()
        }
    );
}

#[tokio::test]
async fn stuck_channel_does_not_block_others() {
    let world = World::new().await;
    world.post.get_stuck();
    for number in 0..20 {
        let task = world.task(section(&[&format!("{number}@example.com")]));
        world
            .send(&TASKS, &message(&task, Status::TaskFailed, |_| {}))
            .await;
    }
    world.dispatch().await;
    let process = world.process();
    while world.robot.sent().len() < 20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.post.sent(), []);
    process.abort();
}

#[tokio::test]
async fn endless_send_releases_its_slot() {
    let world = World::new().await;
    world.post.get_stuck();
    world
        .send(
            &TASKS,
            &message(&world.task(section(&[ANN])), Status::TaskFailed, |_| {}),
        )
        .await;
    world.dispatch().await;
    let mut working = Box::pin(world.work());
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            () = &mut working => {
                assert_eq!(world.depth(&NOTIFICATIONS).await, Depth { delayed: 1, ..Depth::default() });
                return;
            }
            // In steps that are shorter than a lease.
            () = tokio::task::yield_now() => world.clock.advance(Duration::from_secs(3)),
        }
    }
    panic!("it is still sending");
}

#[tokio::test]
async fn task_without_recipients_is_settled() {
    let world = World::new().await;
    world
        .happens(&world.task(section(&[])), Status::TaskFailed)
        .await;
    assert_eq!(
        (world.post.sent(), world.depth(&NOTIFICATIONS).await),
        (Vec::new(), Depth::default())
    );
}
