//! Several clones of one repository.

use std::time::Duration;

use build::BuildUpdate;

use crate::{Answer, Repository, Side, World, pause, until};

/// Starts with two slots, and waits until both can be built on.
async fn start_both<S: Side>(world: &mut World<S>) -> S::Repo {
    world.repository().clone_slots = 2;
    // A build waits for the second one while that is opened.
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start();
    let second = world.clone_called("central@2");
    until("the second slot", || {
        second.path().join("source-tip").exists()
    })
    .await;
    second
}

pub async fn as_many_builds_are_made_at_once_as_there_are_slots<S: Side>() {
    let mut world = World::<S>::new();
    let second = start_both(&mut world).await;
    world.phabricator.say(Answer::Held);
    for number in 1..=3 {
        world.send(&world.simple_build(number)).await;
    }
    let (shutdown, working) = world.work();
    until("two builds at once", || world.phabricator.held() == 2).await;
    world.phabricator.say(Answer::Wanted);
    let mut pushed = 0;
    while pushed < 3 {
        match world.update().await {
            Some(applied) => {
                assert!(
                    matches!(applied.update, BuildUpdate::Pushed(_)),
                    "{applied:?}"
                );
                pushed += 1;
            }
            None => pause().await,
        }
    }
    assert_eq!(world.destination.pushed().len(), 3);
    let tip = world.source.newest();
    for clone in [second, world.own_clone()] {
        world.until_tidy(&clone, &tip).await;
    }
    shutdown.stop();
    working.await.unwrap();
}

/// What is wrong with the second one is what is wrong with any.
pub async fn slot_that_is_damaged_is_cloned_again_while_the_other_works<S: Side>() {
    let mut world = World::<S>::new();
    let second = start_both(&mut world).await;
    world.stop().await;
    let (_, damage) = S::damages().pop().unwrap();
    damage(second.path());
    world.start();
    for number in 1..=3 {
        world.pushed(&world.simple_build(number)).await;
    }
    // It is kept for inspection.
    let quarantined = world.path("clones/.central@2.quarantined");
    until("the second slot again", || {
        quarantined.exists() && second.path().join("source-tip").exists()
    })
    .await;
    world.stop().await;
}
