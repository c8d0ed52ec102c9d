//! The session with Try that is opened before the push, and the connections that are kept.

use std::{fs, path::PathBuf, time::Duration};

use build::BuildUpdate;
use testkit::Sshd;

use crate::{
    outcomes::over_ssh,
    world::{World, until},
};

/// A hook of Try that says that a push has arrived, and holds it until there is a file `go`.
fn hold(world: &World) {
    let home = world.home.path().display();
    let hook = format!(
        "[hooks]\npretxnchangegroup.hold = touch {home}/arrived; until test -e {home}/go; do sleep 0.05; done\n"
    );
    world.destination.configure(&hook);
}

/// The command lines of the programs called `ssh` that run where this world's clones are.
fn ssh_of(world: &World) -> Vec<String> {
    let processes = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    let is_here = |process: &PathBuf| {
        fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == world.settings.clones_dir)
    };
    let is_ssh = |process: &PathBuf| {
        fs::read_to_string(process.join("comm")).is_ok_and(|name| name == "ssh\n")
    };
    let line = |process: PathBuf| {
        fs::read_to_string(process.join("cmdline"))
            .ok()
            .map(|line| line.replace('\0', " "))
    };
    processes
        .filter(is_here)
        .filter(is_ssh)
        .filter_map(line)
        .collect()
}

#[tokio::test]
async fn hg_pushes_in_the_session_that_was_opened_for_it() {
    let (mut world, _sshd): (World, Sshd) = over_ssh().await;
    hold(&world);
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start();
    world.send(&world.simple_build(7)).await;
    let arrived = world.path("arrived");
    let (shutdown, working) = world.work();
    until("the push to arrive", || arrived.exists()).await;
    let sessions = ssh_of(&world)
        .into_iter()
        .filter(|line| line.contains("serve --stdio"))
        .count();
    let masters = ssh_of(&world)
        .into_iter()
        .filter(|line| line.contains("[mux]"))
        .count();
    assert_eq!((sessions, masters), (1, 1), "{:?}", ssh_of(&world));
    fs::write(world.path("go"), "").unwrap();
    let mut update = None;
    while update.is_none() {
        update = world.update().await;
        tokio::task::yield_now().await;
    }
    assert!(matches!(update.unwrap().update, BuildUpdate::Pushed(_)));
    shutdown.stop();
    working.await.unwrap();
    until("no connection to be left", || ssh_of(&world).is_empty()).await;
}

#[tokio::test]
async fn worker_that_must_end_within_a_push_over_ssh_leaves_no_process_and_the_next_one_finishes() {
    let (mut world, _sshd) = over_ssh().await;
    hold(&world);
    world.start();
    world.send(&world.simple_build(7)).await;
    let arrived = world.path("arrived");
    world.stop_in_flight(|| arrived.exists()).await;
    until("no ssh to be left", || ssh_of(&world).is_empty()).await;
    fs::write(world.path("go"), "").unwrap();
    world.start();
    let update = world.next_update().await.update;
    assert!(matches!(update, BuildUpdate::Pushed(_)), "{update:?}");
    assert_eq!(world.destination.heads(), 1);
    world.stop().await;
}

#[tokio::test]
async fn build_that_is_not_pushed_gives_its_session_back() {
    let (mut world, _sshd) = over_ssh().await;
    world.start();
    let patch = crate::world::change("line V", "x");
    world
        .patch_failed(&world.build_of(vec![world.patch(7, patch)]))
        .await;
    until("no session to be left", || {
        !ssh_of(&world)
            .iter()
            .any(|line| line.contains("serve --stdio"))
    })
    .await;
    world.pushed(&world.simple_build(8)).await;
    world.stop().await;
}

#[tokio::test]
async fn connection_that_has_died_is_replaced() {
    let (mut world, mut sshd) = over_ssh().await;
    world.start();
    world.pushed(&world.simple_build(7)).await;
    sshd.stop().await.unwrap();
    sshd.restart().await.unwrap();
    world.pushed(&world.simple_build(8)).await;
    assert_eq!(world.destination.heads(), 2);
    world.stop().await;
}
