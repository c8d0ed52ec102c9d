//! The files of patches: they are for the worker alone, and gone when their build is.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use build::BuildUpdate;
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};
use worker::{CloneState, Inventory};

use crate::{Answer, Moment, Repository, Side, World, add, change, hanging_hook, until};

/// The lock of a clone slot, held as by another process. A process that another test starts has a copy of the open file
/// until it runs its program, so to close the file would not unlock it.
struct HeldLock(File);

impl HeldLock {
    fn of<S: Side>(world: &World<S>, clone: &str) -> Self {
        let file = world.settings.clones_dir.join(format!(".{clone}.lock"));
        let held = Self(File::create(file).unwrap());
        held.set(libc::F_WRLCK).unwrap();
        held
    }

    fn set(&self, kind: libc::c_int) -> nix::Result<libc::c_int> {
        let whole = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        fcntl(&self.0, FcntlArg::F_OFD_SETLK(&whole))
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        let unlocked = self.set(libc::F_UNLCK);
        assert!(unlocked.is_ok() || std::thread::panicking());
    }
}

impl<S: Side> World<S> {
    /// The directory of the patches of a build on the clone with this name.
    fn patches(&self, clone: &str) -> PathBuf {
        self.settings.clones_dir.join(format!(".{clone}.patches"))
    }

    /// Leaves patches as a worker does that is killed.
    fn leave_patches(&self, clone: &str) -> PathBuf {
        let directory = self.patches(clone);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("0.patch"), "private").unwrap();
        directory
    }
}

pub async fn patch_files_are_removed_with_each_outcome<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let patches = world.patches("central");
    let pushed = world.build(&world.simple_build(1)).await;
    assert!(matches!(pushed, BuildUpdate::Pushed(_)), "{pushed:?}");
    assert!(!patches.exists(), "pushed");
    for (number, patch) in [
        (2, add(&format!("{}/hooks", S::OWN_DIRECTORY), "refused")),
        (3, change("not there", "x")),
    ] {
        let build = world.build_of(vec![
            world.patch(10 * number, add("fine", "x")),
            world.patch(number, patch),
        ]);
        world.patch_failed(&build).await;
        assert!(!patches.exists(), "failed: {number}");
    }
    // The lowest is stored before the next one is found missing.
    let stack = [4, 5].map(|number| world.patch(number, add("fine", "x")));
    let build = world.build_of(stack.to_vec());
    let mut missing = build.clone();
    missing.stack.remove(0);
    world.contents.forget(&missing);
    world.patch_failed(&build).await;
    assert!(!patches.exists(), "not loaded");
    world.phabricator.say(Answer::Away);
    world.send(&world.simple_build(6)).await;
    world.handle_all().await;
    assert_eq!(world.waiting().await, 1);
    assert!(!patches.exists(), "deferred");
    world.stop().await;
}

pub async fn patches_are_for_the_worker_alone_and_gone_when_it_must_end<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let patches = world.patches("central");
    world.phabricator.say(Answer::Held);
    world.send(&world.simple_build(7)).await;
    let guard = world.phabricator.clone();
    let inventory = Inventory::new(&world.settings);
    world
        .stop_in_flight(|| {
            if guard.held() == 0 {
                return false;
            }
            let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(patches.clone()), 0o700);
            assert_eq!(mode(patches.join("0.patch")), 0o600);
            let listed = inventory.list().unwrap();
            assert_eq!(
                listed.len(),
                1,
                "patches in use go by themselves: {listed:?}"
            );
            true
        })
        .await;
    assert!(!patches.exists());
}

pub async fn patches_are_gone_before_the_push<S: Side>() {
    let mut world = World::<S>::new();
    let note = world.path("hanging");
    world
        .destination
        .hook(Moment::BeforePush, &hanging_hook(&note));
    let patches = world.patches("central");
    world.start();
    world.send(&world.simple_build(7)).await;
    world
        .stop_in_flight(|| {
            let pushing = note.exists();
            assert!(!pushing || !patches.exists());
            pushing
        })
        .await;
}

pub async fn patches_of_a_worker_that_was_killed_are_gone_after_the_next_start<S: Side>() {
    let mut world = World::<S>::new();
    let [own, unconfigured, busy] =
        ["central", "central@2", "other"].map(|clone| world.leave_patches(clone));
    // Another process of the same directory works on this clone.
    let lock = HeldLock::of(&world, "other");
    world.start_ready().await;
    assert!(!own.exists());
    until("the patches of nobody to be removed", || {
        !unconfigured.exists()
    })
    .await;
    assert!(busy.join("0.patch").exists());
    world.stop().await;
    drop(lock);
    world.start_ready().await;
    until("the patches of nobody to be removed", || !busy.exists()).await;
    world.stop().await;
}

pub async fn patches_that_were_left_are_listed_and_pruned<S: Side>() {
    let world = World::<S>::new();
    let left = world.leave_patches("old");
    let inventory = Inventory::new(&world.settings);
    let removable = inventory.removable().unwrap();
    let listed: Vec<_> = removable
        .iter()
        .map(|report| (report.directory.as_str(), report.state))
        .collect();
    assert_eq!(listed, [(".old.patches", CloneState::Interrupted)]);
    let lock = HeldLock::of(&world, "old");
    assert!(!inventory.remove(&removable[0]).unwrap(), "it is in use");
    assert!(left.exists());
    drop(lock);
    assert!(inventory.remove(&removable[0]).unwrap());
    assert!(!left.exists());
}
