//! From a stack to commits.

use std::time::Duration;

use build::{Build, BuildUpdate, Pushed, SkipReason};
use runtime::Clock;
use worker::TryMode;

use crate::{Commit, Repository, Side, World, add, change, phid};

/// The commits of a build that was pushed; each stands on the one before it.
pub(super) fn commits<S: Side>(world: &World<S>, pushed: &Pushed) -> Vec<Commit> {
    let base = &pushed.base.used;
    let commits = world.destination.history(base, &pushed.revision);
    let mut parent = base;
    for commit in &commits {
        assert_eq!(commit.parent, *parent);
        parent = &commit.id;
    }
    assert_eq!(*parent, pushed.revision);
    commits
}

pub async fn each_patch_becomes_a_commit_and_the_last_one_configures_ci<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().mode = TryMode::Json;
    world.repository().jobs_url = Some("https://ci.example.org/{commit}".to_owned());
    world.start();
    let mut second = world.patch(8, add("b", "b"));
    second.author = None;
    let build = world.build_of(vec![
        world.patch(7, add("a", "a")),
        second,
        world.patch(9, change("line 5", "line five")),
    ]);
    let pushed = world.pushed(&build).await;

    assert_eq!(pushed.base.used, world.source.newest());
    assert_eq!(pushed.base.instead_of, None);
    assert_eq!(pushed.patches, 3);
    let jobs_url = format!("https://ci.example.org/{}", pushed.revision);
    assert_eq!(pushed.jobs_url, Some(jobs_url));
    let (ada, bot) = ("Ada <ada@example.org>", "Bot <bot@example.org>");
    let last = "try_task_config for https://phabricator.example.org/D9";
    let expected = [
        (ada, "Bug 7 - Do it", "Differential Diff: PHID-DIFF-7", "a"),
        (bot, "Bug 8 - Do it", "Differential Diff: PHID-DIFF-8", "b"),
        (
            ada,
            "Bug 9 - Do it",
            "Differential Diff: PHID-DIFF-9",
            "hello.txt",
        ),
        (
            bot,
            last,
            "Differential Diff: PHID-DIFF-9",
            "try_task_config.json",
        ),
    ];
    let commits = commits(&world, &pushed);
    assert_eq!(commits.len(), expected.len());
    for (commit, (author, title, trailer, file)) in commits.iter().zip(expected) {
        assert_eq!(commit.author, author);
        // When the diff was made.
        assert_eq!(commit.date, 1_795_258_800);
        assert_eq!(commit.message.lines().next(), Some(title));
        assert_eq!(commit.message.lines().last(), Some(trailer));
        assert_eq!(commit.files, [file]);
    }
    let content = |path: &str| world.text(&pushed.revision, path);
    assert_eq!((content("a"), content("b")), ("a".into(), "b".into()));
    assert!(content("hello.txt").contains("line 4\nline five\nline 6\n"));
    let expected = r#"{
    "parameters": {
        "optimize_target_tasks": true,
        "phabricator_diff": "PHID-HMBT-9",
        "target_tasks_method": "codereview"
    },
    "version": 2
}"#;
    assert_eq!(content("try_task_config.json"), expected);
    world.destination.verify();
    world.stop().await;
}

pub async fn same_build_gives_the_same_hashes_elsewhere<S: Side>() {
    let mut heads = Vec::new();
    for earlier in [false, true] {
        let mut world = World::<S>::new();
        world.start();
        if earlier {
            // Another build before it must not matter, nor must the time.
            world.pushed(&world.simple_build(30)).await;
            world.clock.advance(Duration::from_secs(3600));
        }
        let build = world.build_of(vec![
            world.patch(7, add("a", "a")),
            world.patch(8, change("line 5", "5")),
        ]);
        heads.push(world.pushed(&build).await.revision);
        world.stop().await;
    }
    assert_eq!(heads[0], heads[1]);
}

