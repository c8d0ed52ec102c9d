//! Patches as a real Phorge wrote them, and patches that people reported to other tools. Each has to make its author's
//! tree, and the tree that `git apply` makes.

use std::{fs, path::Path};

use gix::objs::tree::EntryKind;
use worker::{
    Limits,
    patch::{self, Rules},
};

use super::{
    git::{self, Lab},
    mutations,
    trees::{File, Files},
};
use crate::apply::{Fault, Time, apply};

/// The recorded files are Mercurial's, too.
fn fixture(name: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../worker-hg/tests/fixtures");
    fs::read(fixtures.join(name)).unwrap()
}

fn recorded(name: &str) -> Vec<u8> {
    let exchange = fixture(&format!("differential.getrawdiff.{name}.json"));
    let exchange: serde_json::Value = serde_json::from_slice(&exchange).unwrap();
    let patch = exchange["response"]["result"].as_str().unwrap();
    patch.as_bytes().to_vec()
}

fn numbered(prefix: &str, count: u32, end: &str, replaced: &[(u32, &str)]) -> Vec<u8> {
    let line = |number| {
        let replacement = replaced.iter().find(|(at, _)| *at == number);
        match replacement {
            Some((_, text)) => format!("{text}{end}"),
            None => format!("{prefix} {number}{end}"),
        }
    };
    (1..=count).map(line).collect::<String>().into_bytes()
}

