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

use crate::{Repository, Side, World, add, copy_directory, until};

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
fn large<S: Side>(world: &World<S>, number: u64) -> Build {
    world.build_of(vec![world.patch(
        number,
        add(&format!("large{number}"), &noise(number, 2 << 20)),
    )])
}

/// Both builds wait, without a counted attempt, and the record of each says why.
async fn both_wait<S: Side>(world: &World<S>, builds: &[Build]) {
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
async fn both_are_pushed<S: Side>(world: &mut World<S>, builds: &[Build]) {
    for _ in builds {
        let applied = world.next_update().await;
        assert!(
            matches!(applied.update, BuildUpdate::Pushed(_)),
            "{applied:?}"
        );
    }
    world
        .until_tidy(&world.own_clone(), &world.source.newest())
        .await;
    world.stop().await;
    world.own_clone().verify();
    let left = |name: &str| world.settings.clones_dir.join(name).exists();
    assert!(!left(".central.quarantined") && !left(".central.cloning"));
}

async fn on_a_disk<S: Side>(world: &mut World<S>, megabytes: u32) -> Option<Disk> {
    let disk = Disk::mount(world.path("disk"), megabytes)?;
    world.settings.clones_dir = disk.path.join("clones");
    Some(disk)
}

pub async fn builds_wait_while_a_stack_fills_the_disk_and_are_pushed_when_it_has_room<S: Side>() {
    let mut world = World::<S>::new();
    let Some(disk) = on_a_disk(&mut world, 24).await else {
        return;
    };
    world.start_ready().await;
    world.pushed(&world.simple_build(1)).await;
    world
        .until_tidy(&world.own_clone(), &world.source.newest())
        .await;
    // The second one is full after the patch was written, and while its commit is.
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

pub async fn builds_wait_while_their_patches_fill_the_disk_and_are_pushed_when_it_has_room<
    S: Side,
>() {
    let mut world = World::<S>::new();
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
    let build = |world: &World<S>, number| {
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
        // The slot is tidied after the delivery.
        until("the room of what was loaded", || disk.room() >= left / 2).await;
        disk.free();
        both_are_pushed(&mut world, &builds).await;
        world.start();
    }
    world.stop().await;
}

pub async fn builds_wait_while_a_pull_fills_the_disk_and_are_pushed_when_it_has_room<S: Side>() {
    let mut world = World::<S>::new();
    let Some(disk) = on_a_disk(&mut world, 24).await else {
        return;
    };
    world.start_ready().await;
    world.source.put("large", noise(7, 4 << 20).as_bytes());
    world.source.commit_all("a large file");
    disk.fill(1 << 20);
    let builds = [world.simple_build(1), world.simple_build(2)];
    for build in &builds {
        world.send(build).await;
    }
    both_wait(&world, &builds).await;
    disk.free();
    both_are_pushed(&mut world, &builds).await;
}

pub async fn builds_wait_while_a_push_fills_the_disk_and_are_pushed_when_it_has_room<S: Side>() {
    let mut world = World::<S>::new();
    let Some(disk) = Disk::mount(world.path("disk"), 24) else {
        return;
    };
    let target = disk.path.join("try");
    copy_directory(world.destination.path(), &target);
    world.destination = S::Repo::at(target);
    let url = world.destination.address();
    world.repository().try_url = url;
    world.start_ready().await;
    disk.fill(1 << 20);
    let builds = [large(&world, 1), large(&world, 2)];
    for build in &builds {
        world.send(build).await;
    }
    both_wait(&world, &builds).await;
    disk.free();
    both_are_pushed(&mut world, &builds).await;
    assert_eq!(world.destination.pushed().len(), 2);
}

pub async fn builds_wait_while_the_first_clone_fills_the_disk_and_are_pushed_when_it_has_room<
    S: Side,
>() {
    let mut world = World::<S>::new();
    world.source.put("large", noise(7, 4 << 20).as_bytes());
    world.source.commit_all("a large file");
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
        crate::pause().await;
    }
    both_wait(&world, &builds).await;
    disk.free();
    both_are_pushed(&mut world, &builds).await;
}

pub async fn build_that_expires_on_a_full_disk_names_the_disk_and_not_the_patch<S: Side>() {
    let mut world = World::<S>::new();
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
