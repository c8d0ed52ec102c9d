//! Clones, and what comes into them.

use std::fs;

use crate::world::{World, add};

#[tokio::test]
async fn clone_follows_the_branches_of_its_source() {
    let mut world = World::new();
    let (source, first) = (&world.source, world.source.tip());
    source.git(&["branch", "kept"]);
    source.git(&["branch", "folder"]);
    source.git(&["tag", "v1"]);
    world.start_ready().await;
    let clone = world.own_clone();
    assert_eq!(clone.branches(), ["folder", "kept", "main"]);
    assert_eq!(clone.git(&["tag"]), "", "tags are not fetched");
    let tip = || fs::read_to_string(clone.path.join("source-tip")).unwrap();
    assert_eq!(tip(), first);

    // New commits, a rewritten branch, a deleted one, and one whose name is a folder now.
    let source = &world.source;
    source.git(&["checkout", "--quiet", "--orphan", "other"]);
    let rewritten = source.commit("rewritten");
    source.git(&["branch", "--force", "main", "other"]);
    source.git(&["checkout", "--quiet", "main"]);
    source.git(&["branch", "--delete", "--force", "folder", "other"]);
    source.git(&["branch", "folder/inside", &first]);
    let mut patch = world.patch(1, add("a", "a"));
    // An unknown base has the worker fetch.
    patch.diff.base = Some("0123456789".repeat(4));
    let pushed = world.pushed(&world.build_of(vec![patch])).await;
    assert_eq!(
        world.destination.rev(&format!("{}^", pushed.revision)),
        rewritten
    );
    assert_eq!(clone.branches(), ["folder/inside", "kept", "main"]);
    assert_eq!(clone.rev("main"), rewritten);
    assert_eq!(tip(), rewritten);
    world.stop().await;
}

#[tokio::test]
async fn clone_is_private_and_reads_no_setting_of_the_machine() {
    use std::os::unix::fs::PermissionsExt;

    let mut world = World::new();
    let touched = world.path("touched");
    // Hooks of the clone would run on each fetch.
    world.start_ready().await;
    let clone = world.own_clone();
    let hook = clone.path.join(".git/hooks/reference-transaction");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", touched.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    world.source.commit("newer");
    world.pushed(&world.simple_build(1)).await;
    assert!(!touched.exists());
    let mode = fs::metadata(&clone.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    world.stop().await;
}

#[tokio::test]
async fn many_packs_become_few() {
    let mut world = World::new();
    world.start_ready().await;
    let packs = world.own_clone().path.join(".git/objects/pack");
    let count = || {
        let names = fs::read_dir(&packs).unwrap().flatten();
        names
            .filter(|entry| entry.path().extension().is_some_and(|end| end == "pack"))
            .count()
    };
    // As a year of fetches leaves them.
    for number in 0..60 {
        let blob = format!("blob {number}\n");
        world.source.write("blob", blob.as_bytes());
        let id = world.source.git(&["hash-object", "-w", "blob"]);
        let script = format!(
            "echo {id} | git pack-objects --quiet {}/pack",
            packs.display()
        );
        let done = std::process::Command::new("sh")
            .args(["-c", &script])
            .current_dir(&world.source.path)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
    fs::remove_file(world.source.path.join("blob")).unwrap();
    let before = count();
    assert!(before > 60, "{before}");
    world.pushed(&world.simple_build(1)).await;
    crate::world::until("the packs to be fewer", || count() < 20).await;
    world.pushed(&world.simple_build(2)).await;
    world.stop().await;
}

#[tokio::test]
async fn revision_that_the_source_lost_is_named_for_operators() {
    let mut world = World::new();
    world.repository().default_revision = "gone".to_owned();
    world.start();
    let mut expired = world.simple_build(1);
    expired.diff.created_at = "2026-11-20T10:00:00Z".parse().unwrap();
    let update = world.build(&expired).await;
    let shown = format!("{update:?}");
    assert!(shown.contains("was not ready within"), "{shown}");
    world.stop().await;
}
