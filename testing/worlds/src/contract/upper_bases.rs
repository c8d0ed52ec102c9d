//! A base that only an upper patch of a stack names, and that the clone does not have yet.

use build::{BaseChoice, BaseReason, Build, BuildUpdate};

use crate::{Repository, Side, World, add, change};

/// A patch on `base`, and above it one that changes `line` to `x` and names `upper_base`.
fn stack<S: Side>(
    world: &World<S>,
    number: u64,
    base: &str,
    line: &str,
    upper_base: &str,
) -> Build {
    let mut lower = world.patch(number, add(&format!("file{number}"), "x"));
    lower.diff.base = Some(base.to_owned());
    let mut upper = world.patch(number + 1, change(line, "x"));
    upper.diff.base = Some(upper_base.to_owned());
    world.build_of(vec![lower, upper])
}

pub async fn it_is_pulled_when_the_stack_does_not_apply_on_the_base_of_the_lower_patch<S: Side>() {
    let mut world = World::<S>::new();
    let first = world.source.newest();
    world.start_ready().await;
    let text = String::from_utf8(world.source.content(&first, "hello.txt")).unwrap();
    world
        .source
        .put("hello.txt", text.replace("line 5\n", "five\n").as_bytes());
    let second = world.source.commit_all("second");
    let pushed = world
        .pushed(&stack(&world, 10, &first, "five", &second))
        .await;
    let newest = BaseChoice {
        used: second,
        instead_of: Some(first),
        reason: BaseReason::NewestNamed,
        tried: None,
    };
    assert_eq!(pushed.base, newest);
    world.stop().await;
}

pub async fn patch_is_at_fault_when_the_source_does_not_have_it_either<S: Side>() {
    let mut world = World::<S>::new();
    let first = world.source.newest();
    world.start_ready().await;
    let unknown = &"abcdef".repeat(7)[..40];
    let update = world
        .build(&stack(&world, 10, &first, "nowhere", unknown))
        .await;
    assert!(matches!(update, BuildUpdate::PatchFailed(_)), "{update:?}");
    world.stop().await;
}
