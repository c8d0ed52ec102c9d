mod git;
mod real_git;

use proptest::prelude::*;

use super::*;
use crate::text;

fn limits() -> Limits {
    Limits {
        patch_bytes: 4096,
        files: 3,
        ..Limits::default()
    }
}

fn read(patch: &str) -> Result<Vec<(String, Kind)>, String> {
    let scanned = scan(patch.as_bytes(), &limits(), Rules::Mercurial)
        .map_err(|refusal| refusal.to_string())?;
    Ok(scanned
        .files
        .into_iter()
        .map(|file| (text::path(&file.path), file.kind))
        .collect())
}

const MODIFY: &str = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";

const DELETE: &str =
    "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n";

#[test]
fn every_form_that_phabricator_writes_is_read() {
    let one = |path: &str, kind: Kind| Ok(vec![(path.to_owned(), kind)]);
    let table = [
        ("a change", MODIFY.to_owned(), one("f", Kind::Modify)),
        ("blank lines around it", format!("\n{MODIFY}\n\r\n"), one("f", Kind::Modify)),
        ("an index line", MODIFY.replace("\n---", "\nindex 0a1b..2c3d 100644\n---"), one("f", Kind::Modify)),
        ("a short range", "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@ fn x()\n-b\n+c\n".into(), one("f", Kind::Modify)),
        ("a context line that lost its space", MODIFY.replace("\n a\n", "\n\n"), one("f", Kind::Modify)),
        ("lines that look like headers", MODIFY.replace("-b\n+c", "--- a/x\n+++ b/x"), one("f", Kind::Modify)),
        ("no line break at the end", format!("{MODIFY}\\ No newline at end of file"), one("f", Kind::Modify)),
        (
            "no line break at either end",
            MODIFY.replace("-b\n+c\n", "-b\n\\ No newline at end of file\n+c\n\\ No newline at end of file\n"),
            one("f", Kind::Modify),
        ),
        ("headers with carriage returns", MODIFY.replace('\n', "\r\n"), one("f", Kind::Modify)),
        ("a name with spaces", MODIFY.replace("/f", "/f g").replace("f g\n@", "f g\t\n@").replace("f g\n+", "f g\t\n+"), one("f g", Kind::Modify)),
        ("a new mode", "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n".into(), one("f", Kind::Modify)),
        ("an empty file", "diff --git a/f b/f\nnew file mode 100644\n".into(), one("f", Kind::Add)),
        (
            "a symbolic link",
            "diff --git a/f b/f\nnew file mode 120000\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+g\n\\ No newline at end of file\n".into(),
            one("f", Kind::Add),
        ),
        (
            "a file that goes",
            "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n".into(),
            one("f", Kind::Delete),
        ),
        (
            "a binary file that goes and was lost",
            "diff --git a/f b/f\ndeleted file mode 100644\nindex 0..0\nGIT binary patch\nliteral 0\nHc$@<O00001\n\nliteral 0\nHc$@<O00001\n\n".into(),
            one("f", Kind::Delete),
        ),
        (
            "a new file without a mode",
            "diff --git a/f b/f\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n".into(),
            one("f", Kind::Add),
        ),
        (
            "a file that goes without a mode",
            "diff --git a/f b/f\n--- a/f\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-a\n-b\n".into(),
            one("f", Kind::Delete),
        ),
        (
            "a file that is named and stays as it is, beside a change",
            format!("diff --git a/e b/e\nindex 1..2\n{MODIFY}diff --git a/g b/g\n"),
            one("f", Kind::Modify),
        ),
        ("a rename", "diff --git a/f b/g\nrename from f\nrename to g\n".into(), one("g", Kind::Rename(b"f".to_vec()))),
        (
            "a copy with a change and a mode",
            "diff --git a/f b/g\nold mode 100644\nnew mode 100755\nsimilarity index 90%\ncopy from f\ncopy to g\n--- a/f\n+++ b/g\n@@ -1 +1 @@\n-b\n+c\n".into(),
            one("g", Kind::Copy(b"f".to_vec())),
        ),
    ];
    for (case, patch, expected) in table {
        assert_eq!(read(&patch), expected, "{case}");
    }
}

