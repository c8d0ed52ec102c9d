//! Patches as Git reads them.

use super::*;

const GIT: Rules = Rules::Git { submodules: false };
const WITH_SUBMODULES: Rules = Rules::Git { submodules: true };

fn read(patch: &str, rules: Rules) -> Result<Vec<FileChange>, String> {
    scan(patch.as_bytes(), &Limits::default(), rules)
        .map(|scanned| scanned.files)
        .map_err(|refusal| refusal.to_string())
}

fn add(name: &str, mode: &str, text: &str) -> String {
    format!(
        "diff --git a/{name} b/{name}\nnew file mode {mode}\n--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{text}\n"
    )
}

const DELTA: &str = "diff --git a/f b/f\nindex 5ba0a9cf4e7f6ab0ae8b1ad2d0c0ce4e9d9a9b51..7d4f3e3c9a0f60f0b52bd6a4e1b2f5a1b2c3d4e5 100644\n";

/// A delta with a header of these sizes, and a few bytes.
fn delta(from: u64, to: u64) -> String {
    let mut bytes = Vec::new();
    for mut number in [from, to] {
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).expect("small") | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).expect("small"));
    }
    bytes.extend([1, b'x']);
    let data = String::from_utf8(encode(&bytes).expect("encoded")).expect("ascii");
    data.replace("literal", "delta")
}

#[test]
fn names_are_read_as_git_writes_them() {
    let table = [
        (
            "in quotes",
            "diff --git \"a/\\303\\244\" \"b/\\303\\244\"\nnew file mode 100644\n".to_owned(),
            "ä",
            Kind::Add,
        ),
        (
            "in quotes, with lines",
            "diff --git \"a/\\303\\244\" \"b/\\303\\244\"\n--- \"a/\\303\\244\"\n+++ \"b/\\303\\244\"\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
            "ä",
            Kind::Modify,
        ),
        ("a tab", "diff --git \"a/x\\ty\" \"b/x\\ty\"\ndeleted file mode 100644\n".to_owned(), "x\ty", Kind::Delete),
        ("` b/`", MODIFY.replace("/f", "/x b/f").replace("f\n@", "f\t\n@").replace("f\n+", "f\t\n+"), "x b/f", Kind::Modify),
        ("` b/` of an empty file", "diff --git a/x b/f b/x b/f\nnew file mode 100644\n".to_owned(), "x b/f", Kind::Add),
        (
            "` b/` in a rename",
            "diff --git a/d b/f b/d b/g\nrename from d b/f\nrename to d b/g\n".to_owned(),
            "d b/g",
            Kind::Rename(b"d b/f".to_vec()),
        ),
        (
            "a copy to a name in quotes",
            "diff --git a/f \"b/\\\"\"\ncopy from f\ncopy to \"\\\"\"\n--- a/f\n+++ \"b/\\\"\"\n@@ -1 +1 @@\n-a\n+b\n".to_owned(),
            "\"",
            Kind::Copy(b"f".to_vec()),
        ),
        ("quotation marks as Phabricator writes them", MODIFY.replace("/f", "/x\"y"), "x\"y", Kind::Modify),
        ("spaces at the end", "diff --git a/f  b/f \nnew file mode 100755\n".to_owned(), "f ", Kind::Add),
        ("spaces in front", MODIFY.replace("/f", "/ f").replace("f\n@", "f\t\n@").replace("f\n+", "f\t\n+"), " f", Kind::Modify),
        ("no tab behind a name with spaces", MODIFY.replace("/f", "/f g"), "f g", Kind::Modify),
        ("CRLF", MODIFY.replace('\n', "\r\n"), "f", Kind::Modify),
        ("a file without a mode", "diff --git a/f b/f\n--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n".to_owned(), "f", Kind::Add),
    ];
    for (case, patch, path, kind) in table {
        let files = read(&patch, GIT).expect(case);
        assert_eq!(
            files
                .iter()
                .map(|file| (text::path(&file.path), &file.kind))
                .collect::<Vec<_>>(),
            [(path.to_owned(), &kind)],
            "{case}"
        );
    }
}

