//! What a killed worker, a killed Git or a broken disk leaves.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use crate::world::{World, add, until};

fn packs(clone: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(clone.join(".git/objects/pack")).unwrap();
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .filter(|path| path.extension().is_some_and(|end| end == "pack"))
        .collect()
}

#[tokio::test]
async fn damaged_clone_is_cloned_again() {
    type Damage = fn(&Path);
    let table: [(&str, Damage); 6] = [
        ("an empty HEAD", |clone| {
            fs::write(clone.join(".git/HEAD"), "").unwrap();
        }),
        ("a truncated pack", |clone| {
            let pack = packs(clone).pop().unwrap();
            make_writable(&pack);
            let file = File::options().write(true).open(&pack).unwrap();
            file.set_len(file.metadata().unwrap().len() - 7).unwrap();
        }),
        ("no packs", |clone| {
            fs::remove_dir_all(clone.join(".git/objects")).unwrap();
            fs::create_dir_all(clone.join(".git/objects/pack")).unwrap();
        }),
        ("a branch that names nothing", |clone| {
            fs::write(clone.join(".git/refs/heads/x"), "").unwrap();
        }),
        ("garbage for a configuration", |clone| {
            fs::write(clone.join(".git/config"), [0, 255]).unwrap();
        }),
        ("no source tip", |clone| {
            fs::remove_file(clone.join("source-tip")).unwrap();
        }),
    ];
    for (case, damage) in table {
        let mut world = World::new();
        world.start_ready().await;
        world.stop().await;
        damage(&world.clone().path);
        world.start_ready().await;
        world.pushed(&world.simple_build(1)).await;
        let quarantined = world.path("clones/.central.quarantined");
        assert!(quarantined.exists(), "{case}");
        world.stop().await;
    }
}

#[tokio::test]
async fn damage_that_a_build_finds_makes_another_clone() {
    let mut world = World::new();
    // A file that no quick look reads, in a pack that it is alone in.
    world.source.write("hello.txt", b"other\n");
    world.source.commit("newer");
    world.start_ready().await;
    let clone = world.clone().path;
    for pack in packs(&clone) {
        make_writable(&pack);
        let mut bytes = fs::read(&pack).unwrap();
        // Not the checksum at the end.
        let end = bytes.len() - 20;
        bytes[12..end].fill(0x55);
        fs::write(&pack, bytes).unwrap();
    }
    world.pushed(&world.simple_build(1)).await;
    assert!(world.path("clones/.central.quarantined").exists());
    world.stop().await;
}

fn make_writable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

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
    let clone = world.clone().path;
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
    assert_eq!(world.clone().rev("main"), newest);
    world.stop().await;
}

#[tokio::test]
async fn fetch_of_a_dead_worker_is_ended_first() {
    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    let clone = world.clone().path;
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
async fn clone_that_is_interrupted_begins_again() {
    let mut world = World::new();
    let script = hang(&world);
    world.wrap_git(&script);
    world.start();
    let hung = world.path("hung");
    until("the clone to hang", || hung.exists()).await;
    world.stop().await;
    let making = world.path("clones/.central.cloning");
    world.start_ready().await;
    assert!(!making.exists());
    world.pushed(&world.simple_build(1)).await;
    world.stop().await;
}

#[tokio::test]
async fn nothing_of_a_build_is_left_behind() {
    let mut world = World::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    let builds = world.clone().path.join("builds");
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
