//! Patches that a real Git makes of random trees, and what Git itself reads in them.

mod lab;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
};

use super::*;
use lab::Lab;
use proptest::{
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestCaseResult, TestRunner},
};

/// The cases that fit into a few seconds. `PROPTEST_CASES` sets another number.
const CASES: u32 = 40;

const RULES: Rules = Rules::Git { submodules: true };

/// Names without two that differ by case only, or of which one lies below another.
const NAMES: [&[u8]; 18] = [
    b"a",
    b"b c",
    b" d",
    b"e ",
    b"d b/f",
    b"d b/d b/f",
    "\u{e4}/\u{2603}".as_bytes(),
    b"tab\there",
    b"line\nbreak",
    b"quote\"d",
    b"back\\slash",
    b"\xff\xfe",
    b"x/y/z",
    b"x/b/x b/x",
    b"--- a",
    b".gitignore",
    b"\x07\x08\x0b\x0c\r",
    b"\"",
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Text(Vec<u8>, bool),
    Binary(Vec<u8>),
    Link(&'static str),
    Submodule(u8),
}

type Files = BTreeMap<usize, Entry>;

fn entry() -> impl Strategy<Value = Entry> {
    let line = select(
        &[
            "x",
            "",
            "--- a/x",
            "+++ b/x",
            "diff --git a/x b/x",
            "GIT binary patch",
            "@@ -1 +1 @@",
            "\\ No newline",
            "y\r",
        ][..],
    );
    let text = (
        proptest::collection::vec(line, 0..12),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(lines, ends, executable)| {
            let mut text = lines.join("\n").into_bytes();
            if ends && !text.is_empty() {
                text.push(b'\n');
            }
            Entry::Text(text, executable)
        });
    // Long enough for deltas and renames.
    let binary = (any::<u8>(), 0_usize..3000).prop_map(|(seed, length)| {
        let mut bytes = vec![0];
        bytes.extend(
            (0..length)
                .map(|at| u8::try_from((at * at + usize::from(seed)) % 251).unwrap_or_default()),
        );
        Entry::Binary(bytes)
    });
    prop_oneof![
        4 => text,
        3 => binary,
        1 => select(&["target", "../up", "a"][..]).prop_map(Entry::Link),
        1 => any::<u8>().prop_map(Entry::Submodule),
    ]
}

/// A tree, and one made from it by new, moved, copied, changed and removed files.
fn trees() -> impl Strategy<Value = (Files, Files)> {
    let files = proptest::collection::btree_map(0..NAMES.len(), entry(), 0..10);
    let edit = (0_u8..6, any::<Index>(), 0..NAMES.len(), entry());
    (files, proptest::collection::vec(edit, 1..8)).prop_map(|(before, edits)| {
        let mut after = before.clone();
        for (what, source, target, entry) in edits {
            let source = (!after.is_empty())
                .then(|| *source.get(&after.keys().copied().collect::<Vec<_>>()));
            match (what, source) {
                (0, Some(source)) => _ = after.remove(&source),
                (1, Some(source)) => {
                    if let Some(moved) = after.remove(&source) {
                        after.insert(target, moved);
                    }
                }
                (2, Some(source)) => _ = after.insert(target, after[&source].clone()),
                (3, Some(source)) => match after.get_mut(&source) {
                    Some(Entry::Text(text, executable)) => {
                        text.extend(b"more\n");
                        *executable = !*executable;
                    }
                    Some(Entry::Binary(bytes)) => bytes.extend([1, 2, 3]),
                    _ => {}
                },
                _ => _ = after.insert(target, entry),
            }
        }
        (before, after)
    })
}

/// A change as `git diff --raw -z` prints it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Raw {
    status: char,
    old: Option<Vec<u8>>,
    path: Vec<u8>,
    modes: [Option<&'static str>; 2],
}

fn shown(mode: Mode) -> &'static str {
    match mode {
        Mode::File => "100644",
        Mode::Executable => "100755",
        Mode::SymbolicLink => "120000",
        Mode::Submodule => "160000",
    }
}

fn raw(output: &[u8]) -> Vec<Raw> {
    let mut fields = output.split(|&byte| byte == 0);
    let mut changes = Vec::new();
    while let Some(head) = fields.next().filter(|head| !head.is_empty()) {
        let head = String::from_utf8(head.to_vec()).expect("ASCII");
        let words: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
        let status = words[4].chars().next().expect("a status");
        let mode = |text: &str| Mode::parse(text.as_bytes()).map(shown);
        let modes = [mode(words[0]), mode(words[1])];
        let first = fields.next().expect("a path").to_vec();
        if "RC".contains(status) {
            let path = fields.next().expect("a path").to_vec();
            changes.push(Raw {
                status,
                old: Some(first),
                path,
                modes,
            });
        } else if status == 'T' {
            // In a patch it is a deletion and an addition.
            let one = |status, modes| Raw {
                status,
                old: None,
                path: first.clone(),
                modes,
            };
            changes.push(one('D', [modes[0], None]));
            changes.push(one('A', [None, modes[1]]));
        } else {
            changes.push(Raw {
                status,
                old: None,
                path: first,
                modes,
            });
        }
    }
    changes
}

