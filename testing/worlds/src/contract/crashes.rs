//! What is left when a worker dies, and what it takes along when it ends.

use std::fs;

use build::BuildUpdate;

use crate::{
    Answer, Moment, Repository, Side, World, change, hanging_hook, living_in_group, until,
};

pub async fn clone_that_is_damaged_at_the_start_is_cloned_again<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    for (number, (case, damage)) in (1..).zip(S::damages()) {
        world.stop().await;
        damage(world.own_clone().path());
        world.start_ready().await;
        let update = world.build(&world.simple_build(number)).await;
        assert!(
            matches!(update, BuildUpdate::Pushed(_)),
            "{case}: {update:?}"
        );
    }
    world.stop().await;
}

pub async fn clone_that_is_found_damaged_by_a_build_is_cloned_again<S: Side>() {
    let mut world = World::<S>::new();
    world.start();
    world.pushed(&world.simple_build(1)).await;
    let tip = world.source.newest();
    world.until_tidy(&world.own_clone(), &tip).await;
    S::damage_hello(&world.own_clone());
    let patch = change("line 5", "line five");
    world
        .pushed(&world.build_of(vec![world.patch(2, patch)]))
        .await;
    assert!(world.path("clones/.central.quarantined").exists());
    world.stop().await;
}

pub async fn two_processes_do_not_share_a_clone<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    let mut other = World::<S>::new();
    other.settings = world.settings.clone();
    other.has_clone = false;
    other.start();
    let waiting = other.simple_build(2);
    other.send(&waiting).await;
    world.pushed(&world.simple_build(3)).await;
    world.stop().await;
    let applied = other.next_update().await;
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{applied:?}"
    );
    other.stop().await;
}

pub async fn worker_that_ends_before_a_push_has_pushed_nothing_and_the_next_one_finishes<
    S: Side,
>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    world.phabricator.say(Answer::Held);
    world.send(&world.simple_build(7)).await;
    let guard = world.phabricator.clone();
    world.stop_in_flight(|| guard.held() == 1).await;
    world.nothing_was_pushed();
    world.phabricator.say(Answer::Wanted);
    ends_with_one_head(world).await;
}

pub async fn worker_that_ends_within_a_push_leaves_no_process_and_the_next_one_finishes<S: Side>() {
    ends_in_hook::<S>(Moment::BeforePush).await;
}

pub async fn worker_that_ends_after_a_push_leaves_no_process_and_the_next_one_answers<S: Side>() {
    ends_in_hook::<S>(Moment::AfterPush).await;
}

async fn ends_in_hook<S: Side>(moment: Moment) {
    let mut world = World::<S>::new();
    let note = world.path("hanging");
    world.destination.hook(moment, &hanging_hook(&note));
    world.start();
    world.send(&world.simple_build(7)).await;
    world.stop_in_flight(|| note.exists()).await;
    assert_eq!(living_in_group(&note), Vec::<String>::new());
    world.destination.unhook();
    ends_with_one_head(world).await;
}

pub async fn worker_that_ends_within_the_first_clone_leaves_no_process_and_the_next_one_clones<
    S: Side,
>() {
    let mut world = World::<S>::new();
    world.has_clone = false;
    let note = world.path("hanging");
    world.side.hang_transfers(&world.source, &note);
    world.start();
    world.stop_in_flight(|| note.exists()).await;
    assert_eq!(living_in_group(&note), Vec::<String>::new());
    assert!(!world.own_clone().path().exists());

    world.side.let_transfers_end(&world.source);
    let making = world.path("clones/.central.cloning");
    fs::create_dir_all(making.join(S::OWN_DIRECTORY)).unwrap();
    fs::write(making.join("half"), "half").unwrap();
    world.start();
    world.pushed(&world.simple_build(7)).await;
    assert!(!making.exists() && !world.own_clone().path().join("half").exists());
    world.stop().await;
}

/// The build is answered once, and is one head.
async fn ends_with_one_head<S: Side>(mut world: World<S>) {
    world.start();
    let applied = world.next_update().await;
    let BuildUpdate::Pushed(pushed) = applied.update else {
        panic!("{applied:?}")
    };
    assert_eq!(world.destination.pushed(), [pushed.revision]);
    assert_eq!(world.waiting().await, 0);
    assert!(world.update().await.is_none(), "a second answer");
    world.destination.verify();
    let tip = world.source.newest();
    until("the clone to be tidy", || {
        S::is_tidy(&world.own_clone(), &tip)
    })
    .await;
    world.stop().await;
}
