//! Large tasks and slow channels beside others.

use super::*;

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
    // Behind them, in whatever partition.
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
        message.contains("(The task created 100 artifacts: later ones are not notified.)"),
        "{message}"
    );
    let said = |words: &str| {
        logs.text()
            .lines()
            .filter(|line| line.contains(words))
            .count()
    };
    assert_eq!(
        said("ignoring 3 recipients on fax: the task names too many"),
        100
    );
    for number in 100..105 {
        world.says(&made(number)).await;
    }
    assert_eq!(
        (
            world.fax.sent().len(),
            said("ignoring this artifact and later ones: the task created too many")
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
