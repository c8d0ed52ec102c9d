//! From a stack to changesets.

mod try_config;

use std::{process::Command, time::Duration};

use build::{Build, BuildUpdate, SkipReason};
use runtime::Clock;

use crate::world::{Repo, World, add, change, phid};

#[tokio::test]
async fn stack_becomes_changesets_and_one_that_tells_try_what_to_do() {
    let mut world = World::new();
    world.start();
    let mut second = world.patch(8, add("b", "b"));
    second.author = None;
    let build = world.build_of(vec![
        world.patch(7, add("a", "a")),
        second,
        world.patch(9, change("line 5", "line five")),
    ]);
    let pushed = world.pushed(&build).await;

    let base = world.source.tip();
    assert_eq!(pushed.base.used, base);
    assert_eq!(pushed.base.instead_of, None);
    assert_eq!(pushed.patches, 3);
    assert_eq!(
        pushed.jobs_url,
        Some(format!(
            "https://treeherder.mozilla.org/#/jobs?repo=try&revision={}",
            pushed.revision
        ))
    );
    let log = world.try_repo.log(
        &format!("{base}::{} - {base}", pushed.revision),
        "{author}|{date|hgdate}|{desc}|{files}\n\n",
    );
    let date = "1795258800 0";
    let expected = format!(
        "Ada <ada@example.org>|{date}|Bug 7 - Do it\n\nDifferential Diff: PHID-DIFF-7|a\n\n\
         Bot <bot@example.org>|{date}|Bug 8 - Do it\n\nDifferential Diff: PHID-DIFF-8|b\n\n\
         Ada <ada@example.org>|{date}|Bug 9 - Do it\n\nDifferential Diff: PHID-DIFF-9|hello.txt\n\n\
         Bot <bot@example.org>|{date}|try_task_config for https://phabricator.example.org/D9\n\
         Differential Diff: PHID-DIFF-9|try_task_config.json\n\n"
    );
    assert_eq!(log, expected);
    let config =
        String::from_utf8(world.try_repo.cat(&pushed.revision, "try_task_config.json")).unwrap();
    let expected = r#"{
    "parameters": {
        "optimize_target_tasks": true,
        "phabricator_diff": "PHID-HMBT-9",
        "target_tasks_method": "codereview"
    },
    "version": 2
}"#;
    assert_eq!(config, expected);
    world.stop().await;
}

#[tokio::test]
async fn same_build_gives_the_same_hashes_elsewhere() {
    let mut heads = Vec::new();
    for earlier in [false, true] {
        let mut world = World::new();
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

#[tokio::test]
async fn patch_that_does_not_apply_names_patch_file_hunk_and_base() {
    let mut world = World::new();
    world.start();
    let base = world.source.tip();

    let build = world.build_of(vec![
        world.patch(7, add("a", "a")),
        world.patch(8, change("line V", "line five")),
    ]);
    let failure = world.patch_failed(&build).await;
    assert_eq!(failure.summary, "The patch of D8 does not apply.");
    assert_eq!(
        failure.details,
        "hello.txt, line 4: hunk #1 does not fit\n  @@ -4,3 +4,3 @@"
    );
    assert_eq!(failure.base.map(|base| base.used), Some(base.clone()));

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
            "hello.txt: the patch deletes the file, but the file has more lines",
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
        assert_eq!(failure.details, expected);
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

    assert_eq!(world.try_repo.tip(), base, "nothing was pushed");
    world.pushed(&world.simple_build(9)).await;
    world.stop().await;
}

/// An author has D7, D8 and an unrelated D70 in a clone, and what the answer says puts D7 and D8 on the base.
#[tokio::test]
async fn commands_that_an_author_is_given_rebase_the_stack() {
    let mut world = World::new();
    world.source.hg(&["clone", "--quiet", ".", "../author"]);
    let author = Repo {
        path: world.path("author"),
    };
    let message = |id| {
        format!(
            "Bug {id}\n\nDifferential Revision: https://phabricator.example.org/D{id}\n\nD7 follows"
        )
    };
    for (file, id) in [("unrelated", 70), ("seven", 7), ("eight", 8)] {
        author.write(file, b"x");
        author.commit(&message(id));
    }
    world.source.write("hello.txt", b"all different\n");
    let newest = world.source.commit("later");
    world.start();
    let mut stack = vec![
        world.patch(7, change("line 5", "five")),
        world.patch(8, add("eight", "x")),
    ];
    stack[0].diff.base = Some("0123456789".repeat(4));
    let failure = world.patch_failed(&world.build_of(stack)).await;
    assert_eq!(
        failure.summary,
        "D8 cannot be built. It stands on D7, and the patch of D7 does not apply."
    );
    let (with_commits, without) = failure.commands.split_once("\n\n").unwrap();
    assert!(
        without.contains(&format!(
            "\nmoz-phab patch D8 --apply-to {newest}\nmoz-phab submit"
        )),
        "{without}"
    );
    let (rebase, submit) = with_commits.rsplit_once('\n').unwrap();
    assert_eq!(submit, "moz-phab submit");
    author.configure("[extensions]\nrebase =\n");
    let done = Command::new("sh")
        .args(["-e", "-c", rebase])
        .current_dir(&author.path)
        .env("HGRCPATH", "")
        .env("HGPLAIN", "1")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{rebase}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    let above = author.log(
        &format!("descendants({newest}) and not {newest}"),
        "{files} ",
    );
    assert_eq!(
        above, "seven eight ",
        "and the unrelated one stays where it was"
    );
    world.stop().await;
}

#[tokio::test]
async fn clone_that_was_never_ready_is_our_fault_and_not_the_diffs_age() {
    let mut world = World::new();
    world.repository().url = world.path("not-there").to_str().unwrap().to_owned();
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

#[tokio::test]
async fn ineligible_builds_are_skipped() {
    let mut world = World::new();
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
    assert_eq!(world.try_repo.heads(), 1);
    world.stop().await;
}

#[tokio::test]
async fn no_field_of_a_build_is_taken_for_an_option_or_breaks_a_commit() {
    let mut world = World::new();
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
        let log = world
            .try_repo
            .log(&format!("p1({})", pushed.revision), "{author}|{desc}");
        assert_eq!(
            log,
            format!("{made_by}|{made}\n\nDifferential Diff: PHID-DIFF-{number}"),
            "{case}"
        );
    }
    assert!(!touched.exists());
    world.stop().await;
}

#[tokio::test]
async fn stack_that_is_too_large_is_refused() {
    let mut world = World::new();
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

#[tokio::test]
async fn patch_of_many_lines_and_odd_bytes_arrives_whole() {
    let mut world = World::new();
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
    assert!(world.try_repo.cat(&pushed.revision, "f") == content);
    world.stop().await;
}

#[tokio::test]
async fn abandoned_parent_of_a_stack_that_cannot_be_built_is_named() {
    let mut world = World::new();
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
        world.patch(1, add(".hg/hgrc", "x")),
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
