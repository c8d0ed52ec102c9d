//! Limits of one stack, and of one author.

use std::{fmt::Write as _, time::Duration};

use build::{BuildEventKind, BuildUpdate};

use crate::{Repository, Side, World, change, numbered, phid};

fn copy(from: &str, to: &str) -> String {
    format!("diff --git a/{from} b/{to}\ncopy from {from}\ncopy to {to}\n")
}

pub async fn stack_that_makes_more_than_is_allowed_is_refused_and_as_much_is_pushed<S: Side>() {
    let mut world = World::<S>::new();
    let size = numbered("line", 20).len();
    world.settings.limits.stack_bytes = 3 * size as u64;
    world.start();
    let stack = |number, more: &str| {
        let copies = copy("a", "b") + &copy("a", "c") + more;
        world.build_of(vec![
            world.patch(number, copy("hello.txt", "a")),
            world.patch(number + 1, copies),
        ])
    };
    let failure = world
        .patch_failed(&stack(1, &copy("old_pure.txt", "d")))
        .await;
    assert_eq!(
        failure.summary,
        "The stack of D2 is refused: the files that it makes are too large."
    );
    let largest = " in 3 files, which are copies or versions of one: hello.txt";
    assert!(failure.details.ends_with(largest), "{failure:?}");
    world.nothing_was_pushed();
    let pushed = world.pushed(&stack(3, "")).await;
    assert_eq!(world.text(&pushed.revision, "c"), numbered("line", 20));
    world.stop().await;
}

/// A file of many lines, and a patch that changes every twentieth.
fn much_work() -> (String, String) {
    let content = numbered("line", 20_000);
    let mut patch = "diff --git a/large b/large\n--- a/large\n+++ b/large\n".to_owned();
    for line in (2..20_000).step_by(20) {
        let (before, after) = (line - 1, line + 1);
        writeln!(
            patch,
            "@@ -{before},3 +{before},3 @@\n line {before}\n-line {line}\n+new line {line}\n line {after}"
        )
        .unwrap();
    }
    (content, patch)
}

pub async fn builds_of_an_author_who_used_much_time_are_deferred_and_those_of_others_are_pushed<
    S: Side,
>() {
    let mut world = World::<S>::new();
    let (content, patch) = much_work();
    world.source.put("large", content.as_bytes());
    world.source.commit_all("a large file");
    // A thousand hunks take longer on every machine.
    world.settings.limits.author_time = Duration::from_millis(1);
    world.start_ready().await;
    let greedy = world.build_of(vec![world.patch(1, patch)]);
    let pushed = world.pushed(&greedy).await;
    let made = world.text(&pushed.revision, "large");
    assert_eq!(made.matches("new line ").count(), 1000);

    let waiting = world.simple_build(2);
    let mut other = world.build_of(vec![world.patch(3, change("line 5", "line five"))]);
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
    let is_deferred = |event: &build::Event| {
        matches!(&event.kind, BuildEventKind::Deferred { reason, .. }
            if reason.starts_with("builds of this author have used "))
    };
    assert!(events.iter().any(is_deferred), "{events:?}");
    // Until the window ends, and then once.
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
