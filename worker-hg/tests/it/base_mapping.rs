//! A base that its author names by a hash of Git, and that Lando maps to a changeset.

use std::time::Duration;

use build::{BaseChoice, BaseReason, Build};
use runtime::Clock;
use testkit::lando::{FakeLando, Fault};

use crate::world::{World, add, change};

const GIT: &str = "1234567890123456789012345678901234567890";

/// A world whose repository has the mapping of a Lando, and a source with a second changeset.
async fn world() -> (World, FakeLando, String) {
    let mut world = World::new();
    let lando = FakeLando::start(world.clock.clone()).await.unwrap();
    world.repository().base_mapping = Some(lando.git2hg("firefox"));
    // However long the clone is tidied between two builds: no time passes for that.
    world.settings.limits.ready_wait = Duration::from_secs(60);
    let first = world.source.tip();
    world.source.write("later", b"x");
    world.source.commit("second");
    // Time must not pass while the clone is made.
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start_ready().await;
    (world, lando, first)
}

/// A build whose only patch was made at this time, in Git, on [`GIT`].
fn build(world: &World, number: u64, made: &str) -> Build {
    let mut patch = world.patch(number, add("new.txt", "x"));
    patch.diff.base = Some(GIT.to_owned());
    patch.diff.created_at = made.parse().unwrap();
    world.build_of(vec![patch])
}

fn mapped(used: &str) -> BaseChoice {
    BaseChoice {
        used: used.to_owned(),
        instead_of: Some(GIT.to_owned()),
        reason: BaseReason::Mapped,
        tried: None,
    }
}

const OLD: &str = "2026-11-21T11:00:00Z";
const NEW: &str = "2026-11-21T12:00:00Z";

#[tokio::test]
async fn mapped_base_is_used_and_remembered() {
    let (mut world, lando, first) = world().await;
    lando.map(GIT, &first);
    lando.map(&"1".repeat(40), &world.source.tip());
    for number in [1, 2] {
        let pushed = world.pushed(&build(&world, number, NEW)).await;
        assert_eq!(pushed.base, mapped(&first));
    }
    assert_eq!(lando.calls(), ["git2hg"]);
    world.stop().await;
}

#[tokio::test]
async fn build_waits_until_its_base_is_mapped() {
    let (mut world, lando, first) = world().await;
    let build = build(&world, 1, NEW);
    world.send(&build).await;
    world.pass(Duration::from_secs(120)).await;
    assert_eq!(
        (world.waiting().await, world.record(&build).await.base),
        (1, None)
    );
    lando.map(GIT, &first);
    let update = world.next_update().await.update;
    let base = world.record(&build).await.base;
    assert_eq!(base, Some(mapped(&first)), "{update:?}");
    world.stop().await;
}

/// The build is neither failed nor held up for longer than a push takes to be mapped.
#[tokio::test]
async fn base_that_is_never_mapped_is_replaced() {
    let (mut world, lando, _) = world().await;
    let begin = world.clock.now();
    let pushed = world.pushed(&build(&world, 1, NEW)).await;
    assert_eq!(pushed.base.reason, BaseReason::Unknown);
    let waited = world.clock.now().duration_since(begin).as_secs();
    assert!((600..700).contains(&waited), "{waited}");
    let calls = lando.calls().len();
    assert!((15..30).contains(&calls), "{calls}");
    let pushed = world.pushed(&build(&world, 2, OLD)).await;
    assert_eq!(pushed.base.instead_of.as_deref(), Some(GIT));
    assert_eq!(lando.calls().len(), calls + 1, "an old one does not wait");
    world.stop().await;
}

#[tokio::test]
async fn outage_slowness_and_garbage_fail_no_build_and_are_logged_once() {
    let (_guard, logs) = testkit::capture_logs();
    let (mut world, lando, _) = world().await;
    let other = r#"{"git_hash": "2222222222222222222222222222222222222222", "hg_hash": "3"}"#;
    let faults = [
        Fault::Status(502, "<html>"),
        Fault::Status(200, "<html>"),
        Fault::Status(200, other),
        Fault::Cut,
        Fault::SilentAfter,
    ];
    for (number, fault) in (1..).zip(&faults) {
        lando.fail_next("git2hg", 1, fault);
        let pushed = world.pushed(&build(&world, number, OLD)).await;
        assert_eq!(pushed.base.instead_of.as_deref(), Some(GIT), "{fault:?}");
        // Else nothing is requested after a failure.
        world.clock.advance(Duration::from_secs(60));
    }
    lando.go_down().await.unwrap();
    world.pushed(&build(&world, 9, OLD)).await;
    assert_eq!(lando.calls().len(), faults.len());
    let text = logs.text();
    assert_eq!(
        text.matches("mapping of commits cannot be used").count(),
        1,
        "{text}"
    );
    lando.come_up().unwrap();
    world.clock.advance(Duration::from_secs(60));
    world.pushed(&build(&world, 10, OLD)).await;
    let text = logs.text();
    assert_eq!(
        text.matches("mapping of commits responds again").count(),
        1,
        "{text}"
    );
    world.stop().await;
}

#[tokio::test]
async fn service_that_does_not_respond_is_not_requested_by_each_build() {
    let (mut world, lando, _) = world().await;
    lando.fail_until_mended("git2hg", &Fault::Status(503, ""));
    for number in 1..4 {
        world.send(&build(&world, number, OLD)).await;
    }
    // Without letting time pass.
    world.handle_all().await;
    while world.update().await.is_some() {}
    assert_eq!(world.waiting().await, 0);
    assert_eq!(lando.calls(), ["git2hg"]);
    world.stop().await;
}

/// Most upper patches name a commit that only their author has.
#[tokio::test]
async fn upper_base_is_mapped_when_the_stack_does_not_apply_on_the_lowest() {
    let (mut world, lando, first) = world().await;
    let text = String::from_utf8(world.source.cat("tip", "hello.txt")).unwrap();
    let changed = text.replace("line 5\n", "five\n");
    world.source.write("hello.txt", changed.as_bytes());
    let third = world.source.commit("third");
    let upper_base = "a".repeat(20) + &"b".repeat(20);
    lando.map(GIT, &first);
    lando.map(&upper_base, &third);
    let mut lower = world.patch(10, add("file", "x"));
    lower.diff.base = Some(GIT.to_owned());
    let mut upper = world.patch(11, change("five", "x"));
    upper.diff.base = Some(upper_base);
    let pushed = world.pushed(&world.build_of(vec![lower, upper])).await;
    let newest = BaseChoice {
        reason: BaseReason::NewestNamed,
        ..mapped(&third)
    };
    assert_eq!(pushed.base, newest);
    world.stop().await;
}

/// Its lowest base is the author's own commit of what has landed.
#[tokio::test]
async fn stack_on_landed_revisions_does_not_wait() {
    let (mut world, lando, _) = world().await;
    let begin = world.clock.now();
    let mut build = build(&world, 1, NEW);
    build.landed = vec![7];
    let pushed = world.pushed(&build).await;
    assert_eq!(pushed.base.used, world.source.tip());
    assert!(world.clock.now().duration_since(begin).as_secs() < 30);
    assert_eq!(lando.calls(), ["git2hg"]);
    world.stop().await;
}
