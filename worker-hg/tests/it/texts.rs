//! Every text that this crate can put on a build target, as its author reads it, from what Mercurial really says. The
//! golden files are in `snapshots`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use build::{Build, BuildUpdate};
use phabricator::answer;
use runtime::Clock;

use crate::world::{TestPatch, TreeService, World, add, add_mode, change, hanging_hook, phid};

/// The answers of updates under their names.
#[derive(Default)]
struct Golden(String);

impl Golden {
    fn add(&mut self, case: &str, update: &BuildUpdate, home: &Path) {
        let answers = answer(&phid("PHID-HMBT-00000000000000000001"), update);
        let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
        let text = answers
            .join("\n\n")
            .replace(home.to_str().unwrap(), "/home");
        self.0
            .push_str(&format!("======== {case}\n\n{}\n\n", without_times(&text)));
    }
}

/// The time of some failures depends on how long a deferral took.
fn without_times(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        lines.push(match line.split_once(" times within ") {
            Some((before, _)) => format!("{before} times within [some time]."),
            None => line.to_owned(),
        });
    }
    lines.join("\n")
}

/// A build that was accepted just now.
fn now(world: &World, mut build: Build) -> Build {
    build.request.accepted_at = world.clock.now();
    build
}

/// The outcomes of stacks of patches in one world.
async fn golden(world: &mut World, cases: Vec<(&str, Vec<TestPatch>)>) -> String {
    let mut golden = Golden::default();
    world.start();
    for (number, (case, stack)) in (0..).zip(cases) {
        let mut build = now(world, world.build_of(stack));
        build.request.target = phid(&format!("PHID-HMBT-case{number}"));
        let update = world.build(&build).await;
        assert!(
            matches!(update, BuildUpdate::PatchFailed(_)),
            "{case}: {update:?}"
        );
        golden.add(case, &update, world.home.path());
    }
    world.stop().await;
    golden.0
}

