//! The base that is used where the named one is unknown, or not wanted.

use build::{BaseChoice, BaseReason, BuildUpdate};

use super::{
    bases::{based_on, named, unit},
    stacks::commits,
};
use crate::{Repository, Side, World};

pub async fn default_revision_is_used_when_the_base_is_unknown_or_garbage<S: Side>() {
    use BaseReason::{NotAHash, Unknown, Unnamed};
    let mut world = World::<S>::new();
    world.start_ready().await;
    let touched = world.path("touched");
    let git = "1234567890".repeat(4);
    let alias = format!(
        "--config=alias.log=!touch {} {}",
        touched.display(),
        "x".repeat(60)
    );
    let cut = format!("{}…", alias.chars().take(60).collect::<String>());
    let (null, all_ones) = ("0".repeat(40), "f".repeat(40));
    let table = [
        (None, None, Unnamed, "The stack does not name its base"),
        (Some(""), None, Unnamed, "The stack does not name its base"),
        (
            Some(" \n"),
            None,
            Unnamed,
            "The stack does not name its base",
        ),
        (
            Some(&*git),
            Some(&*git),
            Unknown,
            "the repository has no such ",
        ),
        (
            Some(&*null),
            Some(&*null),
            Unknown,
            "the repository has no such ",
        ),
        (
            Some(&*all_ones),
            Some(&*all_ones),
            Unknown,
            "the repository has no such ",
        ),
        (
            Some("refs/heads/main"),
            Some("refs/heads/main"),
            NotAHash,
            "`refs/heads/main` as its base, which is not",
        ),
        (
            Some("all()"),
            Some("all()"),
            NotAHash,
            "`all()` as its base, which is not the hash",
        ),
        (
            Some("tip"),
            Some("tip"),
            NotAHash,
            "`tip` as its base, which is not the hash",
        ),
        (
            Some("a\nb\0c"),
            Some(r"a\u{a}b\u{0}c"),
            NotAHash,
            r"`a\u{a}b\u{0}c` as its base",
        ),
        (
            Some(&*alias),
            Some(&*cut),
            NotAHash,
            "`--config=alias.log=!touch",
        ),
    ];
    for (number, (base, instead_of, reason, text)) in (1_u8..).zip(table) {
        world.source.put("later", &[number]);
        let newest = world.source.commit_all("newest");
        let pushed = world.pushed(&based_on(&world, number.into(), base)).await;
        let instead_of = instead_of.map(str::to_owned);
        assert_eq!(
            pushed.base,
            BaseChoice {
                used: newest.clone(),
                instead_of,
                reason,
                tried: None
            },
            "{base:?}"
        );
        let said = unit(&pushed);
        let applied = format!(": unsound 1 patch (D{number}) was applied on ");
        assert!(said.contains(&applied) && said.contains(&newest), "{said}");
        assert!(said.contains(text), "{said}");
    }
    assert!(!touched.exists());
    world.stop().await;
}

pub async fn latest_revision_is_used_when_it_is_configured<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().use_latest_revision = true;
    world.repository().default_revision = "central".to_owned();
    let first = world.source.newest();
    world.source.put("branched", b"x");
    let before = world.source.commit_all("on the branch");
    world.source.name("central", &before);
    world.start_ready().await;
    world.source.put("branched", b"y");
    let newest = world.source.commit_all("later on the branch");
    world.source.name("central", &newest);
    world.source.put("elsewhere", b"x");
    world.source.commit_all("not on the branch");
    let latest = |instead_of: Option<String>| BaseChoice {
        used: newest.clone(),
        instead_of,
        reason: BaseReason::Latest,
        tried: None,
    };

    let pushed = world.pushed(&based_on(&world, 1, Some(&first))).await;
    assert_eq!(pushed.base, latest(Some(first.clone())));
    let said = unit(&pushed);
    assert!(
        said.contains(": unsound ") && said.contains("always applied on its newest "),
        "{said}"
    );
    assert!(said.contains(&newest) && said.contains(&first), "{said}");

    let pushed = world.pushed(&based_on(&world, 2, None)).await;
    assert_eq!(pushed.base, latest(None));

    let pushed = world.pushed(&based_on(&world, 3, Some(&newest))).await;
    assert_eq!(
        pushed.base,
        named(&newest),
        "the newest one is what the stack names"
    );
    assert!(unit(&pushed).contains(": pass "));
    world.stop().await;
}

