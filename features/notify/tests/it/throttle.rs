//! Notifications beyond the throttle become one digest.

use bus::{Depth, QueueAdmin};
use notify::{ChannelError, Status};
use serde_json::{Value, json};

use crate::world::{DIGESTS, LIMIT, NOTIFICATIONS, World};

fn section(subject: &str) -> Value {
    json!({ "notification": { "task-failed": {
        "plugins": ["post", "robot"], "emails": ["ann@example.com"], "subject": subject } } })
}

/// Tasks fail, one after another within one minute.
async fn fail_tasks(world: &World, tasks: std::ops::Range<usize>) {
    for number in tasks {
        world
            .happens(
                &world.task(section(&format!("task {number}"))),
                Status::TaskFailed,
            )
            .await;
    }
}

#[tokio::test]
async fn excess_is_listed_in_one_digest() {
    let world = World::new().await;
    fail_tasks(&world, 0..10).await;
    let subjects = |world: &World| {
        world
            .post
            .sent()
            .into_iter()
            .map(|(_, subject)| subject)
            .collect::<Vec<_>>()
    };
    assert_eq!(subjects(&world), ["task 0", "task 1", "task 2"]);
    assert_eq!(
        world.robot.sent().len(),
        10,
        "programs receive every notification"
    );
    world.pass(60).await;
    assert_eq!(
        subjects(&world),
        ["task 0", "task 1", "task 2", "7 more notifications"]
    );
    let digest = world.post.last();
    let listed: Vec<_> = digest
        .digest
        .iter()
        .map(|line| line.subject.as_str())
        .collect();
    assert_eq!(
        listed,
        [
            "task 3", "task 4", "task 5", "task 6", "task 7", "task 8", "task 9"
        ]
    );
    assert!(
        digest
            .message
            .contains(&format!("task-failed: task 9\n{}", digest.digest[6].link)),
        "{}",
        digest.message
    );

    fail_tasks(&world, 10..11).await;
    assert_eq!(
        subjects(&world).last().unwrap(),
        "task 10",
        "the next minute is a new one"
    );
    world.pass(3600).await;
    assert_eq!(
        (world.post.sent().len(), world.depth(&DIGESTS).await),
        (LIMIT as usize + 2, Depth::default())
    );
}

#[tokio::test]
async fn failed_digest_is_retried_and_lists_each_notification_once() {
    let world = World::new().await;
    fail_tasks(&world, 0..5).await;
    world.post.fail_next(ChannelError::Failed {
        channel: "post",
        problem: "452 mailbox full".to_owned(),
    });
    world.pass(60).await;
    assert_eq!(world.post.sent().len(), 3);
    world.pass(60).await;
    world.pass(600).await;
    let sent = world.post.sent();
    assert_eq!(
        (sent.len(), sent[3].1.as_str()),
        (4, "2 more notifications")
    );
    assert_eq!(world.depth(&NOTIFICATIONS).await, Depth::default());
}

#[tokio::test]
async fn only_sent_notifications_count_toward_the_limit() {
    let world = World::new().await;
    for number in 0..4 {
        let full = || ChannelError::Failed {
            channel: "post",
            problem: "452 mailbox full".to_owned(),
        };
        world.post.fail_next(full());
        fail_tasks(&world, number..number + 1).await;
    }
    assert_eq!(
        (world.post.sent().len(), world.depth(&DIGESTS).await),
        (0, Depth::default())
    );
    // Within the same minute.
    world.pass(10).await;
    assert_eq!(world.post.sent().len(), LIMIT as usize);
    world.pass(60).await;
    let subjects: Vec<_> = world
        .post
        .sent()
        .into_iter()
        .map(|(_, subject)| subject)
        .collect();
    assert_eq!(
        subjects.last().unwrap(),
        "1 more notifications",
        "the fourth of this minute is in a digest: {subjects:?}"
    );
}

#[tokio::test]
async fn each_minute_over_the_limit_has_one_digest() {
    let world = World::new().await;
    fail_tasks(&world, 0..5).await;
    world.pass(60).await;
    fail_tasks(&world, 5..10).await;
    world.pass(60).await;
    let subjects: Vec<_> = world
        .post
        .sent()
        .into_iter()
        .map(|(_, subject)| subject)
        .collect();
    let expected = [
        "task 0",
        "task 1",
        "task 2",
        "2 more notifications",
        "task 5",
        "task 6",
        "task 7",
    ];
    assert_eq!(subjects[..7], expected);
    assert_eq!(subjects[7..], ["2 more notifications"]);
}

#[tokio::test]
async fn refused_digest_can_be_requeued_for_a_week() {
    const DAY: u64 = 24 * 3600;
    for (days, expected) in [
        (2, Ok("2 more notifications")),
        (8, Err("expired after a week")),
    ] {
        let world = World::new().await;
        fail_tasks(&world, 0..5).await;
        world.post.fail_next(ChannelError::Refused {
            channel: "post",
            problem: "too large".to_owned(),
        });
        world.pass(60).await;
        assert_eq!(
            world.depth(&DIGESTS).await,
            Depth {
                dead: 1,
                ..Depth::default()
            }
        );
        world.pass(days * DAY).await;
        let letters = world.bus.dead(&DIGESTS.spec(), "", 10).await.unwrap();
        world
            .bus
            .requeue_dead(&DIGESTS.spec(), std::slice::from_ref(&letters[0].id))
            .await
            .unwrap();
        world.work().await;
        let (sent, dead) = (world.post.sent(), world.dead(&DIGESTS).await);
        match expected {
            Ok(subject) => assert_eq!(
                (sent.len(), sent[3].1.as_str(), dead.len()),
                (4, subject, 0)
            ),
            Err(reason) => assert!(sent.len() == 3 && dead[0].contains(reason), "{dead:?}"),
        }
    }
}
