//! A worker that ends in the middle of a build: the next one finishes it, with one head on Try and one answer.

use nix::sys::signal::Signal;
use testkit::phabricator::BuildVariables;

use crate::world::{Gate, Process, World};

/// Lets a first worker make its clone, so that later ones begin with the build.
async fn with_clone() -> World {
    let world = World::with_redis().await;
    let mut worker = world.start("worker");
    worker.until_logged("ready").await;
    worker.stop().await;
    world
}

/// A worker that has just come to the gate.
async fn worker_at(world: &World, gate: &Gate) -> (Process, BuildVariables) {
    let (mut web, worker) = (world.start("web"), world.start("worker"));
    let build = world.submit_stack();
    assert_eq!(world.request(web.address().await, &build).await, 200);
    gate.until_reached(&worker).await;
    web.stop().await;
    (worker, build)
}

async fn next_worker_finishes(world: &World, build: &BuildVariables) {
    let mut worker = world.start("worker");
    let link = world.until_pushed(build, &worker).await;
    worker.until_logged("pushed, with the link").await;
    world.assert_pushed_once(build, &link).await;
    worker.stop().await;
    assert_eq!(world.processes(), Vec::<String>::new());
}

#[tokio::test]
async fn sigterm_during_a_push() {
    let world = with_clone().await;
    let gate = world.gate(&world.repositories.try_repository, "pretxnchangegroup");
    let (mut worker, build) = worker_at(&world, &gate).await;
    worker.stop().await;
    assert_eq!(world.processes(), Vec::<String>::new(), "no child is left");
    assert!(world.repositories.try_heads().await.unwrap().is_empty());
    gate.open();
    next_worker_finishes(&world, &build).await;
}

#[tokio::test]
async fn sigterm_during_an_import() {
    let world = with_clone().await;
    let gate = world.gate(&world.path("clones/product"), "pretxncommit");
    let (mut worker, build) = worker_at(&world, &gate).await;
    worker.stop().await;
    assert_eq!(world.processes(), Vec::<String>::new(), "no child is left");
    gate.open();
    next_worker_finishes(&world, &build).await;
}

#[tokio::test]
async fn a_second_sigterm_skips_the_grace_period() {
    let world = with_clone().await;
    let gate = world.gate(&world.repositories.try_repository, "pretxnchangegroup");
    let (mut worker, build) = worker_at(&world, &gate).await;
    worker.signal(Signal::SIGTERM);
    worker.until_logged("shutting down").await;
    worker.stop().await;
    assert!(worker.log().contains("second signal"), "{}", worker.log());
    gate.open();
    next_worker_finishes(&world, &build).await;
}

#[tokio::test]
async fn sigkill_during_a_push_that_then_lands() {
    let world = with_clone().await;
    let gate = world.gate(&world.repositories.try_repository, "pretxnchangegroup");
    let (mut worker, build) = worker_at(&world, &gate).await;
    worker.signal(Signal::SIGKILL);
    worker.ended().await;
    gate.open();
    next_worker_finishes(&world, &build).await;
}

#[tokio::test]
async fn sigkill_during_an_import_and_the_next_worker_comes_at_once() {
    let world = with_clone().await;
    let gate = world.gate(&world.path("clones/product"), "pretxncommit");
    let (mut worker, build) = worker_at(&world, &gate).await;
    worker.signal(Signal::SIGKILL);
    worker.ended().await;
    let next = world.start("worker");
    next.until_logged("working on").await;
    gate.open();
    let link = world.until_pushed(&build, &next).await;
    world.assert_pushed_once(&build, &link).await;
}

#[tokio::test]
async fn sigterm_while_phabricator_accepts_and_says_nothing() {
    let world = World::with_redis().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = std::fs::read_to_string(world.path("config.yml")).unwrap();
    let address = format!("http://{}/", silent.local_addr().unwrap());
    std::fs::write(
        world.path("config.yml"),
        config.replace(world.phabricator.url().as_str(), &address),
    )
    .unwrap();
    let mut worker = world.start("worker");
    let (_held, _) = silent.accept().await.unwrap();
    worker.stop().await;
}
