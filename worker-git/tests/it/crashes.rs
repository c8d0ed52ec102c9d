//! What a killed worker, a killed Git or a broken disk leaves.

use std::{fs, process::Command};

use crate::world::{World, add, until};

/// A script that stops in the middle of a fetch, once: it leaves what a real one would.
fn hang(world: &World) -> String {
    let hung = world.path("hung");
    format!(
        "for word; do
           if [ \"$word\" = fetch ] && [ ! -e {hung} ]; then
             touch \"$GIT_DIR/packed-refs.lock\" \"$GIT_DIR/refs/heads/main.lock\"
             touch \"$GIT_DIR/objects/pack/tmp_pack_x\"
             touch {hung}
             exec sleep 600
           fi
         done",
        hung = hung.display()
    )
}

#[tokio::test]
async fn fetch_that_is_killed_leaves_nothing_in_the_way() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    let script = hang(&world);
    world.wrap_git(&script);
    world.start_ready().await;
    let newest = world.source.commit("newer");
    let mut patch = world.patch(1, add("a", "a"));
    patch.diff.base = Some(newest.clone());
    let build = world.build_of(vec![patch]);
    world.send(&build).await;
    let hung = world.path("hung");
    world.stop_in_flight(|| hung.exists()).await;
    let clone = world.own_clone().path;
    assert!(clone.join(".git/packed-refs.lock").exists());
    world.start_ready().await;
    world.next_update().await;
    for left in [
        "packed-refs.lock",
        "refs/heads/main.lock",
        "objects/pack/tmp_pack_x",
    ] {
        assert!(!clone.join(".git").join(left).exists(), "{left}");
    }
    assert_eq!(world.own_clone().rev("main"), newest);
    world.stop().await;
}

#[tokio::test]
async fn fetch_of_a_dead_worker_is_ended_first() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    let clone = world.own_clone().path;
    let mut orphan = Command::new("sh")
        .args(["-c", "exec sleep 600"])
        .env("GIT_DIR", clone.join(".git"))
        .spawn()
        .unwrap();
    fs::write(clone.join(".git/packed-refs.lock"), "").unwrap();
    world.start_ready().await;
    assert!(!orphan.wait().unwrap().success());
    world.pushed(&world.simple_build(1)).await;
    world.stop().await;
}

#[tokio::test]
async fn nothing_of_a_build_is_left_behind() {
    let mut world = World::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    let builds = world.own_clone().path.join("builds");
    until("the repository of the build to be removed", || {
        !builds.exists()
    })
    .await;
    world.stop().await;
    // As after a crash.
    fs::create_dir_all(builds.join("old/objects")).unwrap();
    world.start_ready().await;
    assert!(!builds.exists());
    world.stop().await;
}