#[test]
fn malformed_and_hostile_patches_are_refused() {
    let add = |path: &str, mode: &str| {
        format!(
            "diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
        )
    };
    let table = [
        ("nothing", String::new(), "changes nothing"),
        ("blank lines", "\n\n".into(), "changes nothing"),
        ("a header only", "diff --git a/f b/f\n".into(), "f: the patch names the file but does not change it"),
        ("an index only", "diff --git a/f b/f\nindex 1..2\n".into(), "f: the patch names the file but does not"),
        ("Mercurial's directory", add(".hg/hgrc", "100644"), ".hg/hgrc: the path leads into"),
        ("the parent directory", add("../x", "100644"), "../x: the path has"),
        ("the root", add("/etc/x", "100644"), "/etc/x: the path is absolute"),
        ("a subrepository", add(".hgsub", "100644"), ".hgsub: it would make subrepositories"),
        ("a submodule", add("f", "160000"), "f: it is a git submodule"),
        (
            "a submodule in the index",
            MODIFY.replace("\n---", "\nindex 0a1b..2c3d 160000\n---"),
            "f: it is a git submodule",
        ),
        ("a device", add("f", "020000"), "f: its mode"),
        ("a long mode", add("f", "1006440"), "f: its mode"),
        (
            "a hostile source",
            "diff --git a/.hg/hgrc b/g\ncopy from .hg/hgrc\ncopy to g\n".into(),
            ".hg/hgrc: the path leads",
        ),
        ("text in front", format!("hello\n{MODIFY}"), "this line has no place in a git patch: hello"),
        ("a mail", format!("From: x\nSubject: y\n\n{MODIFY}"), "no place"),
        ("MIME", format!("Content-Transfer-Encoding: base64\n\n{MODIFY}"), "no place"),
        ("an export", format!("# HG changeset patch\n# User x\n{MODIFY}"), "`# HG changeset patch` header"),
        (
            "two exports",
            format!("# HG changeset patch\n{MODIFY}# HG changeset patch\n{MODIFY}"),
            "`# HG changeset patch` header",
        ),
        (
            "an export behind",
            format!("{MODIFY}# HG changeset patch\n{}", MODIFY.replace("/f", "/g")),
            "`# HG changeset patch` header",
        ),
        ("text behind", format!("{MODIFY}-- \n2.30\n"), "no place"),
        (
            "a file without `diff --git`",
            format!("{MODIFY}--- a/.hg/hgrc\n+++ b/.hg/hgrc\n@@ -0,0 +1 @@\n+x\n"),
            "no place",
        ),
        ("a plain diff", "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-b\n+c\n".into(), "no place"),
        ("a context diff", "*** a/f\n--- b/f\n***************\n".into(), "no place"),
        ("names in quotes", "diff --git \"a/\\303\\244\" \"b/\\303\\244\"\n".into(), "in quotes"),
        (
            "a lost binary file",
            "diff --git a/f b/f\nBinary files a/f and b/f differ\n".into(),
            "f: the content of a binary file is missing",
        ),
        ("two names without a rename", MODIFY.replacen("b/f", "b/g", 1), "contradicts itself"),
        ("another name below", MODIFY.replace("+++ b/f", "+++ b/.hg/hgrc"), "f: the names in its `---`"),
        ("another old name", MODIFY.replace("--- a/f", "--- a/../x"), "f: the names in its `---`"),
        ("a name cut at its space", MODIFY.replace("/f", "/f g"), "f g: the names in its `---`"),
        ("a name that holds ` b/`", MODIFY.replace("/f", "/f b/g"), "f b/g: its name holds ` b/`"),
        ("a new name that holds ` b/`", add("d b/x b/f", "100644"), "d b/x b/f: its name holds ` b/`"),
        (
            "a rename of a name that holds ` b/`",
            "diff --git a/d b/f b/d b/g\nrename from d b/f\nrename to d b/g\n".into(),
            "d b/g: its name holds ` b/`",
        ),
        (
            "a rename to a name that holds ` b/`",
            "diff --git a/f b/d b/g\nrename from f\nrename to d b/g\n".into(),
            "d b/g: its name holds ` b/`",
        ),
        ("CRLF behind names", MODIFY.replace(" b/f", "\r b/f"), "f: only the line endings differ"),
        (
            "a name that ends with spaces",
            "diff --git a/f  b/f \nnew file mode 100644\n".into(),
            "begins or ends with a space",
        ),
        ("`/dev/null` of a change", MODIFY.replace("--- a/f", "--- /dev/null"), "the names in its `---`"),
        (
            "another rename",
            "diff --git a/f b/g\nrename from f\nrename to .hg/hgrc\n".into(),
            "g: its header contradicts",
        ),
        ("half a rename", "diff --git a/f b/g\nrename to g\n".into(), "contradicts"),
        ("a rename to itself", "diff --git a/f b/f\nrename from f\nrename to f\n".into(), "contradicts"),
        (
            "a rename that is a copy",
            "diff --git a/f b/g\nrename from f\nrename to g\ncopy from f\ncopy to g\n".into(),
            "contradicts",
        ),
        (
            "a new file that goes",
            "diff --git a/f b/f\nnew file mode 100644\ndeleted file mode 100644\n".into(),
            "contradicts",
        ),
        ("half a mode", "diff --git a/f b/f\nnew mode 100755\n".into(), "contradicts"),
        ("a header twice", "diff --git a/f b/g\nrename from f\nrename to g\nrename to h\n".into(), "twice"),
        (
            "an unknown header",
            "diff --git a/f b/f\nfrobnicate\n".into(),
            "f: this line has no place in a git patch: frobnicate",
        ),
        ("a file twice", format!("{MODIFY}{MODIFY}"), "f: the patch changes it twice"),
        ("a file that is named first and then changed", format!("diff --git a/f b/f\n{MODIFY}"), "f: the patch changes it twice"),
        ("a file that comes and goes", format!("{}{DELETE}", add("f", "100644")), "f: the patch changes it twice"),
        (
            "a file that goes and another in its place",
            format!("{DELETE}diff --git a/g b/f\nrename from g\nrename to f\n"),
            "f: the patch deletes it and moves or copies another file there",
        ),
        (
            "a file that goes and comes as a change",
            format!("{DELETE}{}", add("f", "100644").replace("-0,0 +1", "-1 +1,2").replace("+x", " b\n+x")),
            "f: the patch takes it away and adds it again, but not as a new file of whole lines",
        ),
        (
            "a new file without a mode that has lines before",
            "diff --git a/f b/f\n--- /dev/null\n+++ b/f\n@@ -1,0 +1 @@\n+x\n".into(),
            "f: the names in its `---`",
        ),
        (
            "a new file without a mode, but with others",
            "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n".into(),
            "f: the names in its `---`",
        ),
        (
            "a file that goes without a mode and keeps a line",
            "diff --git a/f b/f\n--- a/f\n+++ /dev/null\n@@ -1 +1,0 @@\n-b\n".into(),
            "f: the names in its `---`",
        ),
        (
            "a file that goes and stays",
            format!("{MODIFY}diff --git a/f b/g\nrename from f\nrename to g\n"),
            "f: the patch moves it away and changes it",
        ),
        (
            "a file that goes from its second line on",
            "diff --git a/f b/f\ndeleted file mode 120000\n--- a/f\n+++ /dev/null\n@@ -2 +0,0 @@\n-b\n".into(),
            "f: the file goes, but not from its first line",
        ),
        (
            "a file that goes twice",
            "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-b\n@@ -1 +0,0 @@\n-b\n".into(),
            "f: the file goes, but not from its first line",
        ),
        (
            "a file that goes and is left with a line",
            "diff --git a/f b/f\ndeleted file mode 100644\n--- a/f\n+++ /dev/null\n@@ -1 +1 @@\n-b\n+c\n".into(),
            "f: the file goes, but not from its first line",
        ),
        ("no hunk", "diff --git a/f b/f\n--- a/f\n+++ b/f\n".into(), "f: a hunk"),
        ("a hunk alone", "diff --git a/f b/f\n@@ -1 +1 @@\n-b\n+c\n".into(), "no place"),
        ("a hunk without an end", MODIFY.replace("+c\n", ""), "ends within a hunk"),
        ("a hunk that says less", MODIFY.replace("-1,2", "-1,1"), "other lines than its head says"),
        (
            "a hunk that says more",
            format!("{}{}", MODIFY.replace("+1,2", "+1,3"), MODIFY.replace("/f", "/g")),
            "begins with none of",
        ),
        ("a hunk with a huge number", MODIFY.replace("1,2 +", "1,99999999999 +"), "the head of a hunk"),
        ("a hunk with no numbers", MODIFY.replace("@@ -1,2 +1,2 @@", "@@ x @@"), "the head of a hunk"),
        (
            "a last line that is not the last",
            MODIFY.replace(" a\n", " a\n\\ No newline at end of file\n"),
            "a missing line break is marked",
        ),
        ("another last line", MODIFY.replace("-b\n", "\\ Kein Zeilenumbruch\n-b\n"), "begins with none of"),
        (
            "too many files",
            format!(
                "{MODIFY}{}{}{}",
                MODIFY.replace("/f", "/g"),
                MODIFY.replace("/f", "/h"),
                MODIFY.replace("/f", "/i")
            ),
            "more than 3 files",
        ),
        ("too many bytes", MODIFY.replace("+c\n", &format!("+{}\n", "c".repeat(5000))), "4096 are allowed"),
    ];
    for (case, patch, expected) in table {
        let refusal = read(&patch).expect_err(case);
        assert!(refusal.contains(expected), "{case}: {refusal}");
    }
}

