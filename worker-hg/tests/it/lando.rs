//! Lando as the destination of a repository with Mercurial.

mod lost_answers;

use std::time::Duration;

use build::{BaseReason, Build, BuildOutcome, BuildUpdate, Ineligible, NotPublic, SkipReason};
use testkit::lando::{FakeLando, Fault, LandingJob};
use worker::LandoSettings;
use worlds::Answer;

use crate::world::{World, add, change};

/// A world whose repository is submitted to a Lando, on which others have submitted jobs.
async fn world() -> (World, FakeLando) {
    let mut world = World::new();
    let lando = FakeLando::start(world.clock.clone()).await.unwrap();
    for _ in 0..5 {
        lando.submit_for("ann@example.org");
    }
    world.repository().try_url = lando.url().to_string();
    world.repository().lando = Some(settings(&lando));
    (world, lando)
}

fn settings(lando: &FakeLando) -> LandoSettings {
    LandoSettings {
        timeout: Duration::from_secs(2),
        ..LandoSettings::new(lando.url().clone(), lando.token(), FakeLando::USER, "try")
    }
}

fn ours(lando: &FakeLando) -> Vec<LandingJob> {
    let mut jobs = lando.jobs();
    jobs.retain(|job| job.requester == FakeLando::USER);
    jobs
}

/// Handles a build until there is a job for it.
async fn submitted(world: &World, lando: &FakeLando, build: &Build) -> LandingJob {
    world.send(build).await;
    for _ in 0..100 {
        world.pass(Duration::from_secs(10)).await;
        if let Some(job) = job_of(lando, build) {
            return job;
        }
    }
    panic!("no job: {:?}", world.record(build).await);
}

fn job_of(lando: &FakeLando, build: &Build) -> Option<LandingJob> {
    let line = format!("\nBuild Target: {}\n", build.request.target);
    ours(lando)
        .into_iter()
        .find(|job| format!("{}\n", job.patches.last().unwrap().message).contains(&line))
}

const HEAD: &str = "1234567890123456789012345678901234567890";

#[tokio::test]
async fn stack_becomes_one_job_whose_head_is_the_answer() {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let mut second = world.patch(8, change("line 5", "Größe\r"));
    second.author = Some("Jürgen <j@example.org>".to_owned());
    second.message = "Bug 8 - Änderung\n\nMore\n---\nend".to_owned();
    let build = world.build_of(vec![world.patch(7, add("new.txt", "x")), second]);
    let job = submitted(&world, &lando, &build).await;
    assert_eq!(job.target_commit, world.source.tip());
    assert_eq!(job.repository, "try");
    let authors: Vec<_> = job
        .patches
        .iter()
        .map(|patch| patch.author.as_str())
        .collect();
    assert_eq!(
        authors,
        [
            "\"Ada\" <ada@example.org>",
            "Jürgen <j@example.org>",
            "\"Bot\" <bot@example.org>"
        ]
    );
    assert_eq!(
        job.patches[1].message,
        "Bug 8 - Änderung\n\nMore\n--- \nend\n\nDifferential Diff: PHID-DIFF-8"
    );
    for (number, patch) in job.patches.iter().enumerate() {
        world.source.write("../patch", patch.diff.as_bytes());
        let path = world.path("patch");
        let message = format!("patch {number}");
        world.source.hg(&[
            "import",
            "--quiet",
            "--message",
            &message,
            path.to_str().unwrap(),
        ]);
    }
    let content = world.source.cat("tip", "hello.txt");
    let text = String::from_utf8(content).unwrap();
    assert!(text.contains("line 4\nGröße\r\nline 6\n"), "{text}");
    assert!(!world.source.cat("tip", "try_task_config.json").is_empty());

    lando.start_job(job.id);
    world.pass(Duration::from_secs(3600)).await;
    assert_eq!(world.waiting().await, 1, "its clone is free meanwhile");
    lando.land(job.id, HEAD);
    let BuildUpdate::Pushed(pushed) = world.next_update().await.update else {
        panic!("not pushed")
    };
    assert_eq!(pushed.revision, HEAD);
    assert_eq!(pushed.base.reason, BaseReason::Named);
    let page = format!("{}landings/{}/", lando.url(), job.id);
    assert_eq!(pushed.job_url, Some(page));
    let jobs = pushed.jobs_url.unwrap();
    assert!(
        jobs.ends_with(&format!("repo=try&revision={HEAD}")),
        "{jobs}"
    );
    assert_eq!((ours(&lando).len(), world.waiting().await), (1, 0));
    world.stop().await;
}

