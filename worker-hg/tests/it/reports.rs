//! Patches that people reported to other tools, and every form of an addition and a deletion. Each is also imported by
//! `hg import` into a working copy, as its author would: what that takes must be pushed with the same content.

use std::fs;

use build::BuildUpdate;

use crate::world::{Repo, World, fixture, hg, run_hg_with};

/// How a build has to end.
enum End {
    /// Pushed, with these changes: status and path, as `hg status` prints them.
    Pushed(&'static [&'static str]),
    /// The patch is to blame: what the details and the advice hold.
    Failed(&'static str, &'static str),
}
use End::{Failed, Pushed};

const BASE: [(&str, &str, u32); 3] = [
    ("f.txt", "line", 20),
    ("dir b/bar.md", "bar", 10),
    ("g.txt", "g", 3),
];

fn numbered(prefix: &str, lines: u32, end: &str) -> String {
    (1..=lines)
        .map(|line| format!("{prefix} {line}{end}"))
        .collect()
}

fn base(world: &World) -> String {
    for (path, prefix, lines) in BASE {
        world
            .source
            .write(path, numbered(prefix, lines, "\n").as_bytes());
    }
    world
        .source
        .write("crlf.txt", numbered("c", 20, "\r\n").as_bytes());
    world.source.write("latin1.txt", b"caf\xe9\nplain\n");
    world.source.write("empty.txt", b"");
    let base = world.source.commit("the files of the reports");
    world.destination.hg(&["pull", "--quiet"]);
    base
}

/// What `hg import` makes of a patch in a working copy, as a diff. `None` when it does not take it.
fn imported(reference: &Repo, base: &str, patch: &[u8]) -> Option<String> {
    reference.hg(&["update", "--quiet", "--clean", "--rev", base]);
    reference.hg(&["--config=extensions.purge=", "purge"]);
    let output = run_hg_with(
        &reference.path,
        &["import", "--message=it", "--user=Ada", "-"],
        patch,
    );
    output
        .status
        .success()
        .then(|| reference.hg(&["diff", "--git", "--rev", base, "--rev", "."]))
}