#[test]
fn modes_and_objects_are_those_of_the_header() {
    use Mode::{Executable, File, Submodule, SymbolicLink};
    let hashes = format!("{}..{}", "a".repeat(40), "b".repeat(40));
    let commit = "Subproject commit 5ba0a9cf4e7f6ab0ae8b1ad2d0c0ce4e9d9a9b51";
    let table = [
        ("a change", MODIFY.to_owned(), None, None),
        (
            "an index",
            MODIFY.replace("\n---", "\nindex 0a1b..2c3d 100755\n---"),
            Some(Executable),
            None,
        ),
        (
            "another mode",
            "diff --git a/f b/f\nold mode 100644\nnew mode 100755\n".to_owned(),
            Some(File),
            Some(Executable),
        ),
        (
            "an odd mode",
            "diff --git a/f b/f\nold mode 100664\nnew mode 100711\n".to_owned(),
            Some(File),
            Some(Executable),
        ),
        ("a link", add("f", "120000", "g"), None, Some(SymbolicLink)),
        (
            "a link that goes",
            DELETE.replace("100644", "120000"),
            Some(SymbolicLink),
            None,
        ),
        (
            "a submodule",
            add("f", "160000", commit),
            None,
            Some(Submodule),
        ),
        (
            "a submodule that moves on",
            MODIFY.replace("\n---", "\nindex 0a1b..2c3d 160000\n---"),
            Some(Submodule),
            None,
        ),
    ];
    for (case, patch, old, new) in table {
        let files = read(&patch, WITH_SUBMODULES).expect(case);
        assert_eq!(files[0].modes, Modes { old, new }, "{case}");
        assert_eq!(files[0].index, None, "{case}");
    }
    let files = read(
        &MODIFY.replace("\n---", &format!("\nindex {hashes} 100644\n---")),
        GIT,
    )
    .expect("fine");
    let whole = [[b'a'; 40].to_vec(), [b'b'; 40].to_vec()];
    assert_eq!(files[0].index, Some(whole));
}

#[test]
fn what_git_refuses_or_must_not_get_is_refused() {
    let commit = "Subproject commit 5ba0a9cf4e7f6ab0ae8b1ad2d0c0ce4e9d9a9b51";
    let table = [
        ("a submodule", add("f", "160000", commit), "f: it is a submodule"),
        ("Git's directory", add(".GIT/config", "100644", "x"), ".GIT/config: the path leads into Git's own"),
        ("Git's directory in quotes", "diff --git \"a/.g\\342\\200\\214it/x\" \"b/.g\\342\\200\\214it/x\"\nnew file mode 100644\n".to_owned(), "Git's own"),
        ("Mercurial's directory", add(".hg/hgrc", "100644", "x"), ".hg/hgrc: the path leads into Mercurial's own"),
        ("a name with NUL", "diff --git \"a/\\000\" \"b/\\000\"\nnew file mode 100644\n".to_owned(), "control character"),
        ("a path out of the tree in quotes", "diff --git \"a/\\056\\056/x\" \"b/\\056\\056/x\"\nnew file mode 100644\n".to_owned(), "the path has"),
        ("an unknown escape", "diff --git \"a/\\x\" \"b/\\x\"\nnew file mode 100644\n".to_owned(), "cannot be read"),
        ("a name in quotes without an end", "diff --git a/f b/g\nrename from \"f\nrename to g\n".to_owned(), "in quotes cannot be read"),
        ("two names without a rename", MODIFY.replacen("b/f", "b/g", 1), "cannot be read"),
        ("another rename", "diff --git a/f b/g\nrename from f\nrename to h\n".to_owned(), "cannot be read"),
        ("another name below", MODIFY.replace("+++ b/f", "+++ b/g"), "f: the names in its `---`"),
        ("another name in quotes below", MODIFY.replace("+++ b/f", "+++ \"b/\\147\""), "f: the names in its `---`"),
        ("a new file with old lines", add("f", "100644", "x").replace("-0,0 +1", "-1 +1,2").replace("+x", " y\n+x"), "f: the file is new, but"),
        ("a file that goes and stays", DELETE.replace("+0,0", "+1").replace("-b", "-b\n+c"), "f: the file goes, but"),
        ("a hunk that changes nothing", "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1 +1 @@\n a\n".to_owned(), "f: a hunk changes nothing"),
        ("a line of a carriage return", MODIFY.replace(" a\n", "\r\n"), "begins with none of"),
        ("a patch that is cut", MODIFY.trim_end().to_owned(), "ends within a line"),
        ("an export of Mercurial", format!("# HG changeset patch\n{MODIFY}"), "no place in a git patch: # HG"),
        ("a link for `.gitmodules`", add("a/.gitmodules", "120000", "x"), "a/.gitmodules: it tells Git"),
        ("a link for its short name", add("GI7EBA~1", "120000", "x"), "GI7EBA~1: it tells Git"),
        ("a change of a link", MODIFY.replace("/f", "/.gitmodules").replace("\n---", "\nindex 1..2 120000\n---"), "it tells Git"),
        ("a file moved to `.gitmodules`", "diff --git a/f b/.gitmodules\nrename from f\nrename to .gitmodules\n".to_owned(), "it tells Git"),
        ("an option for an address", add(".gitmodules", "100644", "url = -u"), ".gitmodules: Git refuses a submodule's url"),
        ("a command", add(".gitmodules", "100644", "update = !x"), "Git refuses a command"),
        ("a lost binary file", format!("{DELTA}GIT binary patch\nliteral 0\nHc$@<O00001\n\nliteral 0\nHc$@<O00001\n\n"), "is missing"),
        ("a delta without a header", format!("{DELTA}{}", String::from_utf8(encode(b"\xff").expect("encoded")).expect("ascii").replace("literal", "delta")), "cannot be unpacked"),
        ("a file twice", format!("{MODIFY}{MODIFY}"), "f: the patch changes it twice"),
    ];
    for (case, patch, expected) in table {
        let refusal = read(&patch, GIT).expect_err(case);
        assert!(refusal.contains(expected), "{case}: {refusal}");
        assert!(
            !refusal.contains("Mercurial ") && !refusal.contains("git submodule"),
            "{case}: {refusal}"
        );
    }
}

