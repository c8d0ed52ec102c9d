//! What is left when a worker dies, and what it takes along when it ends.

use std::fs;

use build::BuildUpdate;

use crate::world::{Repo, World, add, hanging_hook, living_in_group};

#[tokio::test]
async fn leftovers_of_a_killed_worker_are_removed_at_the_next_start() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    let clone = world.clone();
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
async fn clone_that_was_interrupted_is_cloned_again() {
    let mut world = World::new();
    let temporary = world.settings.clones_dir.join(".central.cloning");
    fs::create_dir_all(temporary.join(".hg/store")).unwrap();
    fs::write(temporary.join(".hg/store/00changelog.i"), "half").unwrap();
    world.start();
    world.pushed(&world.simple_build(7)).await;
    assert!(!temporary.exists());
    world.stop().await;
}

#[tokio::test]
async fn clone_that_is_broken_at_the_start_is_cloned_again() {
    type Breaking = fn(&Repo);
    let table: [(&str, Breaking); 4] = [
        ("no mark", |clone| {
            fs::remove_file(clone.path.join("source-tip")).unwrap()
        }),
        ("a mark that is unknown", |clone| {
            fs::write(clone.path.join("source-tip"), "1".repeat(40)).unwrap()
        }),
        ("no changelog", |clone| {
            fs::write(clone.path.join(".hg/store/00changelog.i"), "junk").unwrap()
        }),
        ("no repository", |clone| {
            fs::remove_dir_all(clone.path.join(".hg")).unwrap()
        }),
    ];
    let mut world = World::new();
    world.start_ready().await;
    for (number, (case, break_it)) in (1..).zip(table) {
        world.stop().await;
        break_it(&world.clone());
        world.start();
        let update = world.build(&world.simple_build(number)).await;
        assert!(
            matches!(update, BuildUpdate::Pushed(_)),
            "{case}: {update:?}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn clone_that_breaks_under_a_build_is_cloned_again() {
    let mut world = World::new();
    world.start();
    world.pushed(&world.simple_build(1)).await;
    // The file's history: it is only read when a patch changes the file.
    let history = world.clone().path.join(".hg/store/data/hello.txt.i");
    let mut bytes = fs::read(&history).unwrap();
    let end = bytes.len();
    bytes[end - 10..].fill(0x55);
    // It may be a hard link to the source's.
    fs::remove_file(&history).unwrap();
    fs::write(&history, bytes).unwrap();
    let patch = crate::world::change("line 5", "line five");
    world
        .pushed(&world.build_of(vec![world.patch(2, patch)]))
        .await;
    world.stop().await;
}

#[tokio::test]
async fn two_processes_do_not_share_a_clone() {
    let mut world = World::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    let mut other = World::new();
    other.settings = world.settings.clone();
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

#[tokio::test]
async fn worker_that_must_end_within_an_import_leaves_no_process_and_the_next_one_finishes() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    let note = world.path("hanging");
    let configuration = world.clone().path.join(".hg/hgrc");
    let without_hook = fs::read(&configuration).unwrap();
    world.clone().configure(&format!(
        "[hooks]\npretxncommit.hang = {}\n",
        hanging_hook(&note)
    ));

    world.start();
    world.send(&world.simple_build(7)).await;
    world.stop_in_flight(|| note.exists()).await;
    assert_eq!(living_in_group(&note), Vec::<String>::new());

    fs::write(&configuration, without_hook).unwrap();
    ends_with_one_head(world).await;
}

#[tokio::test]
async fn worker_that_must_end_within_a_push_leaves_no_process_and_the_next_one_finishes() {
    let mut world = World::new();
    let note = world.path("hanging");
    let configuration = world.try_repo.path.join(".hg/hgrc");
    let without_hook = fs::read(&configuration).unwrap();
    world.try_repo.configure(&format!(
        "[hooks]\npretxnchangegroup.hang = {}\n",
        hanging_hook(&note)
    ));

    world.start();
    world.send(&world.simple_build(7)).await;
    world.stop_in_flight(|| note.exists()).await;
    assert_eq!(living_in_group(&note), Vec::<String>::new());

    fs::write(&configuration, without_hook).unwrap();
    let journal = world.try_repo.path.join(".hg/store/journal");
    assert!(
        !journal.exists(),
        "Mercurial had the time to take its transaction back"
    );
    ends_with_one_head(world).await;
}

#[tokio::test]
async fn worker_that_must_end_within_the_first_clone_leaves_no_process() {
    let mut world = World::new();
    world.has_clone = false;
    let note = world.path("hanging");
    world.source.configure(&format!(
        "[hooks]\npreoutgoing.hang = {}\n",
        hanging_hook(&note)
    ));
    world.start();
    world.stop_in_flight(|| note.exists()).await;
    assert_eq!(living_in_group(&note), Vec::<String>::new());
    assert!(!world.clone().path.exists());
}

async fn ends_with_one_head(mut world: World) {
    world.start();
    let applied = world.next_update().await;
    let BuildUpdate::Pushed(pushed) = applied.update else {
        panic!("{applied:?}")
    };
    assert_eq!(world.try_repo.tip(), pushed.revision);
    assert_eq!(world.try_repo.heads(), 1);
    let count = world.try_repo.log("all()", "x").len();
    assert_eq!(count, 3, "the beginning, the patch, the config");
    world.stop().await;
}