/// Builds each patch, and compares its end with what is expected and with what Mercurial makes of it. `true` in the last
/// column: Mercurial takes it.
async fn check(cases: Vec<(&str, Vec<u8>, End, bool)>) {
    let mut world = World::new();
    let base = base(&world);
    hg(
        world.home.path(),
        &["clone", "--quiet", "source", "reference"],
    );
    let reference = Repo {
        path: world.path("reference"),
    };
    world.start();
    for (number, (case, patch, expected, taken)) in (1..).zip(cases) {
        let imported = imported(&reference, &base, &patch);
        assert_eq!(
            imported.is_some(),
            taken,
            "{case}: whether hg import takes it"
        );
        let update = world
            .build(&world.build_of(vec![world.patch(number, patch)]))
            .await;
        match (update, expected) {
            (BuildUpdate::Pushed(pushed), Pushed(files)) => {
                let made = world.destination.node(&format!("p1({})", pushed.revision));
                let changes = world.destination.hg(&["status", "--change", &made]);
                assert_eq!(changes.lines().collect::<Vec<_>>(), files, "{case}");
                let diff = world
                    .destination
                    .hg(&["diff", "--git", "--rev", &base, "--rev", &made]);
                if let Some(imported) = imported {
                    assert_eq!(diff, imported, "{case}");
                }
            }
            (BuildUpdate::PatchFailed(failure), Failed(details, advice)) => {
                assert!(
                    failure.details.contains(details),
                    "{case}: {}",
                    failure.details
                );
                assert!(
                    failure.advice.contains(advice),
                    "{case}: {}",
                    failure.advice
                );
                // A rebase is advised where it helps.
                let rebase = failure.commands.contains("hg rebase");
                assert_eq!(
                    rebase,
                    failure.advice.starts_with("Rebase "),
                    "{case}: {}",
                    failure.commands
                );
            }
            (update, _) => panic!("{case}: {update:?}"),
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn each_report_ends_as_hg_import_does_or_with_the_advice_that_helps() {
    let table = [
        (
            "new-file-without-mode-line.phab.diff",
            Pushed(&["A new.txt"]),
            true,
        ),
        ("file-to-symlink.git.diff", Pushed(&["M f.txt"]), true),
        (
            "crlf-patch.phab.diff",
            Failed(
                "f.txt: only the line endings differ: the patch has CRLF",
                "`dos2unix`",
            ),
            false,
        ),
        (
            "lf-patch-on-crlf-file.diff",
            Failed(
                "crlf.txt, line 2: hunk #1 does not fit: only the line endings differ",
                "Only the line endings differ; a rebase does not help. Give the file the line endings",
            ),
            false,
        ),
        (
            "latin1-line-as-utf8.diff",
            Failed(
                "latin1.txt, line 1: hunk #1 does not fit: only bytes beyond ASCII differ, and the file is not UTF-8",
                "a rebase does not help. Submit the file as binary.",
            ),
            false,
        ),
        (
            "directory-that-ends-in-space-b.diff",
            Failed(
                "dir b/bar.md: its name holds ` b/`",
                "Rename the directory whose name ends in ` b`",
            ),
            false,
        ),
        (
            "directory-that-ends-in-space-b-rename.diff",
            Failed(
                "dir b/baz.md: its name holds ` b/`",
                "Rename the directory whose name ends in ` b`",
            ),
            false,
        ),
    ];
    let mut names: Vec<String> = fs::read_dir(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/reports"
    ))
    .unwrap()
    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
    .collect();
    let mut tried: Vec<&str> = table.iter().map(|(name, ..)| *name).collect();
    names.sort_unstable();
    tried.sort_unstable();
    assert_eq!(names, tried, "each report is tried");
    let case = |(name, end, taken)| (name, fixture(&format!("reports/{name}")), end, taken);
    check(table.into_iter().map(case).collect()).await;
}

/// A part of a patch: the lines of its header, and hunks.
fn part(names: [&str; 2], header: &str, body: &str) -> String {
    format!("diff --git a/{} b/{}\n{header}{body}", names[0], names[1])
}

#[tokio::test]
async fn additions_deletions_and_both_of_one_path_are_taken_as_by_hg_import() {
    let f = ["f.txt", "f.txt"];
    let lines = |count| numbered("-line", count, "\n");
    let removal = |count: u32| {
        format!(
            "--- a/f.txt\n+++ /dev/null\n@@ -1,{count} +0,0 @@\n{}",
            lines(count)
        )
    };
    let gone = part(f, "deleted file mode 100644\n", &removal(20));
    let gone_by_its_beginning = part(f, "deleted file mode 100644\n", &removal(3));
    let gone_without_mode = part(f, "", &removal(20));
    let other_gone = part(
        f,
        "deleted file mode 100644\n",
        &removal(3).replace("-line 3", "-line three"),
    );
    let content = "--- /dev/null\n+++ b/f.txt\n@@ -0,0 +1 @@\n+new\n";
    let added = part(f, "new file mode 100755\n", content);
    let added_without_mode = part(f, "", content);
    let added_empty = part(f, "new file mode 100644\n", "");
    let moved = part(
        ["f.txt", "h.txt"],
        "rename from f.txt\nrename to h.txt\n",
        "",
    );
    let moved_in = part(
        ["g.txt", "f.txt"],
        "rename from g.txt\nrename to f.txt\n",
        "",
    );
    let chmod = part(["g.txt", "g.txt"], "old mode 100644\nnew mode 100755\n", "");
    let untouched = part(["crlf.txt", "crlf.txt"], "", "");
    let both = |one: &str, other: &str| format!("{one}{other}").into_bytes();
    let changed: End = Pushed(&["M f.txt"]);
    check(vec![
        (
            "gone without a mode",
            gone_without_mode.clone().into(),
            Pushed(&["R f.txt"]),
            true,
        ),
        ("gone and added", both(&gone, &added), changed, true),
        (
            "gone by its beginning and added",
            both(&gone_by_its_beginning, &added),
            Pushed(&["M f.txt"]),
            true,
        ),
        (
            "other lines gone and added",
            both(&other_gone, &added),
            Failed(
                "f.txt: the patch deletes the file, but the file has other lines",
                "Rebase",
            ),
            false,
        ),
        (
            "gone and added without a mode",
            both(&gone, &added_without_mode),
            Pushed(&["M f.txt"]),
            true,
        ),
        (
            "both without a mode",
            both(&gone_without_mode, &added_without_mode),
            Pushed(&["M f.txt"]),
            true,
        ),
        (
            "gone, another change, added",
            both(&gone, &format!("{chmod}{added}")),
            Pushed(&["M f.txt", "M g.txt"]),
            true,
        ),
        (
            "gone and added empty",
            both(&gone, &added_empty),
            Pushed(&["M f.txt"]),
            true,
        ),
        (
            "moved and added",
            both(&moved, &added),
            Pushed(&["M f.txt", "A h.txt"]),
            true,
        ),
        (
            "moved and added empty",
            both(&moved, &added_empty),
            Pushed(&["M f.txt", "A h.txt"]),
            true,
        ),
        (
            "added and gone",
            both(&added, &gone),
            Failed("f.txt: the patch changes it twice", "Change D"),
            false,
        ),
        // It would have to be done in two steps, and Phabricator writes no such patch.
        (
            "gone and moved in",
            both(&gone, &moved_in),
            Failed(
                "f.txt: the patch deletes it and moves or copies another file there",
                "Change D",
            ),
            true,
        ),
        (
            "named and not changed, beside a change",
            both(&untouched, &chmod),
            Pushed(&["M g.txt"]),
            true,
        ),
        (
            "added, but there already",
            added_without_mode.into(),
            Failed("f.txt: the file exists already", "Rebase"),
            false,
        ),
    ])
    .await;
}
