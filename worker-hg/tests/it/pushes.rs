//! How a push can end.

use std::time::Duration;

use runtime::Clock;

use build::BuildUpdate;

use crate::world::{Repo, World, hanging_hook, hg, living_in_group};

#[tokio::test]
async fn build_that_comes_twice_makes_one_head() {
    let mut world = World::new();
    world.start();
    let build = world.simple_build(7);
    let first = world.pushed(&build).await;
    world.die_before_the_end_is_recorded(&build).await;
    let second = world.pushed(&build).await;
    assert_eq!(first.revision, second.revision);
    assert_eq!(world.try_repo.heads(), 1);
    world.stop().await;
}

#[tokio::test]
async fn publishing_try_does_not_make_our_changesets_the_sources() {
    let mut world = World::new();
    world.try_repo.configure("[phases]\npublish = true\n");
    world.start();
    let base = world.source.tip();
    for number in 7..9 {
        let mut build = world.simple_build(number);
        build.stack[0].diff.base = None;
        assert_eq!(world.pushed(&build).await.base.used, base);
    }
    world.until_tidy(&world.clone(), &base).await;
    world.stop().await;
}

#[tokio::test]
async fn hook_that_refuses_is_tried_again_and_shown() {
    let mut world = World::new();
    let open = world.path("open");
    let hook = format!("echo CLOSED TREE; test -e {}", open.display());
    world
        .try_repo
        .configure(&format!("[hooks]\npretxnchangegroup.tree = {hook}\n"));
    world.start();
    let update = world.build(&world.simple_build(7)).await;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert_eq!(
        failure.summary,
        "The push to try was refused by a hook there."
    );
    assert!(
        failure.details.contains("pretxnchangegroup.tree hook"),
        "{}",
        failure.details
    );
    assert_eq!(world.dead_letters().await.len(), 1);
    assert_eq!(world.try_repo.tip(), world.source.tip());

    std::fs::write(&open, "").unwrap();
    world.pushed(&world.simple_build(8)).await;
    world.stop().await;
}

#[tokio::test]
async fn fault_that_needs_an_operator_is_not_retried() {
    let mut world = World::new();
    let hidden = world.path("elsewhere");
    std::fs::rename(&world.try_repo.path, &hidden).unwrap();
    world.start();
    let before = world.clock.now();
    let update = world.build(&world.simple_build(7)).await;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert_eq!(
        (failure.summary.as_str(), failure.attempts),
        (
            "The address that we have for try leads to no repository.",
            1
        )
    );
    assert!(
        failure.details.contains("does not exist"),
        "{}",
        failure.details
    );
    // The first pause between attempts is 6 s, the second 36 s; a deferral while the clone is made takes 5 s.
    assert!(world.clock.now().duration_since(before).as_secs() < 3600);
    std::fs::rename(&hidden, &world.try_repo.path).unwrap();
    world.pushed(&world.simple_build(8)).await;
    world.stop().await;
}

#[tokio::test]
async fn push_that_landed_without_a_response_is_a_success() {
    let mut world = World::new();
    // The hook of a local Try runs below our own `hg`, and kills it when all is written.
    world
        .try_repo
        .configure("[hooks]\nchangegroup.die = kill -9 $PPID\n");
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    assert_eq!(world.try_repo.tip(), pushed.revision);
    assert_eq!(world.try_repo.heads(), 1);
    world.until_tidy(&world.clone(), &world.source.tip()).await;
    world.stop().await;
}

#[tokio::test]
async fn push_that_died_in_a_local_try_does_not_stop_the_later_ones() {
    let mut world = World::new();
    let died = world.path("died");
    let hook = format!(
        "test -e {0} || {{ touch {0}; kill -9 $PPID; }}",
        died.display()
    );
    world
        .try_repo
        .configure(&format!("[hooks]\npretxnchangegroup.die = {hook}\n"));
    world.start();
    let pushed = world.pushed(&world.simple_build(7)).await;
    assert!(died.exists());
    assert_eq!(world.try_repo.tip(), pushed.revision);
    assert_eq!(world.try_repo.heads(), 1);
    world.stop().await;
}

#[tokio::test]
async fn push_past_its_deadline_is_killed_with_its_children() {
    let mut world = World::new();
    let note = world.path("hanging");
    world.start_ready().await;
    world.stop().await;
    world.clone().configure(&format!(
        "[hooks]\npreoutgoing.hang = {}\n",
        hanging_hook(&note)
    ));
    world.settings.limits.transfer = Duration::from_secs(2);
    world.start();
    let update = world.build(&world.simple_build(7)).await;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert!(
        failure.details.contains("`hg push` was killed after 2 s"),
        "{}",
        failure.details
    );
    assert_eq!(living_in_group(&note), Vec::<String>::new());
    world.stop().await;
}

#[tokio::test]
async fn each_repository_is_ready_on_its_own() {
    let mut world = World::new();
    let mut away = world.settings.repositories[0].clone();
    away.phid = crate::world::phid("PHID-REPO-away");
    away.name = "away".to_owned();
    away.url = world.path("not-there").to_str().unwrap().to_owned();
    world.settings.repositories.push(away);
    world.start();
    let mut waiting = world.simple_build(8);
    waiting.request.repository = crate::world::phid("PHID-REPO-away");
    world.send(&waiting).await;
    world.pushed(&world.simple_build(7)).await;
    assert!(
        world.dead_letters().await.is_empty(),
        "a build that waits uses up no attempt"
    );

    hg(
        world.home.path(),
        &["clone", "--quiet", "source", "not-there"],
    );
    let applied = world.next_update().await;
    assert_eq!(applied.request, waiting.request);
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{applied:?}"
    );
    let away = Repo {
        path: world.settings.clones_dir.join("away"),
    };
    world.until_tidy(&away, &world.source.tip()).await;
    world.stop().await;
}
