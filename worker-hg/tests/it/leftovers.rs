//! What Mercurial leaves in a clone when it is killed, and what a Try makes of our changesets.

use std::fs;

use build::{BuildEventKind, BuildUpdate};

use crate::world::{World, add, hanging_hook, living_in_group};

#[tokio::test]
async fn leftovers_of_a_killed_worker_are_removed_at_the_next_start() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    let clone = world.own_clone();
    let base = world.source.tip();
    clone.hg(&["debugsetparents", &base]);
    let patch = world.path("left.patch");
    fs::write(&patch, add("left", "x")).unwrap();
    clone.hg(&[
        "import",
        "--bypass",
        "--user=x",
        "--message=left",
        patch.to_str().unwrap(),
    ]);
    // A push to a publishing Try would have made it public.
    clone.hg(&["phase", "--public", "tip"]);
    assert_ne!(clone.tip(), base);
    world.start();
    let mut build = world.simple_build(7);
    build.stack[0].diff.base = None;
    assert_eq!(world.pushed(&build).await.base.used, base);
    world.until_tidy(&clone, &base).await;
    world.stop().await;
}

#[tokio::test]
async fn worker_that_must_end_within_an_import_leaves_no_process_and_the_next_one_finishes() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    let note = world.path("hanging");
    let configuration = world.own_clone().path.join(".hg/hgrc");
    let without_hook = fs::read(&configuration).unwrap();
    world.own_clone().configure(&format!(
        "[hooks]\npretxncommit.hang = {}\n",
        hanging_hook(&note)
    ));

    world.start();
    world.send(&world.simple_build(7)).await;
    world.stop_in_flight(|| note.exists()).await;
    assert_eq!(living_in_group(&note), Vec::<String>::new());

    fs::write(&configuration, without_hook).unwrap();
    world.start();
    let applied = world.next_update().await;
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{applied:?}"
    );
    assert_eq!(world.destination.log("all()", "x").len(), 3);
    world.stop().await;
}

#[tokio::test]
async fn transaction_that_a_failed_command_left_is_taken_back_before_the_next_build() {
    let mut world = World::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    world
        .until_tidy(&world.own_clone(), &world.source.tip())
        .await;
    // As it stays when there is no room even to roll back; the server lives on.
    fs::write(world.own_clone().path.join(".hg/store/journal"), "").unwrap();
    let build = world.simple_build(2);
    world.pushed(&build).await;
    let events = world.record(&build).await.events;
    assert!(
        !events
            .iter()
            .any(|event| matches!(event.kind, BuildEventKind::Failed { .. })),
        "{events:?}"
    );
    world.stop().await;
    assert!(
        !world
            .settings
            .clones_dir
            .join(".central.quarantined")
            .exists()
    );
}

#[tokio::test]
async fn changesets_that_a_source_does_not_publish_are_built_on_and_kept() {
    let mut world = World::new();
    world.source.configure("[phases]\npublish = false\n");
    world.source.write("later", b"x");
    let draft = world.source.commit("a draft");
    world.start_ready().await;
    for number in 1..3 {
        let pushed = world.pushed(&world.simple_build(number)).await;
        assert_eq!(pushed.base.used, draft);
        world.until_tidy(&world.own_clone(), &draft).await;
        world.stop().await;
        world.start();
    }
    world.stop().await;
}

#[tokio::test]
async fn publishing_try_does_not_make_our_changesets_the_sources() {
    let mut world = World::new();
    world.destination.configure("[phases]\npublish = true\n");
    world.start();
    let base = world.source.tip();
    for number in 7..9 {
        let mut build = world.simple_build(number);
        build.stack[0].diff.base = None;
        assert_eq!(world.pushed(&build).await.base.used, base);
    }
    world.until_tidy(&world.own_clone(), &base).await;
    world.stop().await;
}
