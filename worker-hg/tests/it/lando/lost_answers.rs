//! Workers that die around a submission, and answers that are lost: each build has one job, and one final answer.

use std::time::Duration;

use build::{Build, BuildUpdate};
use bus::{Field, RecordStore};
use serde_json::json;
use testkit::lando::{FakeLando, Fault};
use worlds::Answer;

use super::{HEAD, job_of, ours, submitted, world};
use crate::world::World;

/// Handles the build to its end, with the only job of its Lando.
async fn lands_once(world: &World, lando: &FakeLando, build: &Build) {
    for _ in 0..60 {
        world.pass(Duration::from_secs(20)).await;
        if !ours(lando).is_empty() && recorded(world, build).await {
            break;
        }
    }
    let [job] = ours(lando)
        .try_into()
        .unwrap_or_else(|jobs| panic!("{jobs:?}"));
    lando.land(job.id, HEAD);
    let message = world.next_update().await;
    assert_eq!(message.request, build.request);
    let BuildUpdate::Pushed(pushed) = message.update else {
        panic!("{message:?}")
    };
    assert_eq!(pushed.revision, HEAD);
    world.pass(Duration::from_secs(3600)).await;
    assert!(world.update().await.is_none(), "one answer");
    assert_eq!((ours(lando).len(), world.waiting().await), (1, 0));
}

/// Whether the build waits for its job.
async fn recorded(world: &World, build: &Build) -> bool {
    let record = format!("{:?}", world.record(build).await.now);
    record.contains("/landings/")
}

#[tokio::test]
async fn answer_that_is_lost_is_found_again() {
    for fault in [Fault::CutAfter, Fault::StatusAfter(502), Fault::SilentAfter] {
        let (mut world, lando) = world().await;
        world.start_ready().await;
        lando.fail_next("patches", 1, &fault);
        let build = world.simple_build(1);
        world.send(&build).await;
        world.failed_once(&build).await;
        assert_eq!(ours(&lando).len(), 1, "{fault:?}");
        // Others go on meanwhile, and a number is skipped.
        lando.submit_for("ann@example.org");
        lando.skip_number();
        lands_once(&world, &lando, &build).await;
        let submissions = lando
            .calls()
            .iter()
            .filter(|call| *call == "patches")
            .count();
        assert_eq!(submissions, 1, "{fault:?}");
        world.stop().await;
    }
}

#[tokio::test]
async fn submission_that_did_not_arrive_is_repeated() {
    for fault in [Fault::Cut, Fault::Status(502, ""), Fault::Status(503, "")] {
        let (mut world, lando) = world().await;
        world.start_ready().await;
        lando.fail_next("patches", 1, &fault);
        let build = world.simple_build(1);
        world.send(&build).await;
        world.failed_once(&build).await;
        assert!(ours(&lando).is_empty(), "{fault:?}");
        lands_once(&world, &lando, &build).await;
        world.stop().await;
    }
}

/// The request is sent, and not acted on before, or acted on and not answered.
#[tokio::test]
async fn worker_that_is_killed_while_it_submits_leaves_one_job() {
    for (fault, jobs) in [(Fault::Silent, 0), (Fault::SilentAfter, 1)] {
        let (mut world, lando) = world().await;
        world.repository().lando.as_mut().unwrap().timeout = Duration::from_secs(600);
        world.start_ready().await;
        lando.fail_next("patches", 1, &fault);
        let build = world.simple_build(1);
        world.send(&build).await;
        let calls = || lando.calls().iter().any(|call| call == "patches");
        world.stop_in_flight(calls).await;
        assert_eq!(ours(&lando).len(), jobs, "{fault:?}");
        world.start_ready().await;
        lands_once(&world, &lando, &build).await;
        world.stop().await;
    }
}

#[tokio::test]
async fn worker_that_is_killed_before_it_records_the_answer_finds_the_job() {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let build = world.simple_build(1);
    submitted(&world, &lando, &build).await;
    let store = RecordStore {
        name: "lando_builds",
        retention: Duration::from_secs(3600),
    };
    let id = build.request.target.as_str();
    let submission = json!({ "after": 5, "until": null });
    world
        .write(vec![
            store.erase(id),
            store
                .set(id, Field::new("submission"), &submission)
                .unwrap(),
        ])
        .await;
    lands_once(&world, &lando, &build).await;
    world.stop().await;
}

/// Its own job cannot be told from one of another build by what Lando says.
#[tokio::test]
async fn build_does_not_adopt_the_job_of_the_next_one() {
    let (mut world, lando) = world().await;
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start_ready().await;
    lando.fail_next("patches", 1, &Fault::Cut);
    let first = world.simple_build(1);
    world.send(&first).await;
    world.failed_once(&first).await;
    // It is held up, so that the next one submits first.
    world.phabricator.say(Answer::UnclearOf(1));
    let second = world.simple_build(2);
    let job = submitted(&world, &lando, &second).await;
    assert!(job_of(&lando, &first).is_none());
    world.phabricator.say(Answer::Wanted);
    for _ in 0..30 {
        world.pass(Duration::from_secs(20)).await;
    }
    let other = job_of(&lando, &first).expect("it has a job of its own");
    assert_ne!(other.id, job.id);
    assert_eq!(ours(&lando).len(), 2);
    lando.land(other.id, HEAD);
    assert_eq!(world.next_update().await.request, first.request);
    world.stop().await;
}

/// The next build begins to submit after the lost job, which is not its own.
#[tokio::test]
async fn lost_job_is_found_after_the_next_build_has_submitted() {
    let (mut world, lando) = world().await;
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start_ready().await;
    lando.fail_next("patches", 1, &Fault::CutAfter);
    let first = world.simple_build(1);
    world.send(&first).await;
    world.failed_once(&first).await;
    world.phabricator.say(Answer::UnclearOf(1));
    submitted(&world, &lando, &world.simple_build(2)).await;
    world.phabricator.say(Answer::Wanted);
    let job = job_of(&lando, &first).unwrap();
    lando.land(job.id, HEAD);
    assert_eq!(world.next_update().await.request, first.request);
    assert_eq!(ours(&lando).len(), 2);
    world.stop().await;
}

/// Nobody can tell which job is ours when none was known before.
#[tokio::test]
async fn answer_that_cannot_be_found_again_fails_the_build_and_submits_nothing_more() {
    let (mut world, _) = world().await;
    let lando = FakeLando::start(world.clock.clone()).await.unwrap();
    world.repository().lando = Some(super::settings(&lando));
    world.start_ready().await;
    lando.fail_next("patches", 1, &Fault::CutAfter);
    let build = world.simple_build(1);
    world.send(&build).await;
    let update = world.next_update().await.update;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert!(
        failure.details.contains("Build Target: PHID-HMBT-1"),
        "{failure:?}"
    );
    assert_eq!(ours(&lando).len(), 1);
    world.stop().await;
}
