//! The base that is used where the named one is unknown, or not wanted.

use build::{BaseChoice, BaseReason, BuildUpdate};

use super::{based_on, named, unit};
use crate::world::World;

#[tokio::test]
async fn default_revision_is_used_when_the_base_is_unknown_or_garbage() {
    use BaseReason::{NotAHash, Unknown, Unnamed};
    let mut world = World::new();
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
            "the repository has no such changeset",
        ),
        (
            Some(&*null),
            Some(&*null),
            Unknown,
            "the repository has no such changeset",
        ),
        (
            Some(&*all_ones),
            Some(&*all_ones),
            Unknown,
            "the repository has no such changeset",
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
        world.source.write("later", &[number]);
        let newest = world.source.commit("newest");
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
        assert!(said.starts_with(&format!(
            "mercurial: unsound 1 patch (D{number}) was applied on changeset `{newest}`"
        )));
        assert!(said.contains(text), "{said}");
    }
    assert!(!touched.exists());
    world.stop().await;
}

#[tokio::test]
async fn latest_revision_is_used_when_it_is_configured() {
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
        said.starts_with("mercurial: unsound")
            && said.contains("always applied on its newest changeset"),
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
    assert!(unit(&pushed).starts_with("mercurial: pass"));
    world.stop().await;
}

#[tokio::test]
async fn recorded_base_that_the_source_lost_is_replaced_by_the_one_that_is_used() {
    let mut world = World::new();
    let first = world.source.tip();
    world.source.write("later", b"x");
    let lost = world.source.commit("a changeset that is stripped later");
    world.start_ready().await;
    let build = based_on(&world, 1, None);
    assert_eq!(world.pushed(&build).await.base.used, lost);
    world.stop().await;
    world.die_before_the_end_is_recorded(&build).await;
    let strip = [
        "--config=extensions.strip=",
        "strip",
        "--quiet",
        "--no-backup",
    ];
    world.source.hg(&[&strip[..], &[&lost]].concat());
    world.settings.clones_dir = world.path("clones of another machine");
    world.start_ready().await;
    let again = world.pushed(&build).await;
    assert_eq!(again.base.used, first);
    // The head has a changeset for the patch and one for the configuration of Try.
    assert_eq!(world.try_repo.node(&format!("{}~2", again.revision)), first);
    assert_eq!(world.record(&build).await.base, Some(again.base));
    world.stop().await;
}

#[tokio::test]
async fn unknown_base_leads_to_what_was_there_when_the_diff_was_made_and_then_to_the_newest() {
    let mut world = World::new();
    let at = |world: &World, date: &str, file: &str| {
        world.source.write(file, b"x");
        let date = format!("--date={date} +0000");
        world.source.hg(&[
            "commit",
            "--addremove",
            "--quiet",
            "--user=src",
            &date,
            "--message=dated",
        ]);
        world.source.tip()
    };
    let before = at(&world, "2026-11-21 10:00", "before");
    let after = at(&world, "2026-11-21 11:30", "after");
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
            unit(&pushed).contains("the newest changeset from before the diff was used"),
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
    world.until_tidy(&world.clone(), &after).await;

    // What has landed may have landed after the diff was made.
    let mut build = based_on(&world, 5, None);
    build.landed = vec![1];
    assert_eq!(world.pushed(&build).await.base.used, after);
    world.stop().await;
}

#[tokio::test]
async fn default_revision_is_what_the_source_calls_so() {
    let mut world = World::new();
    world.repository().default_revision = "central".to_owned();
    let first = world.source.tip();
    world.source.hg(&["bookmark", "--inactive", "central"]);
    world.start_ready().await;
    assert_eq!(
        world.pushed(&based_on(&world, 1, None)).await.base.used,
        first
    );

    world.source.write("later", b"x");
    let second = world.source.commit("second");
    world.source.hg(&["update", "--quiet", &first]);
    world.source.write("aside", b"x");
    let aside = world.source.commit("on another line");
    for (number, moved) in [(2, &second), (3, &aside), (4, &first)] {
        world
            .source
            .hg(&["bookmark", "--force", "--rev", moved, "central"]);
        assert_eq!(
            world
                .pushed(&based_on(&world, number, None))
                .await
                .base
                .used,
            *moved,
            "moved to another line"
        );
    }
    // The clone is made equal to it with the next pull.
    world.source.write("aside", b"y");
    let newest = world.source.commit("the newest");
    world
        .source
        .hg(&["bookmark", "--force", "--rev", &newest, "central"]);
    assert_eq!(
        world.pushed(&based_on(&world, 5, None)).await.base.used,
        newest
    );
    world.until_tidy(&world.clone(), &newest).await;
    assert_eq!(
        world
            .clone()
            .hg(&["bookmarks", "--template={bookmark} {node}\n"]),
        format!("central {newest}\n")
    );

    world.source.hg(&["bookmark", "--delete", "central"]);
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
    world.source.hg(&["bookmark", "--rev", &second, "central"]);
    let applied = world.next_update().await;
    let BuildUpdate::Pushed(pushed) = applied.update else {
        panic!("{applied:?}")
    };
    assert_eq!(pushed.base.used, second);
    world.stop().await;
}