pub async fn recorded_base_that_the_source_lost_is_replaced_by_the_one_that_is_used<S: Side>() {
    let mut world = World::<S>::new();
    let first = world.source.newest();
    world.source.put("later", b"x");
    let lost = world.source.commit_all("a commit that is lost later");
    world.start_ready().await;
    let build = based_on(&world, 1, None);
    assert_eq!(world.pushed(&build).await.base.used, lost);
    world.stop().await;
    world.die_before_the_end_is_recorded(&build).await;
    world.source.lose_newest();
    world.settings.clones_dir = world.path("clones of another machine");
    world.start_ready().await;
    let again = world.pushed(&build).await;
    assert_eq!(again.base.used, first);
    assert_eq!(commits(&world, &again)[0].parent, first);
    assert_eq!(world.record(&build).await.base, Some(again.base));
    world.stop().await;
}

pub async fn unknown_base_leads_to_what_was_there_when_the_diff_was_made_and_then_to_the_newest<
    S: Side,
>() {
    let mut world = World::<S>::new();
    world.source.put("before", b"x");
    let before = world.source.commit_on("dated", "2026-11-21T10:00:00Z");
    world.source.put("after", b"x");
    let after = world.source.commit_on("dated", "2026-11-21T11:30:00Z");
    world.start_ready().await;
    let git = "1234567890".repeat(4);
    for (number, base) in [
        (1, Some(git.as_str())),
        (2, None),
        (3, Some("refs/heads/main")),
    ] {
        let pushed = world.pushed(&based_on(&world, number, base)).await;
        let instead_of = base.map(str::to_owned);
        let by_date = BaseChoice {
            used: before.clone(),
            instead_of,
            reason: BaseReason::ByDate,
            tried: None,
        };
        assert_eq!(pushed.base, by_date);
        assert!(
            unit(&pushed).contains(" from before the diff was used"),
            "{}",
            unit(&pushed)
        );
    }
    // It changes a file that came later, so it does not apply there.
    let mut patch = world.patch(
        4,
        "diff --git a/after b/moved\nrename from after\nrename to moved\n",
    );
    patch.diff.base = Some(git.clone());
    let build = world.build_of(vec![patch]);
    let newest = BaseChoice {
        used: after.clone(),
        instead_of: Some(git),
        reason: BaseReason::Unknown,
        tried: Some(before),
    };
    let pushed = world.pushed(&build).await;
    assert_eq!(pushed.base, newest);
    assert!(
        unit(&pushed).contains("Before that it was tried on"),
        "{}",
        unit(&pushed)
    );
    assert_eq!(world.record(&build).await.base, Some(newest));
    world.until_tidy(&world.own_clone(), &after).await;

    // What has landed may have landed after the diff was made.
    let mut build = based_on(&world, 5, None);
    build.landed = vec![1];
    assert_eq!(world.pushed(&build).await.base.used, after);
    world.stop().await;
}

pub async fn default_revision_is_what_the_source_calls_so<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().default_revision = "central".to_owned();
    let first = world.source.newest();
    world.source.name("central", &first);
    world.source.put("later", b"x");
    let second = world.source.commit_all("second");
    world.start_ready().await;
    let used = async |world: &World<S>, number| {
        let pushed = world.pushed(&based_on(world, number, None)).await;
        pushed.base.used
    };
    assert_eq!(used(&world, 1).await, first);

    world.source.go_to(&first);
    world.source.put("aside", b"x");
    let aside = world.source.commit_all("on another line");
    for (number, moved) in [(2, &second), (3, &aside), (4, &first)] {
        world.source.name("central", moved);
        assert_eq!(used(&world, number).await, *moved, "moved to another line");
    }
    // The clone is made equal to it with the next pull.
    world.source.put("aside", b"y");
    let newest = world.source.commit_all("the newest");
    world.source.name("central", &newest);
    assert_eq!(used(&world, 5).await, newest);

    world.source.unname("central");
    let build = based_on(&world, 6, None);
    world.send(&build).await;
    world.pass(std::time::Duration::from_secs(180)).await;
    assert!(
        world.update().await.is_none() && world.dead_letters().await.is_empty(),
        "it waits"
    );
    // A build that names its base needs no default.
    assert_eq!(
        world.pushed(&based_on(&world, 7, Some(&second))).await.base,
        named(&second)
    );
    let events = world.record(&build).await.events;
    let gone = |event: &build::Event| {
        matches!(&event.kind, build::BuildEventKind::Deferred { reason, .. }
            if reason.starts_with("central has no revision central at its source"))
    };
    assert!(events.iter().any(gone), "{events:?}");
    world.source.name("central", &second);
    let applied = world.next_update().await;
    let BuildUpdate::Pushed(pushed) = applied.update else {
        panic!("{applied:?}")
    };
    assert_eq!(pushed.base.used, second);
    world.stop().await;
}
