//! Patches that take much time of a processor.

use std::{fmt::Write as _, time::Duration};

use build::{BuildEventKind, BuildUpdate};

use super::refused_and_the_next_one_pushed;
use crate::world::{World, add, phid};

/// Hunks for the file `equal`, each of which looks like all of the file but for one line.
fn hunks_that_fit_nowhere(count: usize) -> String {
    let mut patch = "diff --git a/equal b/equal\n--- a/equal\n+++ b/equal\n".to_owned();
    for line in (1000..).step_by(2000).take(count) {
        let same = " same\n".repeat(3);
        write!(
            patch,
            "@@ -{line},7 +{line},7 @@\n{same}-other\n+new\n{same}"
        )
        .unwrap();
    }
    patch
}

#[tokio::test]
async fn hunks_that_fit_nowhere_among_equal_lines_are_the_patchs_fault_at_once() {
    let mut world = World::new();
    world
        .source
        .write("equal", "same\n".repeat(400_000).as_bytes());
    world.source.commit("equal lines");
    // Else Mercurial looks for places until then, and the build is tried again.
    world.settings.limits.import = Duration::from_secs(20);
    world.start_ready().await;
    let greedy = world.build_of(vec![world.patch(1, hunks_that_fit_nowhere(150))]);
    let failure = refused_and_the_next_one_pushed(&world, &greedy).await;
    // On a slow machine its time is over before Mercurial names the hunk.
    assert!(
        failure.summary.starts_with("The patch of D1 does not "),
        "{}",
        failure.summary
    );
    assert!(
        failure
            .details
            .contains("equal, line 1000: hunk #1 does not fit"),
        "{}",
        failure.details
    );
    world.stop().await;
}

#[tokio::test]
async fn hunks_that_fit_far_away_among_equal_lines_are_refused_at_once() {
    let mut world = World::new();
    let line = |number: usize| match number % 1000 {
        500 => format!("mark {}\n", number / 1000),
        _ => "same\n".to_owned(),
    };
    let equal: String = (0..400_000).map(line).collect();
    world.source.write("equal", equal.as_bytes());
    world.source.commit("equal lines with marks");
    world.start_ready().await;
    let mut patch = "diff --git a/equal b/equal\n--- a/equal\n+++ b/equal\n".to_owned();
    for number in 0..150 {
        // Now from the beginning, now from the end.
        let mark = [number / 2, 399 - number / 2][number % 2];
        let line = number * 10 + 1;
        write!(
            patch,
            "@@ -{line},4 +{line},4 @@\n same\n same\n-mark {mark}\n+new\n same\n"
        )
        .unwrap();
    }
    let greedy = world.build_of(vec![world.patch(1, add("a", "a")), world.patch(2, patch)]);
    let failure = refused_and_the_next_one_pushed(&world, &greedy).await;
    assert_eq!(
        failure.summary,
        "The patch of D2 does not fit where it says, and other places were not found within 3 s of processor time."
    );
    assert_eq!(
        failure.details,
        "equal, line 1: hunk #1 does not fit\n  @@ -1,4 +1,4 @@"
    );
    assert!(failure.advice.starts_with("Rebase"), "{}", failure.advice);
    world.stop().await;
}

impl World {
    /// A world with the file `large`, of 100,000 different lines.
    fn with_many_lines() -> Self {
        let world = Self::new();
        let large: String = (0..100_000).map(many_line).collect();
        world.source.write("large", large.as_bytes());
        world.source.commit("a large file");
        world
    }
}

fn many_line(number: usize) -> String {
    format!("line {number} of many\n")
}

/// Hunks for the file `large`, one for each `step` of its lines, that say they are `off` lines below their places.
fn many_hunks(step: usize, off: usize) -> String {
    let mut patch = "diff --git a/large b/large\n--- a/large\n+++ b/large\n".to_owned();
    for number in (0..100_000).step_by(step) {
        let (first, old, last) = (
            many_line(number),
            many_line(number + 1),
            many_line(number + 2),
        );
        write!(
            patch,
            "@@ -{0},3 +{0},3 @@\n {first}-{old}+new {old} {last}",
            number + 1 + off
        )
        .unwrap();
    }
    patch
}

