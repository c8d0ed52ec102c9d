//! Outages, deaths of workers, and concurrent deliveries.

use super::*;

#[tokio::test]
async fn selection_waits_for_decision_task() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    world.push(&build).await;
    world
        .selected(build.request.diff_id, &Selection::default())
        .await;
    assert_eq!(
        world.bus.depth(&SELECTIONS.spec()).await.unwrap().delayed,
        1
    );
    world.decide(HEAD, Some(ACTIONS));
    world.clock.advance(Duration::from_secs(120));
    assert_eq!(world.take_selections().await, 1);
    assert_eq!(
        (
            world.waiting(&HOOKS).await.len(),
            world.unfinished(&SELECTIONS).await
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn push_with_failed_decision_task_expires() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    world.push(&build).await;
    world
        .selected(build.request.diff_id, &Selection::default())
        .await;
    for _ in 0..7 * 30 {
        world.clock.advance(Duration::from_secs(120));
        world.take_selections().await;
    }
    assert_eq!(
        world.bus.depth(&SELECTIONS.spec()).await.unwrap(),
        Depth::default()
    );
    assert!(world.waiting(&HOOKS).await.is_empty());
}

#[tokio::test]
async fn selection_survives_outage_and_worker_death() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    world.push(&build).await;
    world.decide(HEAD, Some(ACTIONS));
    for (fake, call) in [
        (&world.community, "queue.task"),
        (&world.community, "queue.getLatestArtifact"),
        (&world.firefox, "index.findTask"),
        (&world.firefox, "queue.task"),
        (&world.firefox, "queue.getLatestArtifact"),
    ] {
        fake.fail_until_mended(call, &Fault::Status(500));
        if world.unfinished(&SELECTIONS).await == 0 {
            world
                .announce(&world.select(build.request.diff_id, &Selection::default()))
                .await;
        }
        world.clock.advance(Duration::from_secs(600));
        assert_eq!(world.take_selections().await, 1);
        assert_eq!(world.unfinished(&SELECTIONS).await, 1, "{call}");
        assert!(
            world.waiting(&HOOKS).await.is_empty() && world.waiting(&MAILS).await.is_empty(),
            "{call}"
        );
        fake.mend();
    }
    world.clock.advance(Duration::from_secs(600));
    world.die_with(&SELECTIONS).await;
    assert_eq!(world.take_selections().await, 1);
    assert_eq!(
        (
            world.waiting(&HOOKS).await.len(),
            world.waiting(&MAILS).await.len()
        ),
        (1, 2)
    );
    assert_eq!(
        world.bus.depth(&SELECTIONS.spec()).await.unwrap(),
        Depth::default()
    );
}

#[tokio::test]
async fn push_survives_worker_death() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    world.send(&PUSHES, &build).await;
    world.die_with(&PUSHES).await;
    assert_eq!(
        (
            world.take_pushes().await,
            world.waiting(&COMMUNITY_HOOKS).await.len()
        ),
        (1, 1)
    );
    world.push(&build).await;
    assert_eq!(world.waiting(&COMMUNITY_HOOKS).await.len(), 1);
}

/// Both deliveries send triggers with the same key, so the runner triggers the hook once.
#[tokio::test]
async fn concurrent_deliveries_create_one_task() {
    let world = World::new().await;
    let build = world.build(HEAD).await;
    world.send(&PUSHES, &build).await;
    world.send(&PUSHES, &build).await;
    assert_eq!(world.take_pushes().await, 2);
    world.decide(HEAD, Some(ACTIONS));
    let task = world.select(build.request.diff_id, &Selection::default());
    world.announce(&task).await;
    world.announce(&task).await;
    assert_eq!(world.take_selections().await, 2);
    for queue in [COMMUNITY_HOOKS, HOOKS] {
        let triggers = world.waiting(&queue).await;
        assert!(
            triggers.windows(2).all(|two| two[0].key == two[1].key) && !triggers.is_empty(),
            "{triggers:?}"
        );
    }
    while world.unfinished(&MAILS).await > 0 {
        world.send_mails().await;
    }
    assert_eq!(world.firefox.mails().len(), 2);
}