/// What we read, in the form of [`raw`]; `modes` are Git's for those that a patch need not give.
fn read_as_raw(files: &[FileChange], git: &[Raw]) -> Vec<Raw> {
    let raw = |file: &FileChange| {
        let (status, old) = match &file.kind {
            Kind::Add => ('A', None),
            Kind::Modify => ('M', None),
            Kind::Delete => ('D', None),
            Kind::Copy(source) => ('C', Some(source.clone())),
            Kind::Rename(source) => ('R', Some(source.clone())),
        };
        let known = git
            .iter()
            .find(|change| change.status == status && change.path == file.path);
        let [mut before, mut after] = known.map_or([None; 2], |change| change.modes);
        if let Some(mode) = file.modes.old {
            before = Some(shown(mode));
        }
        match file.modes.new {
            Some(mode) => after = Some(shown(mode)),
            None if file.kind != Kind::Delete && after.is_some() => after = before,
            None => {}
        }
        Raw {
            status,
            old,
            path: file.path.clone(),
            modes: [before, after],
        }
    };
    files.iter().map(raw).collect()
}

/// The patch between two trees, as Git writes it, and the changes, as Git lists them.
fn diff(lab: &Lab, before: &Files, after: &Files) -> (Vec<u8>, Vec<Raw>) {
    let (old, new) = (lab.tree(before), lab.tree(after));
    let found = [
        "--find-renames=50%",
        "--find-copies=50%",
        "--find-copies-harder",
    ];
    let run = |form: &[&str]| {
        let command = ["diff-tree", "-r", "--no-textconv"];
        lab.git(&[&command, form, &found, &[&old, &new]].concat(), b"")
    };
    let patch = run(&["-p", "--binary", "--full-index"]);
    (patch, raw(&run(&["--raw", "-z"])))
}

fn compare(lab: &Lab, before: &Files, after: &Files) -> TestCaseResult {
    let fail = |reason: String| TestCaseError::fail(reason);
    let (patch, mut git) = diff(lab, before, after);
    if git.is_empty() {
        return Ok(());
    }
    let text = || String::from_utf8_lossy(&patch).into_owned();
    let scanned = scan(&patch, &Limits::default(), RULES)
        .map_err(|refusal| fail(format!("{refusal}\n{}", text())))?;
    let mut ours = read_as_raw(&scanned.files, &git);
    git.sort();
    ours.sort();
    prop_assert_eq!(&ours, &git, "{}", text());

    // The lines that Git counts, and the content of new binary files.
    let numbers = lab.git(&["apply", "--numstat", "-z"], &patch);
    let mut numbers: Vec<Vec<u8>> = numbers
        .split(|&byte| byte == 0)
        .map(<[u8]>::to_vec)
        .collect();
    numbers.retain(|line| !line.is_empty());
    let mut counted: Vec<Vec<u8>> = Vec::new();
    for file in &scanned.files {
        let (mut added, mut removed) = (0, 0);
        for hunk in hunks(&patch, file) {
            for line in hunk.lines() {
                match line {
                    HunkLine::Added(_) => added += 1,
                    HunkLine::Removed(_) => removed += 1,
                    HunkLine::Context(_) => {}
                }
            }
        }
        let count = match file.binary {
            Some(_) => "-\t-\t".to_owned(),
            None => format!("{added}\t{removed}\t"),
        };
        counted.push([count.as_bytes(), &file.path].concat());
        let known = NAMES
            .iter()
            .position(|name| *name == file.path)
            .and_then(|name| after.get(&name));
        match (binary_data(&patch, file), known) {
            (Some(BinaryData::Literal(data)), Some(Entry::Binary(bytes))) => {
                prop_assert_eq!(&data, bytes)
            }
            (None, _) if file.binary.is_some() => return Err(fail(format!("no data\n{}", text()))),
            _ => {}
        }
    }
    numbers.sort();
    counted.sort();
    prop_assert_eq!(counted, numbers, "{}", text());
    Ok(())
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES)
}

fn config() -> Config {
    Config {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    }
}

/// Trees in which a path is both a file and a directory cannot be stored: the names exclude that.
#[test]
fn every_patch_that_git_makes_is_read_as_git_reads_it() {
    let lab = Lab::new();
    TestRunner::new(config())
        .run(&trees(), |(before, after)| compare(&lab, &before, &after))
        .expect("the same");
}

