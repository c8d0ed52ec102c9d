//! Patches that a real Git makes of random trees, and what Git itself reads in them.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use proptest::{
    sample::{Index, select},
    test_runner::{Config, TestCaseError, TestCaseResult, TestRunner},
};
use tempfile::TempDir;

use super::*;

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

struct Lab {
    directory: TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        lab.git(&["init", "--quiet", "--bare", "."], b"");
        lab
    }

    fn git(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("git")
            .args(["-c", "core.protectNTFS=false"])
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("HOME", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Git");
        let mut stdin = child.stdin.take().expect("a pipe");
        let input = input.to_vec();
        // Both pipes may fill up.
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
        let output = child.wait_with_output().expect("Git's output");
        let _ = writer.join();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {words}");
        output.stdout
    }

    /// Stores a tree, and returns its hash.
    fn tree(&self, files: &Files) -> String {
        let mut index = Vec::new();
        for (name, entry) in files {
            let blob = |content: &[u8]| {
                let hash = self.git(&["hash-object", "-w", "--stdin"], content);
                String::from_utf8(hash).expect("a hash").trim().to_owned()
            };
            let (mode, hash) = match entry {
                Entry::Text(text, false) => ("100644", blob(text)),
                Entry::Text(text, true) => ("100755", blob(text)),
                Entry::Binary(bytes) => ("100644", blob(bytes)),
                Entry::Link(target) => ("120000", blob(target.as_bytes())),
                Entry::Submodule(number) => (
                    "160000",
                    format!("{number:02x}").repeat(20).replace("00", "01"),
                ),
            };
            index.extend(format!("{mode} {hash}\t").as_bytes());
            index.extend(NAMES[*name]);
            index.push(0);
        }
        self.git(&["read-tree", "--empty"], b"");
        self.git(&["update-index", "-z", "--index-info"], &index);
        let tree = self.git(&["write-tree"], b"");
        String::from_utf8(tree).expect("a hash").trim().to_owned()
    }
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

fn compare(lab: &Lab, before: &Files, after: &Files) -> TestCaseResult {
    let fail = |reason: String| TestCaseError::fail(reason);
    let (old, new) = (lab.tree(before), lab.tree(after));
    let found = [
        "--find-renames=50%",
        "--find-copies=50%",
        "--find-copies-harder",
    ];
    let diff = |form: &[&str]| {
        let arguments = [
            &["diff-tree", "-r", "--no-textconv"],
            form,
            &found,
            &[&old, &new],
        ]
        .concat();
        lab.git(&arguments, b"")
    };
    let patch = diff(&["-p", "--binary", "--full-index"]);
    let mut git = raw(&diff(&["--raw", "-z"]));
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
