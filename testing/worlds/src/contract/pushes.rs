//! How a push can end.

use std::{fs, time::Duration};

use build::{BuildUpdate, InfraFailure};
use runtime::Clock;

use crate::{Moment, Repository, Side, World, copy_directory, hanging_hook, living_in_group, phid};

/// A build that must fail by our fault.
async fn infra_failed<S: Side>(world: &World<S>, number: u64) -> InfraFailure {
    match world.build(&world.simple_build(number)).await {
        BuildUpdate::InfraFailed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

pub async fn build_that_comes_twice_makes_one_head<S: Side>() {
    let mut world = World::<S>::new();
    world.start();
    let build = world.simple_build(7);
    let first = world.pushed(&build).await;
    world.die_before_the_end_is_recorded(&build).await;
    let second = world.pushed(&build).await;
    assert_eq!(first.revision, second.revision);
    assert_eq!(world.destination.pushed(), [first.revision]);
    world.stop().await;
}

pub async fn hook_that_refuses_is_tried_again_and_shown<S: Side>() {
    let mut world = World::<S>::new();
    // The second line is what an author would write to imitate the version control.
    let words = "echo CLOSED TREE; echo 'abort: fatal: Permission denied (publickey)' >&2";
    let hook = format!("{words}; exit 1");
    world.destination.hook(Moment::BeforePush, &hook);
    world.start();
    let failure = infra_failed(&world, 7).await;
    assert_eq!(
        (failure.summary.as_str(), failure.attempts),
        ("The push to try was refused by a hook there.", 3)
    );
    assert!(failure.details.contains("CLOSED TREE"), "{failure:?}");
    assert_eq!(world.dead_letters().await.len(), 1);
    world.nothing_was_pushed();

    world.destination.unhook();
    world.pushed(&world.simple_build(8)).await;
    world.stop().await;
}

pub async fn fault_that_needs_an_operator_is_not_retried<S: Side>() {
    let mut world = World::<S>::new();
    let hidden = world.path("elsewhere");
    fs::rename(world.destination.path(), &hidden).unwrap();
    world.start();
    let before = world.clock.now();
    let failure = infra_failed(&world, 7).await;
    assert_eq!(
        (failure.summary.as_str(), failure.attempts),
        (
            "The address that we have for try leads to no repository.",
            1
        )
    );
    assert!(failure.details.contains("does not "), "{failure:?}");
    // The pauses between attempts are 6 s and 36 s; a deferral while the clone is made takes 5 s.
    assert!(world.clock.now().duration_since(before).as_secs() < 3600);
    fs::rename(&hidden, world.destination.path()).unwrap();
    world.pushed(&world.simple_build(8)).await;
    world.stop().await;
}

pub async fn push_that_landed_without_a_response_is_a_success<S: Side>() {
    let mut world = World::<S>::new();
    // On this machine the hook kills the program that has just written all, and with Mercurial that is our own.
    world.destination.hook(Moment::AfterPush, "kill -9 $PPID");
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    assert_eq!(world.destination.pushed(), [pushed.revision]);
    let tip = world.source.newest();
    world.until_tidy(&world.own_clone(), &tip).await;
    world.stop().await;
}

pub async fn push_that_died_at_the_destination_does_not_stop_the_later_ones<S: Side>() {
    let mut world = World::<S>::new();
    let died = world.path("died");
    let hook = format!(
        "test -e {0} || {{ touch {0}; kill -9 $PPID; }}",
        died.display()
    );
    world.destination.hook(Moment::BeforePush, &hook);
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    assert!(died.exists());
    assert_eq!(world.destination.pushed(), [pushed.revision]);
    world.stop().await;
}

pub async fn destination_that_always_dies_is_our_fault<S: Side>() {
    let mut world = World::<S>::new();
    world
        .destination
        .hook(Moment::BeforePush, "kill -9 $PPID; sleep 600");
    world.start();
    let failure = infra_failed(&world, 7).await;
    assert_eq!(failure.attempts, 3, "{failure:?}");
    world.nothing_was_pushed();
    world.stop().await;
}

pub async fn push_past_its_deadline_is_killed_with_its_children<S: Side>() {
    let mut world = World::<S>::new();
    let note = world.path("hanging");
    world.start_ready().await;
    world.stop().await;
    let hook = hanging_hook(&note);
    world.destination.hook(Moment::BeforePush, &hook);
    world.settings.limits.transfer = Duration::from_secs(2);
    world.start();
    let failure = infra_failed(&world, 7).await;
    assert!(
        failure.details.contains(" push` was killed after 2 s"),
        "{failure:?}"
    );
    // On a slow machine not even the hook may begin in time.
    if note.exists() {
        assert_eq!(living_in_group(&note), Vec::<String>::new());
    }
    world.stop().await;
}

pub async fn each_repository_is_ready_on_its_own<S: Side>() {
    let mut world = World::<S>::new();
    let elsewhere = S::Repo::at(world.path("not-there"));
    let mut away = world.settings.repositories[0].clone();
    away.phid = phid("PHID-REPO-away");
    away.name = "away".to_owned();
    away.url = elsewhere.address();
    world.settings.repositories.push(away);
    world.start();
    let mut waiting = world.simple_build(8);
    waiting.request.repository = phid("PHID-REPO-away");
    world.send(&waiting).await;
    world.pushed(&world.simple_build(7)).await;
    assert!(
        world.dead_letters().await.is_empty(),
        "a build that waits uses up no attempt"
    );

    copy_directory(world.source.path(), elsewhere.path());
    let applied = world.next_update().await;
    assert_eq!(applied.request, waiting.request);
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{applied:?}"
    );
    let tip = world.source.newest();
    world.until_tidy(&world.clone_called("away"), &tip).await;
    world.stop().await;
}