#[test]
fn replaced_file_is_prepared_as_a_change() {
    let link = "diff --git a/f b/f\nnew file mode 120000\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+g\n\\ No newline at end of file";
    let plain = "diff --git a/f b/f\n--- /dev/null\n+++ b/f\n@@ -0,0 +1,2 @@\n+x\r\n+y\n";
    let empty = "diff --git a/f b/f\nnew file mode 100755\n";
    let binary =
        |content: &[u8]| String::from_utf8(encode(content).expect("encoded")).expect("ascii");
    let data = format!(
        "diff --git a/f b/f\nnew file mode 100644\nindex 0..1\n{}",
        binary(b"\0")
    );
    let renamed = "diff --git a/f b/g\nrename from f\nrename to g\n";
    let other = MODIFY.replace("/f", "/e");
    let change = |mode: &str, content: &[u8]| {
        format!(
            "diff --git a/f b/f\nold mode 100644\nnew mode {mode}\n{}",
            binary(content)
        )
    };
    for (case, patch, expected, deletes) in [
        (
            "a link",
            format!("{DELETE}{link}"),
            change("120000", b"g"),
            true,
        ),
        (
            "a plain file",
            format!("{DELETE}{other}\n{plain}"),
            format!("{other}{}", change("100644", b"x\r\ny\n")),
            true,
        ),
        (
            "an empty file",
            format!("{DELETE}{empty}{other}"),
            format!("{}{other}", change("100755", b"")),
            true,
        ),
        (
            "binary data",
            format!("{DELETE}{data}"),
            change("100644", b"\0"),
            true,
        ),
        (
            "a renamed file",
            format!("{renamed}{link}"),
            format!("{renamed}{}", change("120000", b"g")),
            false,
        ),
    ] {
        let scanned = scan(patch.as_bytes(), &limits(), Rules::Mercurial).expect(case);
        let prepared = scanned.prepared.as_ref().expect(case);
        assert_eq!(
            String::from_utf8_lossy(&prepared.content),
            expected,
            "{case}"
        );
        assert_eq!(prepared.deletions.len(), usize::from(deletes), "{case}");
        for deletion in &prepared.deletions {
            assert!(deletion.fits(b"b\n") && deletion.fits(b"b\nc"), "{case}");
            assert!(
                !deletion.fits(b"b") && !deletion.fits(b"a\nb\n") && !deletion.fits(b""),
                "{case}"
            );
        }
        assert_eq!(scanned.removed_by_hunks().count(), 0, "{case}");
    }
    assert_eq!(
        scan(MODIFY.as_bytes(), &limits(), Rules::Mercurial)
            .expect("fine")
            .prepared,
        None
    );
}

