//! The last look before a push: whether the build is still wanted.

use std::time::Duration;

use build::{Build, BuildEventKind, BuildOutcome, BuildUpdate, Ineligible, NotPublic, SkipReason};

use crate::{Answer, Moment, Repository, Side, World, add, phid};

fn superseded() -> Ineligible {
    Ineligible::Superseded { diff: 1, newer: 2 }
}

fn private() -> Ineligible {
    Ineligible::Private(NotPublic::Restricted)
}

pub async fn superseded_and_private_builds_are_not_pushed<S: Side>() {
    let mut world = World::<S>::new();
    // Each is asked about at the gate: one that finds no clone ready is asked about before it has a base.
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start_ready().await;
    world.pushed(&world.simple_build(9)).await;
    let heads = world.destination.pushed().len();
    for (number, over) in [(1, superseded()), (2, private())] {
        let build = world.simple_build(number);
        let end = over.update(build.vcs);
        world.phabricator.say(Answer::Over(over));
        assert_eq!(world.build(&build).await, end);
        let record = world.record(&build).await;
        assert!(record.ends_with(&end));
        assert_eq!(
            record.base.is_some(),
            end != BuildUpdate::Private,
            "of a private revision numbers are left"
        );
    }
    // Also when it does not apply: the author of a private patch reads nothing of it.
    let wrong = world.build_of(vec![world.patch(
        3,
        "diff --git a/hello.txt b/hello.txt\n--- a/hello.txt\n+++ b/hello.txt\n@@ -1,1 +1,1 @@\n-never there\n+x\n",
    )]);
    assert_eq!(world.build(&wrong).await, BuildUpdate::Private);
    assert_eq!(world.destination.pushed().len(), heads);

    world.phabricator.say(Answer::Wanted);
    world.pushed(&world.simple_build(4)).await;
    world.stop().await;
}

pub async fn outage_of_the_push_guard_defers_without_an_attempt<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let heads = world.destination.pushed().len();
    world.phabricator.say(Answer::Away);
    let build = world.simple_build(1);
    world.send(&build).await;
    // It is applied again with each delivery; there are more of these than attempts.
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(
        (world.waiting().await, world.destination.pushed().len()),
        (1, heads)
    );
    let deferred = |event: &build::Event| matches!(event.kind, BuildEventKind::Deferred { .. });
    let record = world.record(&build).await;
    assert_eq!(
        record.events.iter().filter(|event| deferred(event)).count(),
        1,
        "the same reason is recorded once"
    );

    world.phabricator.say(Answer::Wanted);
    let applied = world.next_update().await;
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{:?}",
        applied.update
    );
    assert_eq!(
        world.record(&build).await.outcome(),
        Some(BuildOutcome::Pushed)
    );
    world.stop().await;
}

pub async fn wait_of_more_than_a_minute_is_logged_once_with_its_reason<S: Side>() {
    let (_guard, logs) = testkit::capture_logs();
    let mut world = World::<S>::new();
    // However long the clone is tidied after the first build: the second one is applied before it waits.
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start_ready().await;
    world.pushed(&world.simple_build(9)).await;
    world.phabricator.say(Answer::Away);
    world.send(&world.simple_build(1)).await;
    let waits = |logs: &testkit::Logs| {
        let text = logs.text();
        text.lines()
            .filter(|line| line.contains("build deferred: ") && line.contains("build=PHID-HMBT-1}"))
            .count()
    };
    world.pass(Duration::from_secs(30)).await;
    assert_eq!(waits(&logs), 0, "{}", logs.text());
    world.pass(Duration::from_secs(600)).await;
    assert_eq!(waits(&logs), 1, "{}", logs.text());
    assert!(
        logs.text()
            .contains("whether the build is still eligible: phabricator is away"),
        "{}",
        logs.text()
    );
    world.stop().await;
}

