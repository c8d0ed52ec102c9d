//! The base of a stack, and what its author reads about it.

use build::{BaseChoice, BaseReason, Build, BuildUpdate, Pushed};
use phabricator::answer;

use super::stacks::commits;
use crate::{Repository, Side, World, add, change, phid};

pub(super) fn based_on<S: Side>(world: &World<S>, number: u64, base: Option<&str>) -> Build {
    let mut patch = world.patch(number, add("new.txt", "x"));
    patch.diff.base = base.map(str::to_owned);
    world.build_of(vec![patch])
}

pub(super) fn named(used: &str) -> BaseChoice {
    BaseChoice {
        used: used.to_owned(),
        instead_of: None,
        reason: BaseReason::Named,
        tried: None,
    }
}

/// The unit that the author of a pushed build finds, with its result in front.
pub(super) fn unit(pushed: &Pushed) -> String {
    let update = BuildUpdate::Pushed(Box::new(pushed.clone()));
    let answers = answer(&phid("PHID-HMBT-00000000000000000001"), &update);
    let unit = answers
        .iter()
        .find(|answer| answer.act == "work")
        .expect("a unit");
    format!(
        "{} {}",
        unit.heading.as_deref().unwrap_or_default(),
        unit.text
    )
}

pub async fn named_base_is_used_when_it_is_known_or_can_be_pulled<S: Side>() {
    let mut world = World::<S>::new();
    let first = world.source.newest();
    world.source.put("later", b"x");
    let second = world.source.commit_all("second");
    world.start_ready().await;
    let pushed = world.pushed(&based_on(&world, 1, Some(&first))).await;
    assert_eq!(pushed.base, named(&first));
    let said = unit(&pushed);
    assert!(
        said.contains(": pass 1 patch (D1) was applied on "),
        "{said}"
    );
    let base = format!("`{first}`. The stack names it as its base.");
    assert!(said.contains(&base), "{said}");
    world.source.put("later", b"y");
    let third = world.source.commit_all("third");
    let pushed = world.pushed(&based_on(&world, 2, Some(&third))).await;
    assert_eq!(pushed.base, named(&third), "it was pulled");
    assert_eq!(commits(&world, &pushed)[0].parent, third);

    // The lowest patch decides, and what the others were made on does not matter.
    let mut stack = vec![world.patch(3, add("a", "a")), world.patch(4, add("b", "b"))];
    stack[0].diff.base = Some(second.clone());
    stack[1].diff.base = Some(first);
    let mut build = world.build_of(stack);
    build.landed = vec![1, 2];
    let pushed = world.pushed(&build).await;
    assert_eq!(
        (&pushed.base, &pushed.revisions),
        (&named(&second), &vec![3, 4])
    );
    let said = unit(&pushed);
    assert!(
        said.contains(": pass 2 patches (D3 and D4) were applied on "),
        "{said}"
    );
    assert!(
        said.contains("D1 and D2 have landed and were left out."),
        "{said}"
    );
    world.stop().await;
}

/// D2 and D3 stand on D1, D4 on both; D2 and D3 change the same file in different places.
pub async fn diamond_becomes_one_line_of_commits<S: Side>() {
    let mut world = World::<S>::new();
    world.start();
    let last = "diff --git a/hello.txt b/hello.txt\n--- a/hello.txt\n+++ b/hello.txt\n@@ -19,2 +19,2 @@\n line 19\n-line 20\n+line XX\n";
    let stack = vec![
        world.patch(1, add("bottom", "x")),
        world.patch(2, change("line 5", "line V")),
        world.patch(3, last),
        world.patch(4, add("top", "x")),
    ];
    let pushed = world.pushed(&world.build_of(stack)).await;
    assert_eq!(pushed.revisions, [1, 2, 3, 4]);
    let content = world.text(&pushed.revision, "hello.txt");
    assert!(
        content.contains("line V\n") && content.contains("line XX\n"),
        "{content}"
    );
    world.stop().await;
}

pub async fn build_that_comes_again_keeps_its_base_even_on_another_machine<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let build = based_on(&world, 1, None);
    let first = world.pushed(&build).await;
    world.source.put("later", b"x");
    world.source.commit_all("the source moves on");
    world.stop().await;
    world.die_before_the_end_is_recorded(&build).await;
    world.settings.clones_dir = world.path("clones of another machine");
    world.start_ready().await;
    let again = world.pushed(&build).await;
    assert_eq!((again.revision, again.base), (first.revision, first.base));
    assert_eq!(world.destination.pushed().len(), 1);
    world.stop().await;
}

pub async fn short_or_oddly_written_hash_of_a_known_commit_is_a_named_base<S: Side>() {
    let mut world = World::<S>::new();
    let first = world.source.newest();
    world.source.put("later", b"x");
    world.source.commit_all("the source moves on");
    world.start_ready().await;
    let table = [
        first[..12].to_owned(),
        first.to_uppercase(),
        format!(" {first}\n"),
        format!("\t{} ", first[..20].to_uppercase()),
    ];
    for (number, written) in (1..).zip(&table) {
        let pushed = world.pushed(&based_on(&world, number, Some(written))).await;
        assert_eq!(pushed.base, named(&first), "{written:?}");
    }
    // Shorter ones are guesses, and an expression is none.
    for (number, written) in (10..).zip([
        &first[..11],
        &format!("{first}0"),
        &format!("{} or tip", &first[..12]),
    ]) {
        let pushed = world.pushed(&based_on(&world, number, Some(written))).await;
        assert_eq!(pushed.base.reason, BaseReason::NotAHash, "{written:?}");
    }
    world.stop().await;
}

pub async fn newest_named_base_that_contains_the_others_is_used<S: Side>() {
    let mut world = World::<S>::new();
    world.has_clone = false;
    let first = world.source.newest();
    world.source.put("later", b"x");
    let second = world.source.commit_all("second");
    world.source.go_to(&first);
    world.source.put("aside", b"x");
    let aside = world.source.commit_all("on another line");
    world.start_ready().await;
    let unknown = "abcdef".repeat(7)[..40].to_owned();
    let build = |number: u64, bases: &[&str]| {
        let patches = bases.iter().zip(number..).map(|(base, number)| {
            let mut patch = world.patch(number, add(&format!("file{number}"), "x"));
            patch.diff.base = Some((*base).to_owned());
            patch
        });
        world.build_of(patches.collect())
    };
    let newest = BaseChoice {
        used: second.clone(),
        instead_of: Some(first.clone()),
        reason: BaseReason::NewestNamed,
        tried: None,
    };
    let pushed = world.pushed(&build(10, &[&first, &unknown, &second])).await;
    assert_eq!(pushed.base, newest);
    let said = unit(&pushed);
    assert!(said.contains(": pass "), "{said}");
    let pushed = world.pushed(&build(20, &[&unknown, &second])).await;
    assert_eq!(
        pushed.base,
        BaseChoice {
            instead_of: Some(unknown.clone()),
            ..newest
        }
    );
    let pushed = world.pushed(&build(30, &[&second, &aside])).await;
    assert_eq!(pushed.base, named(&second), "they lie on two lines");
    world.stop().await;
}
