//! Trees that are closed.

use std::time::Duration;

use build::{Build, BuildUpdate, SkipReason};
use runtime::Clock;
use testkit::capture_logs;

use super::TreeService;
use crate::{Moment, Repository, Side, World, change, phid};

const MINUTE: Duration = Duration::from_secs(60);

const OPEN: &str = "the tree is open; its deferred builds go on";

/// A world with a tree status service.
async fn world<S: Side>() -> (World<S>, TreeService) {
    let mut world = World::<S>::new();
    let service = TreeService::start().await;
    world.settings.tree_status = Some(service.url());
    // Time is made to pass here, and must not pass while the clone is made.
    world.settings.limits.ready_wait = MINUTE;
    (world, service)
}

pub async fn builds_for_a_closed_tree_wait_without_losing_attempts_and_go_one_by_one_when_it_opens<
    S: Side,
>() {
    let (_guard, logs) = capture_logs();
    let (mut world, service) = world::<S>().await;
    let mut elsewhere = world.settings.repositories[0].clone();
    (elsewhere.phid, elsewhere.name) = (phid("PHID-REPO-elsewhere"), "elsewhere".to_owned());
    elsewhere.try_name = "other".to_owned();
    world.settings.repositories.push(elsewhere);
    service.say("try", "closed", "Bug 123 - infra");
    world.start();
    for number in 1..=3 {
        world.send(&world.simple_build(number)).await;
    }
    let mut open = world.simple_build(9);
    open.request.repository = phid("PHID-REPO-elsewhere");
    world.send(&open).await;
    world.pass(30 * MINUTE).await;

    let applied = world.update().await.expect("the other tree is open");
    assert_eq!(applied.request, open.request);
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{applied:?}"
    );
    assert_eq!(world.waiting().await, 3, "far more looks than attempts");
    assert_eq!(world.destination.pushed().len(), 1);

    // Another worker goes on with them.
    world.stop().await;
    world.start();
    world.pass(MINUTE).await;
    assert_eq!(world.waiting().await, 3);

    service.say("try", "open", "");
    for heads in 2..=4 {
        let update = world.next_update().await.update;
        assert!(matches!(update, BuildUpdate::Pushed(_)), "{update:?}");
        assert_eq!(world.destination.pushed().len(), heads);
    }
    world.stop().await;
    assert_eq!(logs.count(OPEN), 1, "{}", logs.text());
}

pub async fn closed_tree_is_not_logged_as_open_when_the_service_goes_down<S: Side>() {
    let (_guard, logs) = capture_logs();
    let (mut world, service) = world::<S>().await;
    service.say("try", "closed", "Bug 123 - infra");
    world.start();
    world.send(&world.simple_build(7)).await;
    world.pass(5 * MINUTE).await;
    assert_eq!(world.waiting().await, 1);
    service.answer(503, "");
    assert!(matches!(
        world.next_update().await.update,
        BuildUpdate::Pushed(_)
    ));
    world.stop().await;
    let outage = "the tree status service does not respond; trees count as open";
    assert_eq!(logs.count(outage), 1, "{}", logs.text());
    assert_eq!(logs.count(OPEN), 0, "{}", logs.text());
}

pub async fn tree_that_wants_approval_is_as_good_as_closed<S: Side>() {
    let (mut world, service) = world::<S>().await;
    service.say("try", "approval required", "");
    world.start();
    world.send(&world.simple_build(7)).await;
    world.pass(5 * MINUTE).await;
    assert_eq!(world.waiting().await, 1);
    service.say("try", "open", "");
    assert!(matches!(
        world.next_update().await.update,
        BuildUpdate::Pushed(_)
    ));
    world.stop().await;
}

pub async fn patch_that_does_not_apply_is_reported_while_the_tree_is_closed<S: Side>() {
    let (mut world, service) = world::<S>().await;
    service.say("try", "closed", "");
    world.start();
    let failure = world
        .patch_failed(&world.build_of(vec![world.patch(7, change("line V", "x"))]))
        .await;
    assert!(
        failure.summary.contains("does not apply"),
        "{}",
        failure.summary
    );
    world.stop().await;
}

pub async fn build_that_expires_in_front_of_a_closed_tree_says_so<S: Side>() {
    let (mut world, service) = world::<S>().await;
    service.say("try", "closed", "Bug 123 - infra");
    world.start();
    let mut build = world.simple_build(7);
    // Its age counts, not the time that it waited here.
    build.diff.created_at = world.clock.now() - Duration::from_secs(24 * 3600) + 10 * MINUTE;
    world.send(&build).await;
    world.pass(8 * MINUTE).await;
    assert_eq!(world.waiting().await, 1);
    world.pass(4 * MINUTE).await;
    let update = world.update().await.expect("its time is over").update;
    let expected = "Expired: diff 1007 was made 24 hours ago, and diffs older than 24 hours are not built. Submit it again to have it built. \
         The build waited for try, which is closed: `Bug 123 - infra`.";
    assert_eq!(update, BuildUpdate::skipped(SkipReason::Expired, expected));
    world.stop().await;
}

pub async fn tree_that_nobody_knows_about_counts_as_open<S: Side>() {
    let (mut world, mut service) = world::<S>().await;
    world.start();
    let mut number = 0;
    let mut next = |world: &World<S>| -> Build {
        number += 1;
        // What was said before is too old by now.
        world.clock.advance(2 * MINUTE);
        world.simple_build(number)
    };
    for (status, body) in [
        (200, "{}"),
        (200, "[1, 2"),
        (200, r#"{"result": {"status": "mauve"}}"#),
        (404, r#"{"error": "no such tree"}"#),
        (503, ""),
        (302, ""),
    ] {
        service.answer(status, body);
        world.pushed(&next(&world)).await;
    }
    service.answer(
        200,
        &format!(
            r#"{{"result": {{"status": "closed", "reason": "{}"}}}}"#,
            "x".repeat(1 << 20)
        ),
    );
    world.pushed(&next(&world)).await;
    service.stop().await;
    world.pushed(&next(&world)).await;
    world.stop().await;
}

pub async fn push_that_a_hook_refuses_waits_when_the_tree_was_closed_meanwhile<S: Side>() {
    let (mut world, service) = world::<S>().await;
    world.start_ready().await;
    service.say_once("open", "");
    service.say("try", "closed", "closed at this very moment");
    world
        .destination
        .hook(Moment::BeforePush, "echo CLOSED TREE; exit 1");
    world.send(&world.simple_build(7)).await;
    world.pass(5 * MINUTE).await;
    assert_eq!(world.waiting().await, 1);
    assert!(
        service.questions() > 10,
        "before the push, behind it, and again and again while it waits"
    );

    world.destination.unhook();
    service.say("try", "open", "");
    assert!(matches!(
        world.next_update().await.update,
        BuildUpdate::Pushed(_)
    ));
    world.stop().await;
}