pub async fn build_with_an_unclear_answer_holds_up_no_other_and_expires<S: Side>() {
    let mut world = World::<S>::new();
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start_ready().await;
    world.phabricator.say(Answer::UnclearOf(1));
    for number in [1, 2] {
        world.send(&world.simple_build(number)).await;
    }
    // Time does not pass: a partition that is held would stay so.
    world.handle_all().await;
    let message = world.update().await.expect("the other one is pushed");
    assert_eq!(message.request.revision_id, 2);
    assert_eq!(world.waiting().await, 1);

    // Its diff was made an hour before it was sent.
    world.clock.advance(Duration::from_secs(24 * 3600));
    let message = world.next_update().await;
    assert_eq!(message.request.revision_id, 1);
    let outcome = world.record(&world.simple_build(1)).await.outcome();
    assert_eq!(outcome, Some(BuildOutcome::Skipped(SkipReason::Expired)));
    assert_eq!(world.waiting().await, 0);
    world.stop().await;
}

pub async fn superseded_build_ends_while_the_default_revision_is_missing<S: Side>() {
    let mut world = World::<S>::new();
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.repository().default_revision = "missing".to_owned();
    world.source.name("missing", &world.source.newest());
    world.start_ready().await;
    world.source.unname("missing");
    world.phabricator.say(Answer::Over(superseded()));
    let mut patch = world.patch(1, add("new.txt", "hello"));
    patch.diff.base = None;
    world.send(&world.build_of(vec![patch])).await;
    world.handle_all().await;
    let message = world.update().await.expect("the build has ended");
    assert_eq!(
        message.update,
        superseded().update(world.settings.repositories[0].vcs.kind())
    );
    assert_eq!(world.waiting().await, 0);
    world.stop().await;
}

pub async fn wait_is_logged_although_no_delivery_comes_in_its_first_minute<S: Side>() {
    let (_guard, logs) = testkit::capture_logs();
    let mut world = World::<S>::new();
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start_ready().await;
    world.phabricator.say(Answer::Away);
    world.send(&world.simple_build(1)).await;
    let waits = |logs: &testkit::Logs| logs.text().matches("build deferred: ").count();
    world.pass(Duration::from_secs(10)).await;
    assert_eq!(waits(&logs), 0, "{}", logs.text());
    world.clock.advance(Duration::from_secs(600));
    for _ in 0..3 {
        world.pass(Duration::from_secs(30)).await;
        assert_eq!(waits(&logs), 1, "{}", logs.text());
    }
    world.stop().await;
}

/// Else there would be a head on Try that nobody was told of.
pub async fn build_whose_push_has_begun_is_finished_although_a_newer_diff_came<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let build = world.simple_build(1);
    let first = world.pushed(&build).await;
    world.die_before_the_end_is_recorded(&build).await;
    world.phabricator.say(Answer::Over(superseded()));
    let again = world.pushed(&build).await;
    assert_eq!(again.revision, first.revision);

    // What has become private is not spoken of, whatever is on Try.
    world.die_before_the_end_is_recorded(&build).await;
    world.phabricator.say(Answer::Over(private()));
    assert_eq!(world.build(&build).await, BuildUpdate::Private);
    world.stop().await;
}

/// Else there would be a head on Try, and an answer that says that nothing was built.
pub async fn build_whose_push_has_begun_is_finished_although_its_diff_has_expired<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let build = world.simple_build(1);
    let first = world.pushed(&build).await;
    world.die_before_the_end_is_recorded(&build).await;
    world.clock.advance(Duration::from_secs(25 * 3600));
    assert_eq!(world.pushed(&build).await.revision, first.revision);
    world.stop().await;
}

pub async fn push_that_a_hook_refused_has_left_nothing_so_a_newer_diff_ends_the_build<S: Side>() {
    let mut world = World::<S>::new();
    world.destination.hook(Moment::BeforePush, "exit 1");
    world.start_ready().await;
    let build = world.simple_build(1);
    world.send(&build).await;
    let record = world.failed_once(&build).await;
    assert!(!record.pushing, "{record:?}");
    world.phabricator.say(Answer::Over(superseded()));
    assert_eq!(
        world.next_update().await.update,
        superseded().update(world.settings.repositories[0].vcs.kind())
    );
    world.stop().await;
}