/// The end of a build whose job ends with this.
async fn end(number: u64, end: impl FnOnce(&FakeLando, u64)) -> BuildUpdate {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let build = world.simple_build(number);
    let job = submitted(&world, &lando, &build).await;
    end(&lando, job.id);
    let update = world.next_update().await.update;
    world.stop().await;
    update
}

#[tokio::test]
async fn job_that_fails_to_apply_is_the_fault_of_its_patches() {
    let error = "Problem while applying patch in revision None:\n\nerror: patch failed: new.txt:1";
    let update = end(1, |lando, job| lando.fail(job, error)).await;
    let BuildUpdate::PatchFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert!(failure.summary.contains("/landings/6/"), "{failure:?}");
    assert!(
        failure.details.contains("error: patch failed: new.txt:1"),
        "{failure:?}"
    );
    assert!(failure.base.is_some());
}

#[tokio::test]
async fn job_that_fails_otherwise_is_our_fault() {
    let error = "Unexpected error while pushing to try.\nabort: no";
    let update = end(1, |lando, job| lando.fail(job, error)).await;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert!(failure.details.contains("abort: no"), "{failure:?}");
    assert!(failure.details.contains("/landings/6/"), "{failure:?}");
}

#[tokio::test]
async fn cancelled_job_ends_its_build_without_a_failure() {
    let update = end(1, FakeLando::cancel).await;
    let BuildUpdate::Skipped(skip) = update else {
        panic!("{update:?}")
    };
    assert_eq!(skip.reason, SkipReason::Cancelled);
    assert!(skip.text.contains("/landings/6/"), "{skip:?}");
}

#[tokio::test]
async fn job_that_does_not_end_fails_its_build_after_a_day() {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let build = world.simple_build(1);
    let job = submitted(&world, &lando, &build).await;
    lando.defer(job.id, "Tree try is closed - retrying later.");
    world.pass(Duration::from_secs(23 * 3600)).await;
    assert_eq!(world.waiting().await, 1);
    let record = format!("{:?}", world.record(&build).await);
    assert!(record.contains("Tree try is closed"), "{record}");
    world.pass(Duration::from_secs(2 * 3600)).await;
    let update = world.update().await.unwrap().update;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert!(
        failure.details.contains("not ended within 24 hours"),
        "{failure:?}"
    );
    world.stop().await;
}

#[tokio::test]
async fn build_that_became_private_is_not_spoken_of_when_its_job_ends() {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let build = world.simple_build(1);
    let job = submitted(&world, &lando, &build).await;
    world
        .phabricator
        .say(Answer::Over(Ineligible::Private(NotPublic::Restricted)));
    lando.fail(
        job.id,
        "Problem while applying patch in revision None:\nnew.txt",
    );
    assert_eq!(world.next_update().await.update, BuildUpdate::Private);
    world.stop().await;
}

#[tokio::test]
async fn outage_of_lando_keeps_jobs_waiting_and_is_logged_once() {
    let (_guard, logs) = testkit::capture_logs();
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let build = world.simple_build(1);
    let job = submitted(&world, &lando, &build).await;
    lando.go_down().await.unwrap();
    world.pass(Duration::from_secs(1800)).await;
    assert_eq!(world.waiting().await, 1);
    lando.land(job.id, HEAD);
    lando.come_up().unwrap();
    assert!(matches!(
        world.next_update().await.update,
        BuildUpdate::Pushed(_)
    ));
    let text = logs.text();
    assert_eq!(text.matches("Lando does not respond").count(), 1, "{text}");
    assert_eq!(text.matches("Lando responds again").count(), 1, "{text}");
    assert!(!text.contains("lando-token"), "{text}");
    world.stop().await;
}

#[tokio::test]
async fn checks_before_the_submission_fail_the_build_with_their_words() {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    lando.find_in_checks(&["Patch adds a binary", "No bug number"]);
    let failure = world.patch_failed(&world.simple_build(1)).await;
    for words in ["  - Patch adds a binary", "- No bug number"] {
        assert!(failure.details.contains(words.trim()), "{failure:?}");
    }
    assert!(ours(&lando).is_empty());
    world.stop().await;
}