#[tokio::test]
async fn patches_that_do_not_apply() {
    let mut world = World::new();
    let on = |base: Option<&str>| {
        let mut patch = world.patch(9, change("line V", "line five"));
        patch.diff.base = base.map(str::to_owned);
        vec![patch]
    };
    let one = |content: &str| vec![world.patch(9, content)];
    let misfit = || change("line V", "line five");
    let context = misfit().replace("+4,3 @@", "+4,3 @@ fn main() {");
    let two_hunks = format!(
        "{}@@ -12,3 +12,3 @@ fn other()\n line 12\n-line XIII\n+line thirteen\n line 14\n",
        misfit()
    );
    let several = format!("{}{}", misfit(), misfit().replace("hello.txt", "gone.txt"));
    let many: String = (10..30)
        .map(|n| misfit().replace("hello.txt", &format!("dir/gone{n}.txt")))
        .collect();
    let hostile = misfit()
        .replace("hello.txt", "`{F1}`@alice[[x]].txt")
        .replace("+4,3 @@", "+4,3 @@ {F2} ``` @bob");
    let git = "1234567890".repeat(4);
    let endings = "diff --git a/crlf.txt b/crlf.txt\n--- a/crlf.txt\n+++ b/crlf.txt\n@@ -1,2 +1,2 @@\n one\n-two\n+zwei\n@@ -3,2 +3,2 @@\n three\n-four\n+vier\n";
    let latin1 = "diff --git a/latin1.bin b/latin1.bin\n--- a/latin1.bin\n+++ b/latin1.bin\n@@ -1,2 +1,2 @@\n-café\n+tea\n plain\n";
    world.source.write("latin1.bin", b"caf\xe9\nplain\n");
    world.source.commit("a file that is not UTF-8");
    world.destination.hg(&["pull", "--quiet"]);
    let cases = vec![
        ("one hunk", one(&context)),
        ("two hunks", one(&two_hunks)),
        ("several files", one(&several)),
        ("many files", one(&many)),
        (
            "a file that is not there",
            one(&misfit().replace("hello.txt", "gone.txt")),
        ),
        ("a file that is there already", one(&add("hello.txt", "x"))),
        (
            "a rename of a file that is not there",
            one("diff --git a/gone b/g\nrename from gone\nrename to g\n"),
        ),
        (
            "a copy of a file that is not there",
            one("diff --git a/gone b/g\ncopy from gone\ncopy to g\n"),
        ),
        (
            "a rename to a file that is there",
            one("diff --git a/script.sh b/hello.txt\nrename from script.sh\nrename to hello.txt\n"),
        ),
        (
            "a deletion of a file that has more lines",
            one(
                "diff --git a/hello.txt b/hello.txt\ndeleted file mode 100644\n--- a/hello.txt\n+++ /dev/null\n@@ -1 +0,0 @@\n-line 3\n",
            ),
        ),
        (
            "the mode of a file that is not there",
            one("diff --git a/gone b/gone\nold mode 100644\nnew mode 100755\n"),
        ),
        ("names that want to be markup", one(&hostile)),
        (
            "the top of a stack",
            vec![world.patch(7, add("a", "a")), world.patch(9, misfit())],
        ),
        (
            "below the top of a stack",
            vec![
                world.patch(7, add("a", "a")),
                world.patch(8, misfit()),
                world.patch(9, add("b", "b")),
            ],
        ),
        ("other line endings", one(endings)),
        ("a file that is not UTF-8", one(latin1)),
        (
            "all of that and a hunk that does not fit",
            one(&format!("{endings}{latin1}{}", misfit())),
        ),
        ("on an unknown base", on(Some(&git))),
        ("on a base that is no hash", on(Some("`{F1}`"))),
        ("without a base", on(None)),
        (
            "a change that is there already",
            one("diff --git a/hello.txt b/hello.txt\nold mode 100755\nnew mode 100644\n"),
        ),
    ];
    let text = golden(&mut world, cases).await;
    let outside: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("  ") && line.contains(['{', '@']))
        .collect();
    assert_eq!(outside.len(), 1, "what is hostile is code: {outside:?}");
    assert!(
        outside[0].contains("names `{F1}` as its base"),
        "{outside:?}"
    );
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn repository_that_is_always_built_on_its_newest_changeset() {
    let mut world = World::new();
    let old = world.source.tip();
    world.source.write("later", b"x");
    world.source.commit("later");
    world.repository().use_latest_revision = true;
    let mut patch = world.patch(9, change("line V", "line five"));
    patch.diff.base = Some(old);
    let text = golden(&mut world, vec![("does not apply", vec![patch])]).await;
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn patches_that_are_refused() {
    let mut world = World::new();
    world.settings.limits.patches = 2;
    world.settings.limits.patch_bytes = 2000;
    world.settings.limits.files = 3;
    let one = |content: &str| vec![world.patch(9, content)];
    let file = |path: &str| one(&add(path, "evil"));
    let lost = "diff --git a/data.bin b/data.bin\nindex 0000000..0000000\nGIT binary patch\nliteral 0\nHc$@<O00001\n\nliteral 0\nHc$@<O00001\n\n";
    let link = add_mode("link", "/tmp", "120000");
    let twice = format!("{}{}", change("line 5", "5"), change("line 5", "5"));
    let cases = vec![
        ("Mercurial's own directory", file(".hg/hgrc")),
        (
            "the same with invisible characters",
            file(".h\u{200c}g/hgrc"),
        ),
        ("outside the tree", file("../x")),
        ("an absolute path", file("/tmp/x")),
        ("a drive", file("C:/x")),
        ("subrepositories", file(".hgsub")),
        ("a name that wants to be markup", file("../`{F1}` @alice")),
        ("a control character", file("a\u{1b}b")),
        (
            "a submodule",
            one(&add_mode("m", "Subproject commit 1234", "160000")),
        ),
        ("below a file", file("hello.txt/x")),
        (
            "below a link",
            one(&format!("{link}{}", add("link/x", "x"))),
        ),
        ("lost binary data", one(lost)),
        ("a directory that ends in ` b`", file("dir b/x")),
        (
            "CRLF behind names",
            one(&change("line 5", "5")
                .replace('\n', "\r\n")
                .replace(" b/hello", "\r b/hello")),
        ),
        (
            "a binary file without data",
            one(
                "diff --git a/data.bin b/data.bin\nBinary files a/data.bin and b/data.bin differ\n",
            ),
        ),
        ("no change", one("diff --git a/hello.txt b/hello.txt\n")),
        ("a file twice", one(&twice)),
        ("not a git patch", one("From: {F1} @alice\n\nhello\n")),
        (
            "a hunk that ends early",
            one(
                "diff --git a/hello.txt b/hello.txt\n--- a/hello.txt\n+++ b/hello.txt\n@@ -1,9 +1,9 @@\n line 1\n",
            ),
        ),
        ("nothing", one("\n")),
        ("too large", file(&"x".repeat(3000))),
        (
            "too many files",
            one(&(0..5)
                .map(|n| add(&format!("f{n}"), "x"))
                .collect::<String>()),
        ),
        (
            "below the top of a stack",
            vec![
                world.patch(8, add("../x", "x")),
                world.patch(9, add("b", "b")),
            ],
        ),
        (
            "too long a stack",
            (7..10)
                .map(|id| world.patch(id, add(&format!("f{id}"), "x")))
                .collect(),
        ),
    ];
    let text = golden(&mut world, cases).await;
    let outside: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("  ") && line.contains(['{', '@']))
        .collect();
    assert_eq!(outside, Vec::<&str>::new(), "what is hostile is code");
    insta::assert_snapshot!(text);
}