pub async fn build_whose_end_was_decided_meanwhile_is_neither_pushed_nor_reported<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let heads = world.destination.pushed().len();
    let build = world.build_of(vec![world.patch(1, add("new.txt", "x"))]);
    world
        .decide(
            &build,
            &BuildUpdate::skipped(SkipReason::Cancelled, "Cancelled."),
        )
        .await;
    world.send(&build).await;
    world.pass(Duration::from_secs(60)).await;
    assert!(world.update().await.is_none());
    assert_eq!(
        (world.waiting().await, world.destination.pushed().len()),
        (0, heads)
    );
    world.stop().await;
}

/// Builds that end without a push, the first for what is wrong with its patch.
fn builds_without_a_push<S: Side>(world: &World<S>, number: u64) -> [Build; 5] {
    let refused = world.build_of(vec![
        world.patch(number, add(&format!("{}/hooks", S::OWN_DIRECTORY), "x")),
    ]);
    let mut expired = world.simple_build(number + 1);
    expired.diff.created_at = "2026-11-19T11:00:00Z".parse().unwrap();
    let mut unsupported = world.simple_build(number + 2);
    unsupported.request.repository = phid("PHID-REPO-other");
    let mut landed = world.simple_build(number + 3);
    landed.stack.clear();
    [
        refused,
        world.simple_build(number + 4),
        expired,
        unsupported,
        landed,
    ]
}

/// What a private patch is refused for is about its files.
pub async fn private_build_gets_the_private_outcome_also_when_it_would_have_ended_without_a_push<
    S: Side,
>() {
    let mut world = World::<S>::new();
    world.settings.skippable_files = ["new.txt".to_owned()].into();
    world.start_ready().await;
    world.phabricator.say(Answer::Over(private()));
    for build in builds_without_a_push(&world, 1) {
        assert_eq!(world.build(&build).await, BuildUpdate::Private);
        let record = format!("{:?}", world.record(&build).await);
        assert!(
            !record.contains("new.txt") && !record.contains("hooks"),
            "{record}"
        );
    }
    world.stop().await;
}

pub async fn newer_diff_comes_before_what_is_wrong_with_a_patch_and_not_before_other_ends<
    S: Side,
>() {
    let mut world = World::<S>::new();
    world.settings.skippable_files = ["new.txt".to_owned()].into();
    world.start_ready().await;
    world.phabricator.say(Answer::Over(superseded()));
    let mut ends = Vec::new();
    for build in builds_without_a_push(&world, 1) {
        let outcome = world.build(&build).await.outcome();
        ends.push(outcome.and_then(BuildOutcome::reason).unwrap());
    }
    use SkipReason::{Expired, File, Landed, Repository, Superseded};
    assert_eq!(ends, [Superseded, File, Expired, Repository, Landed]);
    world.stop().await;
}

pub async fn build_that_fails_by_our_fault_and_is_private_by_now_leaves_no_dead_letter<S: Side>() {
    let mut world = World::<S>::new();
    world
        .destination
        .hook(Moment::BeforePush, "echo no new.txt; exit 1");
    world.start_ready().await;
    let build = world.simple_build(1);
    world.send(&build).await;
    let record = format!("{:?}", world.failed_once(&build).await);
    assert!(record.contains("new.txt"), "{record}");
    world.phabricator.say(Answer::Over(private()));
    assert_eq!(world.next_update().await.update, BuildUpdate::Private);
    assert!(!format!("{:?}", world.record(&build).await).contains("new.txt"));
    assert_eq!(
        (world.waiting().await, world.dead_letters().await.len()),
        (0, 0)
    );
    world.stop().await;
}