pub async fn patch_that_does_not_apply_names_patch_file_hunk_and_base<S: Side>() {
    let mut world = World::<S>::new();
    world.start();
    let base = world.source.newest();

    let build = world.build_of(vec![
        world.patch(7, add("a", "a")),
        world.patch(8, change("line V", "line five")),
    ]);
    let failure = world.patch_failed(&build).await;
    assert_eq!(failure.summary, "The patch of D8 does not apply.");
    // Git also names the nearest place.
    let expected = "hello.txt, line 4: hunk #1 does not fit\n  @@ -4,3 +4,3 @@";
    assert!(failure.details.starts_with(expected), "{failure:?}");
    assert_eq!(failure.base.map(|base| base.used), Some(base));

    let table = [
        (change("line 5", "5").replace("hello.txt", "gone.txt"), "gone.txt: the file does not exist"),
        (add("hello.txt", "x"), "hello.txt: the file exists already"),
        (
            "diff --git a/gone b/g\nrename from gone\nrename to g\n".to_owned(),
            "gone: the file does not exist",
        ),
        (
            "diff --git a/gone b/g\ncopy from gone\ncopy to g\n".to_owned(),
            "gone: the file does not exist",
        ),
        (
            "diff --git a/hello.txt b/hello.txt\ndeleted file mode 100644\n--- a/hello.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-line 3\n"
                .to_owned(),
            // Git says which hunk.
            "hello.txt",
        ),
        ("diff --git a/gone b/gone\nold mode 100644\nnew mode 100755\n".to_owned(), "gone: the file does not exist"),
        (
            "diff --git a/script.sh b/hello.txt\nrename from script.sh\nrename to hello.txt\n".to_owned(),
            "hello.txt: the file exists already",
        ),
    ];
    for (number, (patch, expected)) in (20..).zip(table) {
        let failure = world
            .patch_failed(&world.build_of(vec![world.patch(number, patch)]))
            .await;
        assert!(failure.details.starts_with(expected), "{failure:?}");
    }
    let landed = "diff --git a/hello.txt b/hello.txt\nold mode 100755\nnew mode 100644\n";
    let failure = world
        .patch_failed(&world.build_of(vec![world.patch(30, landed)]))
        .await;
    assert!(
        failure
            .summary
            .starts_with("The patch of D30 changes nothing:"),
        "{}",
        failure.summary
    );

    world.nothing_was_pushed();
    world.pushed(&world.simple_build(9)).await;
    world.stop().await;
}

pub async fn clone_that_was_never_ready_is_our_fault_and_not_the_diffs_age<S: Side>() {
    let mut world = World::<S>::new();
    world.repository().url = S::Repo::at(world.path("not-there")).address();
    world.has_clone = false;
    world.start();
    let mut expired = world.simple_build(2);
    expired.diff.created_at = world.clock.now() - Duration::from_secs(25 * 3600);
    let update = world.build(&expired).await;
    let BuildUpdate::InfraFailed(failure) = update else {
        panic!("{update:?}")
    };
    assert_eq!(
        failure.summary,
        "Our clone of central was not ready within 24 hours."
    );
    world.stop().await;
}

pub async fn ineligible_builds_are_skipped<S: Side>() {
    let mut world = World::<S>::new();
    world
        .settings
        .skippable_files
        .insert("docs/skip.rst".to_owned());
    world.start();
    // Without a clone an expired diff would be our fault.
    world.pushed(&world.simple_build(90)).await;
    let build = |number| world.simple_build(number);
    let nothing_left = Build {
        stack: Vec::new(),
        ..build(1)
    };
    let mut expired = build(2);
    expired.diff.created_at = world.clock.now() - Duration::from_secs(25 * 3600);
    let mut unknown = build(3);
    unknown.request.repository = phid("PHID-REPO-other");
    let skipped = world.build_of(vec![
        world.patch(4, add("docs/skip.rst", "x")),
        world.patch(5, add("b", "b")),
    ]);
    let renamed = "diff --git a/docs/skip.rst b/c\nrename from docs/skip.rst\nrename to c\n";
    let renamed = world.build_of(vec![world.patch(6, renamed)]);
    let table = [
        (
            nothing_left,
            SkipReason::Landed,
            "D1 has landed, there is no patch left to build.",
        ),
        (
            expired,
            SkipReason::Expired,
            "Expired: diff 1002 was made 25 hours ago, and diffs older than 24 hours are not built. Submit it again to have it built.",
        ),
        (
            unknown,
            SkipReason::Repository,
            "Unsupported repository: patches for PHID-REPO-other are not built.",
        ),
        (
            skipped,
            SkipReason::File,
            "The stack changes `docs/skip.rst`, and stacks that change this file are not built.",
        ),
        (
            renamed,
            SkipReason::File,
            "The stack changes `docs/skip.rst`, and stacks that change this file are not built.",
        ),
    ];
    for (build, reason, expected) in table {
        assert_eq!(
            world.build(&build).await,
            BuildUpdate::skipped(reason, expected)
        );
    }
    assert_eq!(world.destination.pushed().len(), 1);
    world.stop().await;
}

