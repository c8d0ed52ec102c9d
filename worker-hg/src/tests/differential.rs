//! Compares Mercurial's reading of patches with the scanner's.
//!
//! The test spoils patches of a corpus, and a real Mercurial imports those that the scanner accepts. Mercurial may
//! refuse a patch, with output that blames the patch. Otherwise it has to make one changeset, with the changes that the
//! scanner returned.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use proptest::test_runner::{Config, TestCaseError, TestCaseResult, TestRunner};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use worker::{
    Limits, TRY_CONFIG,
    patch::{FileChange, Kind, ParsedPatch, Rules, path_tree::PathFilter, scan},
    process::CommandOutput,
};

use super::corpus;
use crate::{command_server::CommandServer, framing::Sink, manifest::ManifestReader, messages};

/// The cases that fit into a few seconds. `PROPTEST_CASES` sets another number.
const CASES: u32 = 600;

/// A repository, and a Mercurial that imports patches into it one after another, each on the first changeset.
struct Lab {
    home: TempDir,
    runtime: Runtime,
    server: CommandServer,
    base: String,
    manifest: Vec<u8>,
    newest: i64,
    seen: Seen,
}

/// The outcomes of the patches. Without committed ones, the test shows nothing.
#[derive(Debug, Default)]
struct Seen {
    refused: u32,
    failed: u32,
    committed: u32,
}

impl Lab {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        let repository = home.path().join("repository");
        let made = Command::new("hg")
            .arg("init")
            .arg(&repository)
            .env("HGRCPATH", "")
            .status()
            .expect("Mercurial");
        assert!(made.success());
        let mut lab = Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            server: CommandServer::new("hg".into(), None, repository, Limits::default().memory),
            home,
            base: String::new(),
            manifest: Vec::new(),
            newest: -1,
            seen: Seen::default(),
        };
        let output = lab.import(&corpus::base());
        assert_eq!(output.code, 0, "{}", output.words());
        lab.newest = 0;
        lab.base = lab.hg(&["log", "--rev=tip", "--template={node}"]);
        let manifest = lab.hg(&["log", "--rev=tip", "--template={manifest % \"{node}\"}"]);
        lab.manifest = lab
            .run(&["debugdata", "--manifest", "--", &manifest])
            .stdout;
        let base = lab.base.clone();
        lab.hg(&["debugsetparents", "--", &base]);
        lab
    }

    fn run(&mut self, arguments: &[&str]) -> CommandOutput {
        self.runtime
            .block_on(self.server.run(arguments, Duration::from_secs(60)))
            .expect("an answer")
    }

    fn hg(&mut self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.code, 0, "{arguments:?}: {}", output.words());
        shown(&output.stdout)
    }

    fn import(&mut self, patch: &[u8]) -> CommandOutput {
        let message = format!("--message=patch {}", self.newest + 1);
        let path = self.home.path().join("patch");
        std::fs::write(&path, patch).expect("written");
        self.run(&[
            "import",
            "--bypass",
            "--user=Ada",
            "--date=0 0",
            &message,
            "--",
            &path.display().to_string(),
        ])
    }

    /// The lines that a template makes of the newest changeset.
    fn newest(&mut self, template: &str) -> BTreeSet<Vec<u8>> {
        let template = format!("--template={template}");
        let output = self.run(&["log", "--rev=tip", &template]);
        output
            .stdout
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }

    /// Fails with the difference between Mercurial and the scanner.
    fn compare(&mut self, patch: &[u8]) -> Result<(), String> {
        let limits = Limits {
            stack_bytes: 1 << 20,
            ..Limits::default()
        };
        let Ok(scanned) = scan(patch, &limits, Rules::Mercurial) else {
            self.seen.refused += 1;
            return Ok(());
        };
        let stack = [scanned];
        let mut reader = ManifestReader::new(PathFilter::new(&stack, Some(TRY_CONFIG)));
        reader.take(&self.manifest);
        let [scanned] = stack;
        if reader.tree().apply(&scanned).is_err() {
            self.seen.refused += 1;
            return Ok(());
        }
        let output = self.import(
            scanned
                .prepared
                .as_ref()
                .map_or(patch, |prepared| &prepared.content),
        );
        let place = self.hg(&["log", "--rev=tip", "--template={rev} {p1node} {p2rev}"]);
        if output.code != 0 {
            self.seen.failed += 1;
            if !messages::is_patch_fault(&output) {
                return Err(format!("we would take the blame for {}", output.words()));
            }
            let none = place.starts_with(&format!("{} ", self.newest));
            return if none {
                Ok(())
            } else {
                Err(format!("failed and made {place}: {}", output.words()))
            };
        }
        self.seen.committed += 1;
        let expected = format!("{} {} -1", self.newest + 1, self.base);
        let newest = place
            .split(' ')
            .next()
            .and_then(|number| number.parse().ok());
        self.newest = newest.expect("a number");
        if place != expected {
            return Err(format!("{place} was made, not {expected}"));
        }
        self.compare_files(&scanned)
    }

    fn compare_files(&mut self, scanned: &ParsedPatch) -> Result<(), String> {
        let files = self.newest("{files % '{file}\n'}");
        let touched: BTreeSet<Vec<u8>> = scanned.touched().map(<[u8]>::to_vec).collect();
        if let Some(file) = files.difference(&touched).next() {
            return Err(format!("{} was not announced", shown(file)));
        }
        let manifest = self
            .newest("{manifest % '{node}'}")
            .pop_first()
            .expect("a manifest");
        let manifest = self
            .run(&["debugdata", "--manifest", "--", &shown(&manifest)])
            .stdout;
        // Some announced changes change nothing: a patch may make a file what it is.
        if let Some(file) = touched
            .difference(&files)
            .find(|file| entry(&manifest, file) != entry(&self.manifest, file))
        {
            return Err(format!("{} changed unannounced", shown(file)));
        }
        let there: BTreeSet<&[u8]> = entries(&manifest).map(|(path, _)| path).collect();
        if scanned.removed_by_hunks().any(|path| there.contains(path)) {
            // The worker finds that after the import, and refuses the patch then.
            return Ok(());
        }
        for path in &there {
            check_path(path)?;
            let mut above = path
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b'/')
                .map(|(end, _)| &path[..end]);
            if let Some(above) = above.find(|above| there.contains(above)) {
                return Err(format!("{} lies below {}", shown(path), shown(above)));
            }
        }
        let comes_again = |file: &FileChange| {
            scanned
                .files
                .iter()
                .any(|other| other.path == file.path && other.kind.adds())
        };
        for file in scanned
            .files
            .iter()
            .filter(|file| file.kind != Kind::Delete || !comes_again(file))
        {
            let is_there = there.contains(file.path.as_slice());
            if is_there == (file.kind == Kind::Delete) {
                return Err(format!(
                    "{} {:?}: there is {is_there}",
                    shown(&file.path),
                    file.kind
                ));
            }
        }
        let copies = self.newest("{file_copies % '{name}\\0{source}\n'}");
        let announced = |copy: &Vec<u8>| {
            scanned.files.iter().any(|file| match &file.kind {
                Kind::Copy(source) | Kind::Rename(source) => {
                    [&file.path, &b"\0"[..], source].concat() == *copy
                }
                _ => false,
            })
        };
        match copies.iter().find(|copy| !announced(copy)) {
            Some(copy) => Err(format!("the copy {} was not announced", shown(copy))),
            None => Ok(()),
        }
    }
}