#[tokio::test]
async fn patches_that_take_too_long_to_apply_are_refused_and_not_tried_again() {
    let mut world = World::with_many_lines();
    world.settings.limits.apply_time = Duration::from_millis(100);
    world.start_ready().await;
    let greedy = world.build_of(vec![
        world.patch(1, add("a", "a")),
        world.patch(2, many_hunks(5, 0)),
    ]);
    let failure = refused_and_the_next_one_pushed(&world, &greedy).await;
    assert_eq!(
        failure.summary,
        "Applying the patches of D2 took longer than 0 s of processor time. It was stopped at the patch of D2."
    );
    world.stop().await;
}

#[tokio::test]
async fn many_hunks_that_fit_where_they_say_are_pushed_without_time_to_search() {
    let mut world = World::with_many_lines();
    world.settings.limits.search_time = Duration::ZERO;
    world.start_ready().await;
    let pushed = world
        .pushed(&world.build_of(vec![world.patch(1, many_hunks(20, 0))]))
        .await;
    let content = world.destination.cat(&pushed.revision, "large");
    let content = String::from_utf8(content).unwrap();
    assert_eq!(content.matches("\nnew line ").count(), 5000);
    world.stop().await;
}

#[tokio::test]
async fn hunks_that_are_a_few_lines_off_in_a_large_file_are_pushed() {
    let mut world = World::with_many_lines();
    // They take 1.5 s of an idle processor, and three times that of a busy one.
    world.settings.limits.search_time = Duration::from_secs(60);
    world.start_ready().await;
    let pushed = world
        .pushed(&world.build_of(vec![world.patch(1, many_hunks(5000, 3))]))
        .await;
    let content = world.destination.cat(&pushed.revision, "large");
    let content = String::from_utf8(content).unwrap();
    assert_eq!(content.matches("\nnew line ").count(), 20);
    world.stop().await;
}

#[tokio::test]
async fn builds_of_an_author_who_used_much_time_are_deferred_and_those_of_others_are_pushed() {
    let mut world = World::with_many_lines();
    world.settings.limits.apply_time = Duration::from_millis(100);
    world.settings.limits.author_time = Duration::from_millis(100);
    world.start_ready().await;
    let greedy = world.build_of(vec![world.patch(1, many_hunks(5, 0))]);
    world.patch_failed(&greedy).await;
    let waiting = world.simple_build(2);
    let mut other = world.simple_build(3);
    other.revision.author = phid("PHID-USER-bob");
    world.send(&waiting).await;
    world.send(&other).await;
    let applied = world.next_update().await;
    assert_eq!(applied.request, other.request);
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{applied:?}"
    );
    assert_eq!(world.waiting().await, 1);
    let events = world.record(&waiting).await.events;
    let reason = "builds of this author have used 0 s of processor time within ten minutes (`max_author_time`): builds of \
                  other authors go first";
    let deferred = |what: &BuildEventKind| matches!(what, BuildEventKind::Deferred { reason: why, .. } if why == reason);
    assert!(
        events.iter().any(|event| deferred(&event.kind)),
        "{events:?}"
    );
    // Until the window ends, and then once.
    world.pass(Duration::from_secs(300)).await;
    assert!(world.update().await.is_none());
    let applied = world.next_update().await;
    assert_eq!(applied.request, waiting.request);
    assert!(
        matches!(applied.update, BuildUpdate::Pushed(_)),
        "{applied:?}"
    );
    world.pass(Duration::from_secs(1200)).await;
    assert!(world.update().await.is_none() && world.dead_letters().await.is_empty());
    world.stop().await;
}
