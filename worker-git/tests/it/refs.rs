//! The deletion of old refs.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use runtime::{Service, Shutdown, SystemClock};
use worker::{Due, PruneOptions, RefAction};

use crate::{
    peers::{REF, over_ssh},
    world::{Closed, World, until},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A world with a head of D7 on its ref.
async fn with_a_ref() -> (World, Arc<Closed>) {
    let mut world = World::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(7)).await;
    (world, Arc::default())
}

#[tokio::test]
async fn ref_is_deleted_after_its_retention() {
    let (mut world, closed) = with_a_ref().await;
    let head = world.destination.rev(REF);
    let listed = world.listed_refs().await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (
            listed[0].reference.as_str(),
            &listed[0].head,
            listed[0].revision_id
        ),
        (REF, &head, 7)
    );
    world.clock.advance(14 * DAY - Duration::from_secs(3600));
    assert_eq!(world.pruned(&closed).await, []);
    // A build that is restarted uses its ref again.
    let again = world.simple_build(7);
    world.die_before_the_end_is_recorded(&again).await;
    world.pushed(&again).await;
    world.clock.advance(DAY);
    assert_eq!(world.pruned(&closed).await, []);
    world.clock.advance(14 * DAY);
    let dry = PruneOptions {
        dry_run: true,
        ..PruneOptions::default()
    };
    let dry = world.prune(&closed, dry).await.refs;
    assert_eq!(
        (dry[0].action, dry[0].due),
        (RefAction::WouldDelete, Some(Due::Old))
    );
    assert_eq!(world.destination.rev(REF), head);
    assert_eq!(world.pruned(&closed).await, [RefAction::Deleted]);
    assert_eq!(world.destination.branches(), [""; 0]);
    assert_eq!(world.listed_refs().await, []);
    assert_eq!(world.pruned(&closed).await, []);
    world.stop().await;
}

#[tokio::test]
async fn ref_is_deleted_when_its_revision_closes() {
    let (mut world, closed) = with_a_ref().await;
    world.pushed(&world.simple_build(8)).await;
    closed.revisions.lock().insert(7);
    closed.away.store(true, Ordering::SeqCst);
    let away = world.prune(&closed, PruneOptions::default()).await;
    assert!(away.refs.is_empty());
    assert_eq!(away.failures.len(), 1);
    closed.away.store(false, Ordering::SeqCst);
    let pruned = world.prune(&closed, PruneOptions::default()).await.refs;
    assert_eq!(
        (pruned[0].action, pruned[0].due),
        (RefAction::Deleted, Some(Due::Closed))
    );
    assert_eq!(world.destination.branches(), ["phabricator/D8/1008"]);
    world.stop().await;
}

#[tokio::test]
async fn ref_of_an_open_build_is_not_deleted() {
    let mut world = World::new();
    let closed = Arc::default();
    world.start_ready().await;
    let build = world.simple_build(7);
    world.accept(&build).await;
    world.pushed(&build).await;
    world.clock.advance(20 * DAY);
    assert_eq!(world.pruned(&closed).await, [RefAction::Busy]);
    assert!(world.destination.has(REF));
    world.publish(&build).await;
    assert_eq!(world.pruned(&closed).await, [RefAction::Deleted]);
    world.stop().await;
}

#[tokio::test]
async fn ref_that_somebody_else_moved_is_left_and_forgotten() {
    let (mut world, closed) = with_a_ref().await;
    world.pushed(&world.simple_build(8)).await;
    let strange = world.destination.strange_commit(REF);
    world
        .destination
        .git(&["update-ref", "-d", "refs/heads/phabricator/D8/1008"]);
    world.clock.advance(15 * DAY);
    assert_eq!(
        world.pruned(&closed).await,
        [RefAction::Missing, RefAction::Moved]
    );
    assert_eq!(world.destination.rev(REF), strange);
    assert_eq!(world.listed_refs().await, []);
    world.stop().await;
}

#[tokio::test]
async fn ref_with_an_earlier_head_of_ours_is_deleted() {
    let (mut world, closed) = with_a_ref().await;
    let first = world.destination.rev(REF);
    // The same diff on another base, as a restarted build is.
    world.source.write("other.txt", b"other");
    world.source.commit("newer");
    let again = world.simple_build(7);
    world.die_before_the_end_is_recorded(&again).await;
    world.repository().use_latest_revision = true;
    world.stop().await;
    world.start_ready().await;
    let mut again = world.simple_build(7);
    again.request.target = crate::world::phid("PHID-HMBT-again");
    world.pushed(&again).await;
    assert_ne!(world.destination.rev(REF), first);
    world.destination.git(&["update-ref", REF, &first]);
    world.clock.advance(15 * DAY);
    assert_eq!(world.pruned(&closed).await, [RefAction::Deleted]);
    assert_eq!(world.destination.branches(), [""; 0]);
    world.stop().await;
}