#[test]
fn refusal_names_the_line() {
    let patch = format!("{MODIFY}\ndiff --git a/.hg/hgrc b/.hg/hgrc\nnew file mode 100644\n");
    let refusal = scan(patch.as_bytes(), &limits(), Rules::Mercurial).expect_err("hostile");
    assert_eq!(
        (refusal.path.as_deref(), refusal.line),
        (Some(b".hg/hgrc".as_slice()), 9)
    );
}

#[test]
fn head_of_each_hunk_is_found() {
    let patch = format!(
        "{}\r\n{}diff --git a/h b/h\nold mode 100644\nnew mode 100755\n",
        MODIFY.replace("/f", "/e"),
        MODIFY.replace(
            "-b\n+c\n",
            "-@@ -9 +9 @@\n+@@ -8 +8 @@\n\\ No newline at end of file\n@@ -9 +9 @@ fn x()\r\n-d\n+e\n"
        )
    );
    let scanned = scan(patch.as_bytes(), &limits(), Rules::Mercurial).expect("fine");
    let head = |file: usize, number| {
        hunk_head(patch.as_bytes(), &scanned.files[file], number)
            .map(|head| (text::path(head.text), head.line))
    };
    let first = |line| Some(("@@ -1,2 +1,2 @@".to_owned(), line));
    assert_eq!([head(0, 0), head(0, 1), head(0, 2)], [None, first(4), None]);
    assert_eq!(
        [head(1, 1), head(1, 2), head(1, 3)],
        [first(12), Some(("@@ -9 +9 @@ fn x()".to_owned(), 17)), None]
    );
    assert_eq!(head(2, 1), None);
}