#[test]
fn what_git_can_and_mercurial_cannot_is_read() {
    let commit = "Subproject commit 5ba0a9cf4e7f6ab0ae8b1ad2d0c0ce4e9d9a9b51";
    let link = add("f", "120000", "g").replace("+g\n", "+g\n\\ No newline at end of file\n");
    let table = [
        ("a submodule", add("f", "160000", commit), vec![Kind::Add]),
        (
            "`.gitmodules`",
            add(".gitmodules", "100644", "url = ../x"),
            vec![Kind::Add],
        ),
        (
            "subrepositories",
            add(".hgsub", "100644", "x"),
            vec![Kind::Add],
        ),
        (
            "a file that becomes a link",
            format!("{DELETE}{link}"),
            vec![Kind::Delete, Kind::Add],
        ),
        (
            "a file that goes and another in its place",
            format!("{DELETE}diff --git a/g b/f\nrename from g\nrename to f\n"),
            vec![Kind::Delete, Kind::Rename(b"g".to_vec())],
        ),
        (
            "a file that goes in two hunks",
            DELETE.replace("-b\n", "-b\n@@ -3 +0,0 @@\n-d\n"),
            vec![Kind::Delete],
        ),
        (
            "another language",
            MODIFY.replace("-b\n", "-b\n\\ Kein Zeilenumbruch am Dateiende.\n"),
            vec![Kind::Modify],
        ),
        (
            "a delta",
            format!("{DELTA}{}", delta(300, 70_000)),
            vec![Kind::Modify],
        ),
    ];
    for (case, patch, kinds) in table {
        let scanned = scan(patch.as_bytes(), &Limits::default(), WITH_SUBMODULES).expect(case);
        assert_eq!(
            scanned
                .files
                .into_iter()
                .map(|file| file.kind)
                .collect::<Vec<_>>(),
            kinds,
            "{case}"
        );
        assert_eq!(scanned.prepared, None, "{case}");
    }
}

#[test]
fn hunks_have_their_lines() {
    let patch = "diff --git a/f b/f\n--- a/f\n+++ b/f\n@@ -1,3 +1,3 @@ x\n a\n\n-b\r\n+c\n@@ -9 +9 @@\n-d\n\\ No newline at end of file\n+e\n\\ No newline at end of file\n";
    let files = read(patch, GIT).expect("fine");
    let found: Vec<_> = hunks(patch.as_bytes(), &files[0]).collect();
    let ranges: Vec<_> = found
        .iter()
        .map(|hunk| (hunk.head.line, hunk.old, hunk.new))
        .collect();
    let range = |start, count| HunkRange { start, count };
    assert_eq!(
        ranges,
        [(4, range(1, 3), range(1, 3)), (9, range(9, 1), range(9, 1))]
    );
    use HunkLine::{Added, Context, Removed};
    let lines: Vec<_> = found.iter().flat_map(Hunk::lines).collect();
    assert_eq!(
        lines,
        [
            Context(b"a\n"),
            Context(b"\n"),
            Removed(b"b\r\n"),
            Added(b"c\n"),
            Removed(b"d"),
            Added(b"e")
        ]
    );
    assert_eq!(found[1].head.text, b"@@ -9 +9 @@");
}