pub async fn no_field_of_a_build_is_taken_for_an_option_or_breaks_a_commit<S: Side>() {
    let mut world = World::<S>::new();
    world.start();
    let touched = world.path("touched");
    let option = format!("--config=alias.log=!touch {}", touched.display());
    let table: [(&str, Option<&str>, &str, &str, &str); 6] = [
        ("options", Some(&option), &option, &option, &option),
        (
            "a newline and a NUL in the author",
            Some("A\nB <a\0b>"),
            "x",
            "A B <a b>",
            "x",
        ),
        (
            "an empty author",
            Some(" \n"),
            "x",
            "Bot <bot@example.org>",
            "x",
        ),
        (
            "a NUL in the message",
            Some("A"),
            "a\0--rev=0\0b",
            "A",
            "a\u{fffd}--rev=0\u{fffd}b",
        ),
        (
            "characters beyond ASCII",
            Some("Ж <ж@example.org>"),
            "日本 🎉",
            "Ж <ж@example.org>",
            "日本 🎉",
        ),
        (
            "an export header in the message",
            Some("A"),
            "# HG changeset patch\n# User Eve",
            "A",
            "# HG changeset patch\n# User Eve",
        ),
    ];
    for (number, (case, author, message, made_by, made)) in (40..).zip(table) {
        let mut patch = world.patch(number, add("a", "a"));
        patch.author = author.map(str::to_owned);
        patch.message = message.to_owned();
        patch.diff.base = Some(option.clone());
        let pushed = world.pushed(&world.build_of(vec![patch])).await;
        let commit = &commits(&world, &pushed)[0];
        assert_eq!(commit.author, made_by, "{case}");
        assert!(
            commit
                .message
                .starts_with(&format!("{made}\n\nDifferential ")),
            "{case}: {commit:?}"
        );
        let trailer = format!("\nDifferential Diff: PHID-DIFF-{number}");
        assert!(commit.message.ends_with(&trailer), "{case}: {commit:?}");
    }
    assert!(!touched.exists());
    world.stop().await;
}

pub async fn stack_that_is_too_large_is_refused<S: Side>() {
    let mut world = World::<S>::new();
    world.settings.limits.patches = 2;
    world.settings.limits.patch_bytes = 2000;
    world.start();
    let three = (1..4)
        .map(|number| world.patch(number, add(&format!("f{number}"), "x")))
        .collect();
    let failure = world.patch_failed(&world.build_of(three)).await;
    assert_eq!(
        failure.summary,
        "The stack of D3 has 3 patches that have not landed, and only 2 are allowed."
    );
    let failure = world
        .patch_failed(&world.build_of(vec![world.patch(5, add("f", &"x".repeat(3000)))]))
        .await;
    assert!(
        failure.details.contains("2000 are allowed"),
        "{}",
        failure.details
    );
    world.stop().await;
}

pub async fn patch_of_many_lines_and_odd_bytes_arrives_whole<S: Side>() {
    let mut world = World::<S>::new();
    world.start();
    let mut content = Vec::new();
    for number in 0..3000_u32 {
        content.extend(format!("line {number}: ").bytes());
        content.extend([0, 0xff, b'\r', 0x0b, 0x85, 0x1c]);
        content.extend(vec![b'x'; usize::try_from(number % 7).unwrap() * 1000]);
        content.push(b'\n');
    }
    let mut patch =
        b"diff --git a/f b/f\nnew file mode 100644\n--- /dev/null\n+++ b/f\n@@ -0,0 +1,3000 @@\n"
            .to_vec();
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        patch.push(b'+');
        patch.extend(line);
    }
    let pushed = world
        .pushed(&world.build_of(vec![world.patch(7, patch)]))
        .await;
    assert!(world.destination.content(&pushed.revision, "f") == content);
    world.stop().await;
}

pub async fn abandoned_parent_of_a_stack_that_cannot_be_built_is_named<S: Side>() {
    let mut world = World::<S>::new();
    world.start_ready().await;
    let mut stack = vec![
        world.patch(1, add("bottom", "x")),
        world.patch(2, change("line V", "line five")),
    ];
    let without = world.patch_failed(&world.build_of(stack.clone())).await;
    assert!(!without.advice.contains("abandoned"), "{}", without.advice);
    stack[0].abandoned = true;
    stack[1].revision_id = 3;
    let with = world.patch_failed(&world.build_of(stack)).await;
    assert!(
        with.advice
            .starts_with("The stack holds D1, which was abandoned: "),
        "{}",
        with.advice
    );
    let mut stack = vec![
        world.patch(1, add(&format!("{}/hooks", S::OWN_DIRECTORY), "x")),
        world.patch(4, add("top", "x")),
    ];
    stack[0].abandoned = true;
    let refused = world.patch_failed(&world.build_of(stack)).await;
    assert!(
        refused
            .advice
            .starts_with("The stack holds D1, which was abandoned: "),
        "{}",
        refused.advice
    );
    world.stop().await;
}