#[tokio::test]
async fn refusals_that_operators_have_to_mend_fail_the_build_at_once() {
    let (mut world, lando) = world().await;
    let mut weak = settings(&lando);
    weak.token = lando.weak_token();
    let mut unknown = settings(&lando);
    unknown.token = "lando-token-of-nobody".into();
    let mut elsewhere = settings(&lando);
    elsewhere.repository = "autoland".to_owned();
    for (number, (settings, words)) in (1..).zip([
        (weak, "Missing permissions"),
        (unknown, "401"),
        (elsewhere, "Repo autoland does not exist."),
    ]) {
        world.repository().lando = Some(settings);
        world.start_ready().await;
        let build = world.simple_build(number);
        let BuildUpdate::InfraFailed(failure) = world.build(&build).await else {
            panic!("{words}")
        };
        assert!(failure.details.contains(words), "{failure:?}");
        assert_eq!(failure.attempts, 1);
        world.stop().await;
    }
    assert!(ours(&lando).is_empty());
}

#[tokio::test]
async fn build_waits_while_lando_has_not_mapped_its_base() {
    let (mut world, lando) = world().await;
    lando.try_has_git();
    world.start_ready().await;
    let build = world.simple_build(1);
    world.send(&build).await;
    world.pass(Duration::from_secs(900)).await;
    assert_eq!(world.waiting().await, 1);
    let record = format!("{:?}", world.record(&build).await);
    assert!(record.contains("Please try again later"), "{record}");
    lando.map(HEAD, &world.source.tip());
    world.pass(Duration::from_secs(120)).await;
    let job = job_of(&lando, &build).unwrap();
    assert_eq!(job.target_commit, HEAD);
    world.stop().await;
}

#[tokio::test]
async fn stacks_that_lando_cannot_take_are_refused_with_a_reason() {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let line = "x".repeat(1 << 20);
    let lines: String = (0..17).map(|_| format!("+{line}\n")).collect();
    let large = format!(
        "diff --git a/large b/large\nnew file mode 100644\n--- /dev/null\n+++ b/large\n@@ -0,0 +1,17 @@\n{lines}"
    );
    let failure = world
        .patch_failed(&world.build_of(vec![world.patch(1, large)]))
        .await;
    assert!(failure.summary.contains("15 MiB"), "{failure:?}");
    let latin1 = b"diff --git a/l b/l\nnew file mode 100644\n--- /dev/null\n+++ b/l\n@@ -0,0 +1,1 @@\n+\xe9\n";
    let build = world.build_of(vec![world.patch(2, latin1.to_vec())]);
    let failure = world.patch_failed(&build).await;
    assert!(failure.summary.contains("not UTF-8"), "{failure:?}");
    assert!(!lando.calls().iter().any(|call| call == "patches"));
    world.stop().await;
}

#[tokio::test]
async fn online_check_submits_what_lando_has_to_refuse() {
    let (mut world, lando) = world().await;
    let check = async |settings| {
        let mut repository = world.settings.repositories[0].clone();
        repository.lando = Some(settings);
        worker::lando::probe(&repository).await.unwrap()
    };
    let accepted = check(settings(&lando)).await.unwrap();
    assert_eq!(accepted, "it accepts the token, and submissions to try");
    lando.try_has_git();
    assert!(
        check(settings(&lando)).await.is_ok(),
        "the base is checked first"
    );
    let mut weak = settings(&lando);
    weak.token = lando.weak_token();
    assert!(check(weak).await.is_err());
    lando.fail_next("patches", 1, &Fault::Status(502, ""));
    assert!(check(settings(&lando)).await.is_err());
    assert!(ours(&lando).is_empty());
    world.repository().lando = None;
    assert!(
        worker::lando::probe(&world.settings.repositories[0])
            .await
            .is_none()
    );
}

#[tokio::test]
async fn superseded_build_is_not_submitted_and_one_with_a_job_is_finished() {
    let (mut world, lando) = world().await;
    world.start_ready().await;
    let build = world.simple_build(1);
    let job = submitted(&world, &lando, &build).await;
    let newer = Ineligible::Superseded { diff: 1, newer: 2 };
    world.phabricator.say(Answer::Over(newer));
    let other = world.build(&world.simple_build(2)).await;
    assert_eq!(
        other.outcome(),
        Some(BuildOutcome::Skipped(SkipReason::Superseded))
    );
    lando.land(job.id, HEAD);
    assert!(matches!(
        world.next_update().await.update,
        BuildUpdate::Pushed(_)
    ));
    assert_eq!(ours(&lando).len(), 1);
    world.stop().await;
}
