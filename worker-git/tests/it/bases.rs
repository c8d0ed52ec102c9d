//! The commits that stacks are applied on.

use build::BaseReason;

use crate::world::{World, add};

#[tokio::test]
async fn base_may_be_short_on_any_branch_and_newer_than_the_clone() {
    let mut world = World::new();
    world.start_ready().await;
    world
        .source
        .git(&["checkout", "--quiet", "-b", "release/1.0"]);
    world.source.write("release", b"1\n");
    let release = world.source.commit("release");
    world.source.git(&["checkout", "--quiet", "main"]);
    for (number, base) in [(1, release.as_str()), (2, &release[..12])] {
        let mut patch = world.patch(number, add("a", "a"));
        patch.diff.base = Some(base.to_owned());
        let build = world.build_of(vec![patch]);
        let pushed = world.pushed(&build).await;
        assert_eq!(
            world.destination.rev(&format!("{}^", pushed.revision)),
            release
        );
        let chosen = world.record(&build).await.base.expect("a base");
        assert_eq!(chosen.reason, BaseReason::Named);
    }
    world.stop().await;
}

#[tokio::test]
async fn names_of_other_objects_are_no_bases() {
    let mut world = World::new();
    world.source.git(&["tag", "-a", "-m", "x", "v1"]);
    let names = [
        world.source.rev("HEAD^{tree}"),
        world.source.rev("HEAD:hello.txt"),
        world.source.rev("v1"),
    ];
    world.start_ready().await;
    for (number, name) in (1..).zip(names) {
        let mut patch = world.patch(number, add("a", "a"));
        patch.diff.base = Some(name);
        let build = world.build_of(vec![patch]);
        world.pushed(&build).await;
        let chosen = world.record(&build).await.base.expect("a base");
        assert_eq!(chosen.reason, BaseReason::Unknown);
    }
    world.stop().await;
}

#[tokio::test]
async fn base_by_date_is_on_the_main_line() {
    let mut world = World::new();
    let old = world.source.commit_at("old", "2026-11-21T10:00:00Z");
    // Made before the diff, and merged after it.
    world.source.git(&["checkout", "--quiet", "-b", "side"]);
    world.source.write("side", b"x\n");
    world.source.commit_at("side", "2026-11-21T10:30:00Z");
    world.source.git(&["checkout", "--quiet", "main"]);
    world.source.commit_at("newer", "2026-11-21T11:30:00Z");
    world
        .source
        .git(&["merge", "--quiet", "--no-ff", "-m", "merge", "side"]);
    world.start_ready().await;
    let mut patch = world.patch(1, add("a", "a"));
    patch.diff.base = None;
    let build = world.build_of(vec![patch]);
    world.pushed(&build).await;
    let chosen = world.record(&build).await.base.expect("a base");
    assert_eq!((chosen.used, chosen.reason), (old, BaseReason::ByDate));
    world.stop().await;
}

#[tokio::test]
async fn default_revision_may_be_a_branch_a_tag_or_a_commit() {
    let mut world = World::new();
    world.source.git(&["checkout", "--quiet", "--detach"]);
    world.source.write("tagged", b"x\n");
    let tagged = world.source.commit("tagged, and on no branch");
    world.source.git(&["tag", "-a", "-m", "x", "v1"]);
    world
        .source
        .git(&["checkout", "--quiet", "-b", "next", "main"]);
    world.source.write("next", b"x\n");
    let next = world.source.commit("next");
    world.source.git(&["checkout", "--quiet", "main"]);
    let main = world.source.tip();
    let table = [
        ("next", &next),
        ("refs/heads/next", &next),
        ("v1", &tagged),
        ("refs/tags/v1", &tagged),
        (next.as_str(), &next),
        ("HEAD", &main),
        ("tip", &main),
    ];
    for (number, (name, expected)) in (1..).zip(table) {
        world.repository().default_revision = name.to_owned();
        world.repository().use_latest_revision = true;
        world.start_ready().await;
        let build = world.build_of(vec![world.patch(number, add("a", "a"))]);
        world.pushed(&build).await;
        let chosen = world.record(&build).await.base.expect("a base");
        assert_eq!(chosen.used, *expected, "{name}");
        world.stop().await;
    }
}