/// A file that differs from the base: `None` if it is gone.
type Change = (&'static str, Option<(EntryKind, Vec<u8>)>);

fn plain(path: &'static str, content: impl Into<Vec<u8>>) -> Change {
    (path, Some((EntryKind::Blob, content.into())))
}

fn with(files: &Files, changes: Vec<Change>) -> Files {
    let mut files = files.clone();
    for (path, change) in changes {
        let path = path.as_bytes().to_vec();
        match change {
            Some((kind, content)) => _ = files.insert(path, File { kind, content }),
            None => assert!(files.remove(&path).is_some()),
        }
    }
    files
}

fn base() -> Files {
    let files = vec![
        plain("hello.txt", numbered("line", 20, "\n", &[])),
        plain(
            "unicode.txt",
            "héllo wörld\nсъешь ещё\n日本語 テキスト\nplain\n",
        ),
        plain("latin1.txt", "café crème\nplain\nthird\n"),
        plain("noeol.txt", "alpha\nbeta\ngamma"),
        plain("with space.txt", "a\nb\nc\n"),
        plain("old_name.txt", numbered("rename me", 6, "\n", &[])),
        plain("old_pure.txt", "pure\n"),
        plain("copysrc.txt", numbered("copy src", 7, "\n", &[])),
        plain("crlf.txt", "one\r\ntwo\r\nthree\r\nfour\r\n"),
        plain("todelete.txt", "bye\nbye\n"),
        plain("script.sh", "#!/bin/sh\n"),
        plain("stack.txt", numbered("stack line", 10, "\n", &[])),
        plain("data.bin", fixture("data.bin.before")),
    ];
    with(&Files::new(), files)
}

/// Applies patches one after another; the tree has to be that of `expected`.
fn check(lab: &mut Lab, case: &str, base: &Files, patches: &[Vec<u8>], expected: &Files) {
    let mut tree = git::write(&lab.bases, base);
    for patch in patches {
        let rules = Rules::Git { submodules: false };
        let parsed = patch::scan(patch, &Limits::default(), rules).unwrap();
        tree = apply(&lab.ours, tree, patch, &parsed, &Time::ample()).unwrap();
    }
    assert_eq!(tree, git::write(&lab.edits, expected), "{case}");
    if let [patch] = patches {
        let patch = mutations::for_git(patch, |_| 0o100_644);
        let (_, theirs) = lab.apply(base, &patch, true).unwrap();
        assert_eq!(theirs, Some(tree), "{case}");
    }
}

#[test]
fn patches_of_a_real_phorge_make_their_authors_trees() {
    let unicode = |last: &str| {
        plain(
            "unicode.txt",
            format!("héllo wörld\nсъешь ещё\n日本語 テキスト\n{last}\n"),
        )
    };
    let hello = |at, text| {
        vec![plain(
            "hello.txt",
            numbered("line", 20, "\n", &[(at, text)]),
        )]
    };
    let renamed = || {
        plain(
            "new_name.txt",
            numbered("rename me", 6, "\n", &[(3, "renamed 3")]),
        )
    };
    let renames = || {
        vec![
            renamed(),
            ("old_name.txt", None),
            plain("dir_pure.txt", "pure\n"),
            ("old_pure.txt", None),
            plain(
                "copydst.txt",
                numbered("copy src", 7, "\n", &[(4, "copied 4")]),
            ),
        ]
    };
    let ends = || {
        vec![
            plain("with space.txt", "a\nb\nc"),
            plain("noeol.txt", "alpha\nBETA\ngamma2"),
            plain("addnoeol.txt", "x"),
        ]
    };
    let crlf = |last| {
        vec![plain(
            "crlf.txt",
            format!("one\r\nTWO\r\nthree\r\nfour\r\n{last}"),
        )]
    };
    let data = || plain("data.bin", fixture("data.bin.after"));
    let stack =
        |lines: &[(u32, &str)]| vec![plain("stack.txt", numbered("stack line", 10, "\n", lines))];
    let (two, five, nine) = (
        (2, "stack line two"),
        (5, "stack line five"),
        (9, "stack line nine"),
    );
    let mixed = vec![
        unicode("ünïcödé 🎉"),
        plain("noeol.txt", "alpha\nBETA\ngamma2"),
        renamed(),
        ("old_name.txt", None),
        data(),
        plain("crlf.txt", "one\r\nTWO\r\nthree\r\nfour\r\n"),
    ];
    let modes = vec![
        ("todelete.txt", None),
        (
            "script.sh",
            Some((EntryKind::BlobExecutable, b"#!/bin/sh\n".to_vec())),
        ),
        ("link.txt", Some((EntryKind::Link, b"hello.txt".to_vec()))),
        plain("formfeed.txt", "a\n\x0cb\n"),
        plain("empty.txt", ""),
    ];
    let latin1 = vec![plain("latin1.txt", "café crème\nplain à\nthird\n")];
    let table: Vec<(&[&str], Vec<Change>)> = vec![
        (&["simple"], hello(5, "line five")),
        (&["nocommit"], hello(9, "line nine")),
        (&["unicode"], vec![unicode("ünïcödé 🎉 テスト")]),
        (&["raw-unicode"], vec![unicode("ünïcödé 🎉 テスト")]),
        (&["latin1"], latin1),
        (&["crlf"], crlf("five\r\n")),
        (&["raw-crlf"], crlf("five\r\n")),
        (&["noeol"], ends()),
        (&["raw-noeol"], ends()),
        (&["rename"], renames()),
        (&["raw-rename"], renames()),
        (
            &["binary"],
            vec![plain("new.bin", fixture("new.bin")), data()],
        ),
        (&["mixed"], mixed),
        (&["modes"], modes),
        (&["stack1"], stack(&[two])),
        (&["stack1", "stack2"], stack(&[two, five])),
        (&["stack1", "stack2", "stack3"], stack(&[two, five, nine])),
    ];
    let lab = &mut Lab::new();
    let base = base();
    for (names, changes) in table {
        let patches: Vec<_> = names.iter().map(|name| recorded(name)).collect();
        let expected = with(&base, changes);
        check(lab, &names.join(", "), &base, &patches, &expected);
    }
}

fn reported() -> Files {
    let files = vec![
        plain("f.txt", numbered("line", 20, "\n", &[])),
        plain("dir b/bar.md", numbered("bar", 10, "\n", &[])),
        plain("crlf.txt", numbered("c", 20, "\r\n", &[])),
        plain("latin1.txt", b"caf\xe9\nplain\n".as_slice()),
    ];
    with(&Files::new(), files)
}

#[test]
fn reported_patches_that_git_applies_make_its_trees() {
    let table = [
        (
            "new-file-without-mode-line.phab.diff",
            vec![plain("new.txt", "n\n")],
        ),
        (
            "file-to-symlink.git.diff",
            vec![("f.txt", Some((EntryKind::Link, b"src.txt".to_vec())))],
        ),
    ];
    let lab = &mut Lab::new();
    let base = reported();
    for (name, changes) in table {
        let patch = fixture(&format!("reports/{name}"));
        check(lab, name, &base, &[patch], &with(&base, changes));
    }
}

#[test]
fn reported_patches_that_do_not_fit_name_the_cause() {
    let lab = &mut Lab::new();
    let base = reported();
    for (name, expected) in [
        (
            "lf-patch-on-crlf-file.diff",
            "crlf.txt, line 2: hunk #1 does not fit: only the line endings differ",
        ),
        (
            "latin1-line-as-utf8.diff",
            "latin1.txt, line 1: hunk #1 does not fit: only bytes beyond ASCII differ, and the file is not UTF-8",
        ),
    ] {
        let patch = fixture(&format!("reports/{name}"));
        let rules = Rules::Git { submodules: false };
        let parsed = patch::scan(&patch, &Limits::default(), rules).unwrap();
        let tree = git::write(&lab.bases, &base);
        let fault = apply(&lab.ours, tree, &patch, &parsed, &Time::ample()).unwrap_err();
        let Fault::DoesNotApply(report) = fault else {
            panic!("{name}: {fault:?}")
        };
        assert!(report.details.starts_with(expected), "{}", report.details);
        assert!(!report.unexplained, "{name}");
        assert!(lab.apply(&base, &patch, false).is_err(), "{name}");
    }
}