/// Mercurial's own rules for paths, in a second implementation.
fn check_path(path: &[u8]) -> Result<(), String> {
    let text = shown(path)
        .to_lowercase()
        .replace(|c: char| worker::text::is_invisible(c), "");
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part == ".hg";
    if text.split(['/', '\\']).any(bad)
        || text.starts_with(".hgsub")
        || Path::new(&text).is_absolute()
    {
        return Err(format!("{text} is in the tree"));
    }
    Ok(())
}

fn entries(manifest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    manifest.split(|&byte| byte == b'\n').filter_map(|line| {
        line.iter()
            .position(|&byte| byte == 0)
            .map(|end| line.split_at(end))
    })
}

fn entry<'a>(manifest: &'a [u8], path: &[u8]) -> Option<&'a [u8]> {
    entries(manifest)
        .find(|(other, _)| *other == path)
        .map(|(_, entry)| entry)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn mercurial_does_with_a_patch_what_the_scanner_says() {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES);
    let corpus = corpus::patches();
    let lab = std::cell::RefCell::new(Lab::new());
    for patch in &corpus {
        assert_eq!(lab.borrow_mut().compare(patch), Ok(()), "{}", shown(patch));
    }
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&corpus::spoilt(corpus), |patch| -> TestCaseResult {
        lab.borrow_mut()
            .compare(&patch)
            .map_err(|reason| TestCaseError::fail(format!("{reason}\n{}", shown(&patch))))
    });
    let seen = &lab.borrow().seen;
    println!("{seen:?}");
    result.expect("the same");
    assert!(
        seen.committed > cases / 10,
        "enough patches get through to show something: {seen:?}"
    );
}
