//! A disk that is full in the middle of something, and has room later: a real one, small, for root alone.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::Duration,
};

use build::{Build, BuildEventKind, BuildUpdate};
use phabricator::Conduit;
use testkit::phabricator::{FakePhabricator, NewDiff, NewRevision};

use crate::world::{Repo, World, add};

/// A small file system of its own, below the home of a world.
struct Disk {
    path: PathBuf,
}

impl Disk {
    /// `None`, with a note, when this user may not mount.
    #[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
    fn mount(path: PathBuf, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={megabytes}m,mode=700");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&path)
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { path }),
            refused => {
                eprintln!("skipped: a file system cannot be mounted here: {refused:?}");
                None
            }
        }
    }

    /// Fills it but for about `left` bytes.
    fn fill(&self, left: u64) {
        let mut file = File::create(self.filler()).unwrap();
        let zeros = vec![0; 64 << 10];
        while file.write_all(&zeros).is_ok() {}
        let written = file.metadata().unwrap().blocks() * 512;
        file.set_len(written.saturating_sub(left)).unwrap();
    }

    /// How many bytes are free.
    fn room(&self) -> u64 {
        worker::disk::free(&self.path).unwrap()
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is about to end may still be in it.
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.path)
            .status();
    }
}

/// A line of `bytes` bytes that cannot be compressed.
fn noise(seed: u64, bytes: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Printable, and no line break.
        char::from(b'0' + u8::try_from(state % 75).unwrap())
    };
    (0..bytes).map(|_| next()).collect()
}

/// A build of another author that needs two megabytes of room.
fn large(world: &World, number: u64) -> Build {
    world.build_of(vec![world.patch(
        number,
        add(&format!("large{number}"), &noise(number, 2 << 20)),
    )])
}

/// Both builds wait, without a counted attempt, and the record of each says why.
async fn both_wait(world: &World, builds: &[Build]) {
    let full = |what: &BuildEventKind| matches!(what, BuildEventKind::Deferred { reason, .. } if reason.starts_with("our disk is full"));
    // A build may wait for the clone first, which is recovered in real time.
    for build in builds {
        world.recorded(build, full).await;
    }
    world.pass(Duration::from_secs(120)).await;
    assert!(world.update().await.is_none(), "a build ended");
    assert_eq!(
        (world.waiting().await, world.dead_letters().await),
        (builds.len(), Vec::new())
    );
    for build in builds {
        let events = world.record(build).await.events;
        assert!(
            !events
                .iter()
                .any(|event| matches!(event.kind, BuildEventKind::Failed { .. })),
            "{events:?}"
        );
    }
}

/// Both builds are pushed, and the clone is whole and the first one.
async fn both_are_pushed(world: &mut World, builds: &[Build]) {
    for _ in builds {
        let applied = world.next_update().await;
        assert!(
            matches!(applied.update, BuildUpdate::Pushed(_)),
            "{applied:?}"
        );
    }
    world.until_tidy(&world.clone(), &world.source.tip()).await;
    world.stop().await;
    world.clone().hg(&["verify", "--quiet"]);
    let left = |name: &str| world.settings.clones_dir.join(name).exists();
    assert!(!left(".central.quarantined") && !left(".central.cloning"));
}

async fn on_a_disk(world: &mut World, megabytes: u32) -> Option<Disk> {
    let disk = Disk::mount(world.path("disk"), megabytes)?;
    world.settings.clones_dir = disk.path.join("clones");
    Some(disk)
}

#[tokio::test]
async fn builds_wait_while_an_import_fills_the_disk_and_are_pushed_when_it_has_room() {
    let mut world = World::new();
    let Some(disk) = on_a_disk(&mut world, 24).await else {
        return;
    };
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    world.until_tidy(&world.clone(), &world.source.tip()).await;
    // The second one is full after the patch was written, and in the middle of the transaction.
    for (number, left) in [(10, 1 << 20), (20, 3 << 20), (30, 0)] {
        disk.fill(left);
        let builds = [large(&world, number), large(&world, number + 1)];
        for build in &builds {
            world.send(build).await;
        }
        both_wait(&world, &builds).await;
        disk.free();
        both_are_pushed(&mut world, &builds).await;
        world.start();
    }
    world.stop().await;
}

