//! Several clones of one repository.

use std::{fs, time::Duration};

use build::BuildUpdate;

use crate::world::{Repo, World, until};

/// A hook of a clone that says that a push has begun, and holds it until there is a file `go`.
fn holding_hook(world: &World) -> String {
    let home = world.home.path().display();
    format!(
        "[hooks]\npreoutgoing.hold = touch {home}/begun-$PPID; until test -e {home}/go; do sleep 0.05; done\n"
    )
}

fn begun(world: &World) -> usize {
    let entries = fs::read_dir(world.home.path()).unwrap().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("begun-"))
        .count()
}

#[tokio::test]
async fn as_many_builds_are_made_at_once_as_there_are_lanes() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    world.clone().configure(&holding_hook(&world));
    world.repository().clone_slots = 2;
    // A build waits for the second one while that is opened.
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start();
    let second = Repo {
        path: world.settings.clones_dir.join("central@2"),
    };
    // It is copied from the first one, which is not to be held by a build before.
    until("the second slot", || {
        second.path.join("source-tip").exists()
    })
    .await;
    for number in 1..=3 {
        world.send(&world.simple_build(number)).await;
    }
    let (shutdown, working) = world.work();
    until("two pushes at once", || begun(&world) == 2).await;
    fs::write(world.path("go"), "").unwrap();
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
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(world.try_repo.heads(), 3);
    world.until_tidy(&second, &world.source.tip()).await;
    world.until_tidy(&world.clone(), &world.source.tip()).await;
    shutdown.stop();
    working.await.unwrap();
}

#[tokio::test]
async fn lane_that_is_damaged_is_cloned_again_while_the_other_works() {
    let mut world = World::new();
    world.repository().clone_slots = 2;
    world.start();
    let second = Repo {
        path: world.settings.clones_dir.join("central@2"),
    };
    until("the second slot", || {
        second.path.join("source-tip").exists()
    })
    .await;
    world.stop().await;
    let changelog = second.path.join(".hg/store/00changelog.i");
    fs::write(&changelog, "junk").unwrap();
    world.start();
    for number in 1..=3 {
        world.pushed(&world.simple_build(number)).await;
    }
    until("the second slot again", || {
        fs::read(&changelog).is_ok_and(|bytes| bytes != b"junk")
    })
    .await;
    let quarantined = world
        .settings
        .clones_dir
        .join(".central@2.quarantined/.hg/store/00changelog.i");
    assert_eq!(
        fs::read(quarantined).unwrap(),
        b"junk",
        "it is kept for inspection"
    );
    world.stop().await;
}