#[test]
fn both_names_of_a_rename_are_touched_and_only_the_new_one_of_a_copy() {
    let patch = "diff --git a/f b/g\nrename from f\nrename to g\ndiff --git a/h b/i\ncopy from h\ncopy to i\n";
    let scanned = scan(patch.as_bytes(), &limits(), Rules::Mercurial).expect("fine");
    assert_eq!(scanned.touched().collect::<Vec<_>>(), [b"g", b"f", b"i"]);
}

proptest! {
    /// Cuts and joins lines of patches in all ways: each result is read or refused.
    #[test]
    fn scanning_a_patch_never_panics(picks in proptest::collection::vec((0_usize..16, any::<u8>()), 0..24)) {
        let pieces = [
            "diff --git a/f b/f", "--- a/f", "+++ b/f", "@@ -1,1 +1,2 @@", "@@ -0,0 +1 @@", " x", "-x", "+x",
            "\\ No newline at end of file", "GIT binary patch", "literal 0", "Hc$@<O00001", "new file mode 100644",
            "rename from f", "", "\r",
        ];
        let mut patch = Vec::new();
        for (pick, noise) in picks {
            patch.extend(pieces[pick].as_bytes());
            patch.push(if noise > 250 { noise } else { b'\n' });
        }
        let _ = scan(&patch, &limits(), Rules::Mercurial);
    }
}