#[tokio::test]
async fn builds_that_need_no_push() {
    let mut world = World::new();
    world
        .settings
        .skippable_files
        .insert("docs/skip.rst".to_owned());
    world.start();
    // Without a clone an expired diff would be our fault.
    world.pushed(&world.simple_build(90)).await;
    let mut golden = Golden::default();
    let nothing_left = Build {
        stack: Vec::new(),
        ..world.simple_build(1)
    };
    let mut expired = world.simple_build(2);
    expired.diff.created_at = world.clock.now() - Duration::from_secs(25 * 3600);
    let mut unknown = world.simple_build(3);
    unknown.request.repository = phid("PHID-REPO-other");
    let skipped = world.build_of(vec![world.patch(4, add("docs/skip.rst", "x"))]);
    let cases = [
        ("all has landed", nothing_left),
        ("expired", expired),
        ("a repository that is not built", unknown),
        ("a file that is skipped", skipped),
    ];
    for (case, build) in cases {
        golden.add(case, &world.build(&build).await, world.home.path());
    }
    world.stop().await;

    let service = TreeService::start().await;
    service.say("try", "closed", "Bug 123 - `{F1}` @alice");
    world.settings.tree_status = Some(service.url());
    world.settings.limits.ready_wait = Duration::from_secs(60);
    world.start();
    let mut deferred = world.simple_build(5);
    deferred.diff.created_at = world.clock.now() - Duration::from_secs(25 * 3600);
    golden.add(
        "expired in front of a closed tree",
        &world.build(&deferred).await,
        world.home.path(),
    );
    world.stop().await;
    let text = golden.0;
    insta::assert_snapshot!(text);
}

/// Adds the outcome of a build that fails by our fault.
async fn broken(golden: &mut Golden, case: &str, world: &World) {
    let update = world.build(&now(world, world.simple_build(7))).await;
    assert!(
        matches!(update, BuildUpdate::InfraFailed(_)),
        "{case}: {update:?}"
    );
    golden.add(case, &update, world.home.path());
}

/// The tests of pushes have the texts of ssh and of servers; those of `remote.rs` have their meaning.
#[tokio::test]
async fn failures_of_ours() {
    let mut golden = Golden::default();

    let mut world = World::new();
    world.destination.configure(
        "[hooks]\npretxnchangegroup.size = echo 'Bug 1: this push is too large for @try'; false\n",
    );
    world.start_ready().await;
    broken(&mut golden, "a hook of Try refuses the push", &world).await;
    world.stop().await;

    let mut world = World::new();
    world.repository().try_url = "http://127.0.0.1:1/".to_owned();
    world.start_ready().await;
    broken(&mut golden, "Try cannot be reached", &world).await;
    world.stop().await;

    let mut world = World::new();
    world.repository().try_url = world.path("elsewhere").display().to_string();
    world.start_ready().await;
    broken(&mut golden, "Try is not where it should be", &world).await;
    world.stop().await;

    for (case, words) in [
        (
            "our key is not accepted",
            "try@try.example.org: Permission denied (publickey).",
        ),
        (
            "the host key is another one",
            "Host key verification failed.",
        ),
    ] {
        let mut world = World::new();
        world.side.program = hg_with_ssh_that_says(world.home.path(), words);
        world.repository().try_url = "ssh://try.example.org/try".to_owned();
        world.start_ready().await;
        broken(&mut golden, case, &world).await;
        world.stop().await;
    }

    let mut world = World::new();
    world.start_ready().await;
    world.stop().await;
    world.own_clone().configure(&format!(
        "[hooks]\npreoutgoing.hang = {}\n",
        hanging_hook(&world.path("hanging"))
    ));
    world.settings.limits.transfer = Duration::from_secs(1);
    world.start();
    broken(&mut golden, "the push does not end", &world).await;
    world.stop().await;

    let mut world = World::new();
    world.repository().url = world.path("not-there").display().to_string();
    world.has_clone = false;
    world.start();
    let mut waiting = world.simple_build(2);
    waiting.diff.created_at = world.clock.now() - Duration::from_secs(25 * 3600);
    golden.add(
        "the clone is not ready for a day",
        &world.build(&waiting).await,
        world.home.path(),
    );
    world.stop().await;
    let text = golden.0;
    insta::assert_snapshot!(text);
}

/// A Mercurial whose ssh says these words and fails.
fn hg_with_ssh_that_says(home: &Path, words: &str) -> PathBuf {
    let directory = home.join("bin");
    fs::create_dir(&directory).unwrap();
    let program = |name: &str, script: String| {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    program("ssh", format!("echo '{words}' >&2; exit 255"));
    program(
        "hg-and-ssh",
        format!("PATH={}:$PATH exec hg \"$@\"", directory.display()),
    )
}