#[tokio::test]
async fn refused_deletion_stops_no_other_and_is_tried_again_after_a_day() {
    let (mut world, closed) = with_a_ref().await;
    world.pushed(&world.simple_build(8)).await;
    // Such a hook rejects whole pushes.
    world
        .destination
        .hook("pre-receive", "! grep -q D8; exit $?");
    world.clock.advance(15 * DAY);
    assert_eq!(
        world.pruned(&closed).await,
        [RefAction::Refused, RefAction::Deleted]
    );
    let refused = world.listed_refs().await[0].refused.clone().unwrap();
    assert!(
        refused
            .error
            .contains("delete refs/heads/phabricator/D8/1008 at "),
        "{refused:?}"
    );
    world.destination.unhook();
    assert_eq!(world.pruned(&closed).await, [RefAction::Waiting]);
    world.clock.advance(DAY);
    assert_eq!(world.pruned(&closed).await, [RefAction::Deleted]);
    world.stop().await;
}

#[tokio::test]
async fn operator_need_not_wait_for_a_refused_ref() {
    let (mut world, closed) = with_a_ref().await;
    world
        .destination
        .git(&["config", "receive.denyDeletes", "true"]);
    world.clock.advance(15 * DAY);
    assert_eq!(world.pruned(&closed).await, [RefAction::Refused]);
    world
        .destination
        .git(&["config", "receive.denyDeletes", "false"]);
    let options = PruneOptions {
        retry_refused: true,
        ..PruneOptions::default()
    };
    let pruned = world.prune(&closed, options).await.refs;
    assert_eq!(pruned[0].action, RefAction::Deleted);
    world.stop().await;
}

#[tokio::test]
async fn destination_that_is_down_ends_the_round_and_loses_no_ref() {
    let (mut world, mut sshd) = over_ssh().await;
    let closed = Arc::default();
    world.start_ready().await;
    for number in [7, 8] {
        world.pushed(&world.simple_build(number)).await;
    }
    world.clock.advance(15 * DAY);
    sshd.stop().await.unwrap();
    let down = world.prune(&closed, PruneOptions::default()).await;
    let actions: Vec<RefAction> = down.refs.iter().map(|one| one.action).collect();
    assert_eq!(actions, [RefAction::Failed, RefAction::Failed]);
    let failures: Vec<String> = down
        .failures
        .iter()
        .map(|failure| runtime::error_chain(failure))
        .collect();
    assert!(
        failures.len() == 1 && failures[0].contains("cannot delete old refs of central"),
        "{failures:?}"
    );
    sshd.restart().await.unwrap();
    assert_eq!(
        world.pruned(&closed).await,
        [RefAction::Deleted, RefAction::Deleted]
    );
    assert_eq!(world.destination.branches(), [""; 0]);
    let left: Vec<_> = std::fs::read_dir(world.settings.clones_dir.join(".ssh"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(left, ["central"], "only the files of the clone slot");
    world.stop().await;
}

#[tokio::test]
async fn build_whose_ref_is_being_deleted_waits() {
    let (mut world, closed) = with_a_ref().await;
    world.clock.advance(15 * DAY);
    // The pruner dies while it deletes: its claim stays.
    let started = world.path("started");
    let script = format!("touch {}; exec sleep 600", started.display());
    world.destination.hook("pre-receive", &script);
    let pruner = world.pruner(&closed);
    let round = tokio::spawn(async move { pruner.prune(PruneOptions::default()).await });
    until("the deletion has begun", || started.exists()).await;
    round.abort();
    round.await.unwrap_err();
    world.destination.unhook();
    assert_eq!(world.pruned(&closed).await, [RefAction::Busy]);
    let again = world.simple_build(7);
    world.die_before_the_end_is_recorded(&again).await;
    let before = runtime::Clock::now(world.clock.as_ref());
    world.pushed(&again).await;
    let waited = runtime::Clock::now(world.clock.as_ref()).duration_since(before);
    assert!(waited.as_secs() >= 14 * 60, "{waited:?}");
    assert!(world.destination.has(REF));
    assert_eq!(world.pruned(&closed).await, []);
    world.stop().await;
}

#[tokio::test]
async fn service_deletes_refs_each_hour() {
    let (mut world, closed) = with_a_ref().await;
    let shutdown = Shutdown::new();
    let pruner = Box::new(world.pruner(&closed));
    let pruning = tokio::spawn(pruner.run(shutdown.clone()));
    world.clock.advance(15 * DAY);
    for number in [7, 8] {
        if number == 8 {
            let mut later = world.simple_build(8);
            later.diff.created_at = runtime::Clock::now(world.clock.as_ref());
            world.pushed(&later).await;
            world.clock.advance(15 * DAY);
        }
        let path = world.destination.path.join(format!(
            "refs/heads/phabricator/D{number}/{}",
            number + 1000
        ));
        for _ in 0..10_000 {
            if !path.exists() {
                break;
            }
            world.clock.advance(Duration::from_secs(5));
            runtime::Clock::sleep(&SystemClock, Duration::from_millis(10)).await;
        }
        assert!(!path.exists(), "D{number}");
    }
    shutdown.stop();
    pruning.await.unwrap().unwrap();
    world.stop().await;
}