#[test]
fn binary_data_of_the_new_side_are_unpacked() {
    let literal =
        |content: &[u8]| String::from_utf8(encode(content).expect("encoded")).expect("ascii");
    let whole = format!(
        "GIT binary patch\n{}{}",
        &literal(b"new\0")[17..],
        &literal(b"old\0")[17..]
    );
    for (case, data, expected) in [
        (
            "a file",
            literal(b"a\0b"),
            BinaryData::Literal(b"a\0b".to_vec()),
        ),
        ("both sides", whole, BinaryData::Literal(b"new\0".to_vec())),
        (
            "a delta",
            delta(1, 1),
            BinaryData::Delta(vec![1, 1, 1, b'x']),
        ),
    ] {
        let patch = format!("{DELTA}{data}");
        let files = read(&patch, GIT).expect(case);
        assert_eq!(
            binary_data(patch.as_bytes(), &files[0]),
            Some(expected),
            "{case}"
        );
    }
    let files = read(MODIFY, GIT).expect("fine");
    assert_eq!(binary_data(MODIFY.as_bytes(), &files[0]), None);
}

#[test]
fn delta_counts_with_what_it_makes_and_reads() {
    let limits = |stack_bytes| Limits {
        stack_bytes,
        ..Limits::default()
    };
    let patch = format!("{DELTA}{}", delta(300, 70_000));
    let scan = |allowed| {
        scan(patch.as_bytes(), &limits(allowed), GIT).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(
        scan(70_300).expect("as much as is allowed").files[0].size,
        NewSize::Whole { size: 70_000 }
    );
    assert!(
        scan(70_299)
            .expect_err("more")
            .contains("binary files of the stack")
    );
}

#[test]
fn copies_renames_and_deltas_count_as_for_mercurial() {
    let base = stack_size::Sizes::from([(b"big".to_vec(), 13_000_000)]);
    let many = |what: &str| -> String {
        (0..20)
            .map(|number| {
                format!("diff --git a/big b/c{number}\n{what} from big\n{what} to c{number}\n")
            })
            .collect()
    };
    let grown = format!("{DELTA}{}", delta(300, 70_000));
    let copies_of_it: String = (0..9)
        .map(|number| format!("diff --git a/f b/c{number}\ncopy from f\ncopy to c{number}\n"))
        .collect();
    for (case, patches, expected) in [
        ("copies", vec![many("copy")], 20 * 13_000_000),
        ("renames", vec![many("rename")], 20 * 13_000_000),
        (
            "a delta, and copies of what it makes",
            vec![grown, copies_of_it],
            10 * 70_000,
        ),
    ] {
        let stack: Vec<_> = patches
            .iter()
            .map(|patch| scan(patch.as_bytes(), &Limits::default(), GIT).expect(case))
            .collect();
        let too_large = stack_size::check(&stack, &base, expected - 1).expect_err(case);
        assert_eq!(too_large.bytes, expected, "{case}");
        assert!(stack_size::check(&stack, &base, expected).is_ok(), "{case}");
    }
}

proptest! {
    /// Cuts and joins lines of patches in all ways: each result is read or refused.
    #[test]
    fn scanning_for_git_never_panics(picks in proptest::collection::vec((0_usize..24, any::<u8>()), 0..24)) {
        let pieces = [
            "diff --git a/f b/f", "diff --git \"a/\\303\\244\" \"b/\\303\\244\"", "--- a/f", "+++ b/f", "--- \"a/\\303\\244\"",
            "+++ \"b/\\303\\244\"", "@@ -1,1 +1,2 @@", "@@ -0,0 +1 @@", " x", "-x", "+x", "\\ No newline at end of file",
            "GIT binary patch", "literal 0", "Hc$@<O00001", "delta 4", "new file mode 100644", "rename from f",
            "rename to \"\\303\\244\"", "index 1..2 160000", "diff --git a/.gitmodules b/.gitmodules", "+[submodule \"", "", "\r",
        ];
        let mut patch = Vec::new();
        for (pick, noise) in picks {
            patch.extend(pieces[pick].as_bytes());
            patch.push(if noise > 250 { noise } else { b'\n' });
        }
        for rules in [GIT, WITH_SUBMODULES] {
            if let Ok(scanned) = scan(&patch, &limits(), rules) {
                for file in &scanned.files {
                    hunks(&patch, file).for_each(|hunk| _ = hunk.lines().count());
                    binary_data(&patch, file);
                }
            }
        }
    }
}
