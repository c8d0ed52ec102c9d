//! The reports on patches that do not fit, as their authors read them.

use gix::objs::tree::EntryKind;
use worker::{
    Limits,
    patch::{self, Rules},
};

use super::{
    git::{self, Lab},
    trees::{File, Files},
};
use crate::apply::{Fault, Time, apply};

fn base() -> Files {
    let numbered: String = (1..=40).map(|line| format!("line {line}\n")).collect();
    let files: [(&str, EntryKind, &str); 6] = [
        ("a.txt", EntryKind::Blob, &numbered),
        ("crlf.txt", EntryKind::Blob, "one\r\ntwo\r\nthree\r\n"),
        ("data.bin", EntryKind::Blob, "\0data"),
        ("link", EntryKind::Link, "a.txt"),
        ("dir/file", EntryKind::Blob, "text\n"),
        (
            "sub",
            EntryKind::Commit,
            "1234567890123456789012345678901234567890",
        ),
    ];
    files
        .into_iter()
        .map(|(path, kind, content)| {
            let content = content.as_bytes().to_vec();
            (path.as_bytes().to_vec(), File { kind, content })
        })
        .collect()
}

fn section(path: &str, header: &str, body: &str) -> String {
    format!("diff --git a/{path} b/{path}\n{header}{body}")
}

fn hunks(path: &str, hunks: &str) -> String {
    section(path, "", &format!("--- a/{path}\n+++ b/{path}\n{hunks}"))
}

#[test]
fn reports_name_the_place_and_the_cause() {
    let data = String::from_utf8(patch::encode(b"new").unwrap()).unwrap();
    let index = format!("index {:040}..{:040}\n", 1, 2);
    let mut other_line = String::from("@@ -7,6 +7,6 @@ fn near()\n");
    for line in [
        " line 17\n",
        " line 18\n",
        "-line 19\n",
        "+nineteen\n",
        " line 20\n",
        " other\n",
        " line 22\n",
    ] {
        other_line += line;
    }
    let cases = [
        (
            "a hunk with another line, in a file that has grown",
            hunks("a.txt", &other_line),
        ),
        (
            "a hunk for the beginning",
            hunks("a.txt", "@@ -1,2 +1,2 @@\n-line 5\n+five\n line 6\n"),
        ),
        (
            "hunks of which one has only other line endings",
            hunks("crlf.txt", "@@ -1,2 +1,2 @@\n one\n-two\n+2\n")
                + &hunks(
                    "a.txt",
                    "@@ -3,2 +3,2 @@\n-nowhere\n+x\n to be found\n@@ -9,2 +9,2 @@\n-x\n+y\n z\n",
                ),
        ),
        (
            "a file that is missing",
            hunks("none.txt", "@@ -3 +3 @@\n-x\n+y\n"),
        ),
        (
            "a rename of a missing file",
            "diff --git a/none b/new\nrename from none\nrename to new\n".to_owned(),
        ),
        (
            "a file that exists",
            section(
                "a.txt",
                "new file mode 100644\n",
                "--- /dev/null\n+++ b/a.txt\n@@ -0,0 +1 @@\n+x\n",
            ),
        ),
        (
            "a file of another kind",
            section(
                "link",
                "index 1..2 100644\n",
                "--- a/link\n+++ b/link\n@@ -1 +1 @@\n-a.txt\n+b.txt\n",
            ),
        ),
        (
            "a change of the kind",
            section("a.txt", "old mode 100644\nnew mode 120000\n", ""),
        ),
        (
            "a deletion of a file with lines",
            section("a.txt", "deleted file mode 100644\n", ""),
        ),
        (
            "binary data for another file",
            section("data.bin", &index, &data),
        ),
        (
            "binary data that make something else",
            section("new.bin", &format!("new file mode 100644\n{index}"), &data),
        ),
        (
            "a file below another file",
            section(
                "a.txt/x",
                "new file mode 100644\n",
                "--- /dev/null\n+++ b/a.txt/x\n@@ -0,0 +1 @@\n+x\n",
            ),
        ),
        (
            "a file in place of a directory",
            section(
                "dir",
                "new file mode 100644\n",
                "--- /dev/null\n+++ b/dir\n@@ -0,0 +1 @@\n+x\n",
            ),
        ),
        (
            "a file below a symbolic link",
            section(
                "link/x",
                "new file mode 100644\n",
                "--- /dev/null\n+++ b/link/x\n@@ -0,0 +1 @@\n+x\n",
            ),
        ),
        (
            "a submodule without a commit",
            section(
                "sub",
                "index 1..2 160000\n",
                "--- a/sub\n+++ b/sub\n@@ -1 +1 @@\n\
                 -Subproject commit 1234567890123456789012345678901234567890\n+Subproject commit HEAD\n",
            ),
        ),
    ];
    let lab = &mut Lab::new();
    let base = base();
    let tree = git::write(&lab.bases, &base);
    let mut texts = String::new();
    for (case, patch) in cases {
        let rules = Rules::Git { submodules: true };
        let parsed = patch::scan(patch.as_bytes(), &Limits::default(), rules)
            .unwrap_or_else(|reason| panic!("{case}: {reason}"));
        let fault = apply(&lab.ours, tree, patch.as_bytes(), &parsed, &Time::ample()).unwrap_err();
        let Fault::DoesNotApply(report) = fault else {
            panic!("{case}: {fault:?}")
        };
        texts += &format!("== {case}\n{}\n\n", report.details);
        assert!(lab.apply(&base, patch.as_bytes(), false).is_err(), "{case}");
    }
    insta::assert_snapshot!(texts);
}