#[tokio::test]
async fn builds_wait_while_their_patches_fill_the_disk_and_are_pushed_when_it_has_room() {
    let mut world = World::new();
    let Some(disk) = on_a_disk(&mut world, 24).await else {
        return;
    };
    let phabricator = FakePhabricator::start(world.clock.clone()).await.unwrap();
    let http = http_client::client(Duration::from_secs(60)).unwrap();
    let conduit = Conduit::new(phabricator.url().clone(), phabricator.token(), http);
    world.source_of_patches = Some(Arc::new(conduit));
    let (author, repository) = (
        phabricator.add_user("ada", "Ada"),
        phabricator.add_repository("central"),
    );
    let build = |world: &World, number| {
        let patch = add(&format!("large{number}"), &noise(number, 2 << 20));
        let revision = NewRevision::new("Do it", &author, &repository, NewDiff::new(patch));
        let diff = phabricator.create_revision(revision).diff;
        let mut build = large(world, number);
        (build.stack[0].diff.id, build.stack[0].diff.phid) = (diff.id, diff.phid);
        build
    };
    world.start_ready().await;
    // Full in the middle of the answer, of the patch, and from the beginning.
    for (number, left) in [(10, 1 << 20), (20, 3 << 20), (30, 0)] {
        disk.fill(left);
        let builds = [build(&world, number), build(&world, number + 1)];
        for build in &builds {
            world.send(build).await;
        }
        both_wait(&world, &builds).await;
        assert!(!world.settings.clones_dir.join(".central.patches").exists());
        assert!(disk.room() >= left / 2, "what was loaded is still there");
        disk.free();
        both_are_pushed(&mut world, &builds).await;
        world.start();
    }
    world.stop().await;
}

#[tokio::test]
async fn builds_wait_while_a_pull_fills_the_disk_and_are_pushed_when_it_has_room() {
    let mut world = World::new();
    let Some(disk) = on_a_disk(&mut world, 24).await else {
        return;
    };
    world.start_ready().await;
    world.source.write("large", noise(7, 4 << 20).as_bytes());
    world.source.commit("a large file");
    disk.fill(1 << 20);
    let builds = [world.simple_build(1), world.simple_build(2)];
    for build in &builds {
        world.send(build).await;
    }
    both_wait(&world, &builds).await;
    disk.free();
    both_are_pushed(&mut world, &builds).await;
}

#[tokio::test]
async fn builds_wait_while_a_push_fills_the_disk_and_are_pushed_when_it_has_room() {
    let mut world = World::new();
    let Some(disk) = Disk::mount(world.path("disk"), 24) else {
        return;
    };
    let target = disk.path.join("try");
    world.source.hg(&[
        "clone",
        "--quiet",
        "--noupdate",
        ".",
        target.to_str().unwrap(),
    ]);
    let target = Repo { path: target };
    target.configure("[phases]\npublish = false\n");
    world.repository().try_url = target.path.to_str().unwrap().to_owned();
    world.try_repo = target;
    world.start_ready().await;
    disk.fill(1 << 20);
    let builds = [large(&world, 1), large(&world, 2)];
    for build in &builds {
        world.send(build).await;
    }
    both_wait(&world, &builds).await;
    disk.free();
    both_are_pushed(&mut world, &builds).await;
    assert_eq!(world.try_repo.heads(), 2);
}

#[tokio::test]
async fn builds_wait_while_the_first_clone_fills_the_disk_and_are_pushed_when_it_has_room() {
    let mut world = World::new();
    world.source.write("large", noise(7, 4 << 20).as_bytes());
    world.source.commit("a large file");
    let Some(disk) = on_a_disk(&mut world, 24).await else {
        return;
    };
    disk.fill(2 << 20);
    world.start();
    let builds = [world.simple_build(1), world.simple_build(2)];
    for build in &builds {
        world.send(build).await;
    }
    // The worker finds out in its own time.
    for _ in 0..600 {
        world.pass(Duration::from_secs(10)).await;
        let events = world.record(&builds[0]).await.events;
        if events.iter().any(
            |event| matches!(&event.kind, BuildEventKind::Deferred { reason, .. } if reason.contains("disk")),
        ) {
            break;
        }
        crate::world::pause().await;
    }
    both_wait(&world, &builds).await;
    disk.free();
    both_are_pushed(&mut world, &builds).await;
}

#[tokio::test]
async fn build_that_expires_on_a_full_disk_names_the_disk_and_not_the_patch() {
    let mut world = World::new();
    let Some(disk) = on_a_disk(&mut world, 24).await else {
        return;
    };
    world.start_ready().await;
    disk.fill(0);
    let builds = [large(&world, 1)];
    world.send(&builds[0]).await;
    both_wait(&world, &builds).await;
    world.clock.advance(Duration::from_secs(24 * 3600));
    let applied = world.next_update().await;
    let BuildUpdate::InfraFailed(failure) = applied.update else {
        panic!("{applied:?}")
    };
    assert_eq!(
        failure.summary,
        "The build waited for more than 24 hours: our disk is full."
    );
    world.stop().await;
}

#[tokio::test]
async fn transaction_that_a_failed_command_left_is_taken_back_before_the_next_build() {
    let mut world = World::new();
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    world.until_tidy(&world.clone(), &world.source.tip()).await;
    // As it stays when there is no room even to roll back; the server lives on.
    fs::write(world.clone().path.join(".hg/store/journal"), "").unwrap();
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