/// Git's own name for each file, whatever bytes it has.
#[test]
fn every_name_is_read_as_git_writes_it() {
    let lab = Lab::new();
    let byte = prop_oneof![1_u8..=255, select(&b"ab \"\\\t/"[..])];
    let name = proptest::collection::vec(byte, 1..12);
    TestRunner::new(Config {
        cases: cases() * 2,
        ..config()
    })
    .run(&name, |name| {
        let hostile =
            path::check(&name, RULES).is_err() || name.contains(&b'/') || is_gitmodules(&name);
        prop_assume!(!hostile);
        let directory = lab.directory.path().join("tree");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).expect("a directory");
        let file = directory.join(OsStr::from_bytes(&name));
        write(&file);
        let tree = "--work-tree=tree";
        lab.git(&["--git-dir=.", tree, "read-tree", "--empty"], b"");
        lab.git(&["--git-dir=.", tree, "add", "--all", "--force"], b"");
        let patch = lab.git(
            &[
                "diff",
                "--cached",
                "--binary",
                "--full-index",
                "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            ],
            b"",
        );
        let scanned = scan(&patch, &Limits::default(), RULES).map_err(|refusal| {
            TestCaseError::fail(format!("{refusal}\n{}", String::from_utf8_lossy(&patch)))
        })?;
        prop_assert_eq!(&scanned.files[0].path, &name);
        Ok(())
    })
    .expect("the same");
}

/// An empty file: only the line `diff --git` has its name.
fn write(file: &Path) {
    fs::write(file, "").expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("set");
}

/// Two trees between which there is a change of each kind.
fn all_kinds() -> (Files, Files) {
    let bytes = |length: usize| {
        let bytes = (0..length).map(|at| u8::try_from(at * at % 251).unwrap_or_default());
        Entry::Binary([0].into_iter().chain(bytes).collect())
    };
    let text = |lines: &str| Entry::Text(lines.as_bytes().to_vec(), false);
    let lines = "1\n2\n3\n4\n5\n6\n7\n8\n";
    let before = Files::from([
        (0, text(lines)),
        (1, text("a\nb\nc\nd\n")),
        (2, text("gone\n")),
        (3, text("a link next\n")),
        (4, bytes(3000)),
        (6, Entry::Submodule(1)),
    ]);
    let mut after = before.clone();
    after.extend([
        (0, text(&lines.replace('4', "four"))),
        (3, Entry::Link("target")),
        (4, bytes(3004)),
        (6, Entry::Submodule(2)),
        (7, text("new")),
        (8, text("a\nb\nc\nd\ne\n")),
        (9, text(lines)),
    ]);
    after.remove(&1);
    after.remove(&2);
    (before, after)
}

#[test]
fn every_kind_of_change_is_read_as_git_reads_it() {
    let lab = Lab::new();
    let (before, after) = all_kinds();
    compare(&lab, &before, &after).expect("the same");
    let (patch, changes) = diff(&lab, &before, &after);
    for status in ['A', 'C', 'D', 'M', 'R'] {
        let found = changes.iter().any(|change| change.status == status);
        assert!(found, "{status}: {changes:?}");
    }
    assert!(memchr::memmem::find(&patch, b"\ndelta ").is_some());
    let scanned = scan(&patch, &Limits::default(), RULES).expect("fine");
    let changed = scanned.files.iter().find(|file| file.binary.is_some());
    let data = changed.and_then(|file| binary_data(&patch, file));
    assert!(matches!(data, Some(BinaryData::Delta(_))), "{data:?}");
}

/// Spoils a patch that Git made: it is read or refused, and what is read can be read again.
#[test]
fn spoilt_patch_is_read_or_refused() {
    let lab = Lab::new();
    let (before, after) = all_kinds();
    let (patch, _) = diff(&lab, &before, &after);
    let lines: Vec<&[u8]> = patch.split_inclusive(|&byte| byte == b'\n').collect();
    let spoil = (0_u8..5, any::<Index>(), any::<Index>(), any::<u8>());
    let spoils = proptest::collection::vec(spoil, 1..6);
    let mut read = 0;
    let seen = std::cell::RefCell::new(&mut read);
    TestRunner::new(Config {
        cases: cases() * 50,
        ..config()
    })
    .run(&spoils, |spoils| {
        let mut lines: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
        for (what, one, other, byte) in spoils {
            let (one, other) = (one.index(lines.len()), other.index(lines.len()));
            match what {
                0 => _ = lines.remove(one),
                1 => lines.swap(one, other),
                2 => lines.insert(one, lines[other].clone()),
                3 => {
                    let at = usize::from(byte) % lines[one].len().max(1);
                    if let Some(spoilt) = lines[one].get_mut(at) {
                        *spoilt = byte;
                    }
                }
                _ => lines[one].truncate(usize::from(byte)),
            }
            if lines.is_empty() {
                break;
            }
        }
        let patch = lines.concat();
        if let Ok(scanned) = scan(&patch, &Limits::default(), RULES) {
            **seen.borrow_mut() += 1;
            for file in &scanned.files {
                prop_assert_eq!(file.hunks.is_some(), hunks(&patch, file).next().is_some());
                prop_assert_eq!(file.binary.is_some(), binary_data(&patch, file).is_some());
                prop_assert!(path::check(&file.path, RULES).is_ok());
            }
        }
        Ok(())
    })
    .expect("read or refused");
    assert!(read > cases(), "enough patches are read: {read}");
}
