//! What a stack is put on.

use phabricator::model::Build;

use crate::world::{World, add};

fn based_on(world: &World, number: u64, base: Option<&str>) -> Build {
    let mut patch = world.patch(number, add("new.txt", "x"));
    patch.diff.base = base.map(str::to_owned);
    world.build_of(vec![patch])
}

#[tokio::test]
async fn the_named_base_is_used_when_it_is_known_or_can_be_pulled() {
    let mut world = World::new();
    let first = world.source.node("tip");
    world.source.write("later", b"x");
    let second = world.source.commit("second");
    world.start_ready().await;
    let pushed = world.pushed(&based_on(&world, 1, Some(&first))).await;
    assert_eq!((pushed.base.used, pushed.base.instead_of), (first.clone(), None));
    world.source.write("later", b"y");
    let third = world.source.commit("third");
    let pushed = world.pushed(&based_on(&world, 2, Some(&third))).await;
    assert_eq!((pushed.base.used, pushed.base.instead_of), (third.clone(), None));
    assert_eq!(world.try_repo.log(&format!("{}~2", pushed.revision), "{node}"), third);

    // The lowest patch decides, and what the others were made on does not matter.
    let mut stack = vec![world.patch(3, add("a", "a")), world.patch(4, add("b", "b"))];
    stack[0].diff.base = Some(second.clone());
    stack[1].diff.base = Some(first);
    assert_eq!(world.pushed(&world.build_of(stack)).await.base.used, second);
    world.stop().await;
}

#[tokio::test]
async fn the_default_revision_is_used_when_the_base_is_unknown_or_garbage() {
    let mut world = World::new();
    world.start_ready().await;
    let touched = world.path("touched");
    let unknown = "1234567890".repeat(4);
    let alias = format!("--config=alias.log=!touch {}", touched.display());
    let table = [
        (None, None),
        (Some(unknown.as_str()), Some(unknown.as_str())),
        (Some("refs/heads/main"), Some("refs/heads/main")),
        (Some("all()"), Some("all()")),
        (Some("tip"), Some("tip")),
        (Some(""), Some("")),
        (Some("0000000000000000000000000000000000000000"), Some("0000000000000000000000000000000000000000")),
        (Some("ffffffffffffffffffffffffffffffffffffffff"), Some("ffffffffffffffffffffffffffffffffffffffff")),
        (Some("a\nb\0c"), Some(r"a\u{a}b\u{0}c")),
        (Some(alias.as_str()), None),
    ];
    for (number, (base, instead_of)) in (1_u8..).zip(table) {
        world.source.write("later", &[number]);
        let newest = world.source.commit("newest");
        let choice = world.pushed(&based_on(&world, number.into(), base)).await.base;
        assert_eq!(choice.used, newest, "{base:?}");
        if base != Some(alias.as_str()) {
            assert_eq!(choice.instead_of.as_deref(), instead_of, "{base:?}");
        }
    }
    assert!(!touched.exists());
    world.stop().await;
}

#[tokio::test]
async fn the_latest_revision_is_used_when_it_is_configured() {
    let mut world = World::new();
    world.repository().use_latest_revision = true;
    world.repository().default_revision = "a-branch".to_owned();
    world.source.hg(&["branch", "--quiet", "a-branch"]);
    world.source.write("branched", b"x");
    world.source.commit("on the branch");
    world.start_ready().await;
    let first = world.source.node("0");
    world.source.write("branched", b"y");
    let newest = world.source.commit("later on the branch");
    world.source.hg(&["update", "--quiet", "default"]);
    world.source.write("elsewhere", b"x");
    world.source.commit("not on the branch");
    let pushed = world.pushed(&based_on(&world, 1, Some(&first))).await;
    assert_eq!((pushed.base.used, pushed.base.instead_of), (newest.clone(), Some(first)));
    let pushed = world.pushed(&based_on(&world, 2, Some(&newest))).await;
    assert_eq!((pushed.base.used, pushed.base.instead_of), (newest, None));
    world.stop().await;
}

#[tokio::test]
async fn a_build_that_comes_again_keeps_its_base_even_after_a_restart() {
    let mut world = World::new();
    world.start_ready().await;
    let build = based_on(&world, 1, None);
    let first = world.pushed(&build).await;
    world.source.write("later", b"x");
    world.source.commit("the source moves on");
    world.stop().await;
    world.start();
    let again = world.pushed(&build).await;
    assert_eq!((again.revision, again.base), (first.revision, first.base));
    assert_eq!(world.try_repo.heads(), 1);
    world.stop().await;
}

#[tokio::test]
async fn changesets_that_a_source_does_not_publish_are_built_on_and_kept() {
    let mut world = World::new();
    world.source.configure("[phases]\npublish = false\n");
    world.source.write("later", b"x");
    let draft = world.source.commit("a draft");
    world.start_ready().await;
    for number in 1..3 {
        assert_eq!(world.pushed(&based_on(&world, number, Some(&draft))).await.base.used, draft);
        world.until_tidy(&world.clone(), &draft).await;
        world.stop().await;
        world.start();
    }
    world.stop().await;
}
