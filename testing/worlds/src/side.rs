//! What the suite needs of a version control.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use worker::{Backend, RepositorySettings};

/// A version control, with what its worker depends on beside the repositories.
pub trait Side: Default + Send + Sync + 'static {
    type Repo: Repository;

    /// The directory in which it has its own files, at the root of a working tree.
    const OWN_DIRECTORY: &'static str;

    /// Makes a source with [`base_files`], and its destination.
    fn create(&mut self, source: &Self::Repo, destination: &Self::Repo);

    /// Sets what is its own.
    fn configure(repository: &mut RepositorySettings);

    fn backend(&self) -> Backend;

    /// May put a clone of the source into place as a worker makes it, to save time.
    fn plant(&self, _source: &Self::Repo, _clone: &Self::Repo) {}

    /// Whether nothing of a build is left in a clone.
    fn is_tidy(clone: &Self::Repo, tip: &str) -> bool;

    /// Has the transfers from the source hang, with [`crate::hanging_hook`], until [`Side::let_transfers_end`]. A worker
    /// that is started later meets both.
    fn hang_transfers(&mut self, source: &Self::Repo, note: &Path);

    fn let_transfers_end(&mut self, source: &Self::Repo);

    /// What can be wrong with a clone when its worker starts.
    fn damages() -> Vec<Damage>;

    /// Damages what a clone has of `hello.txt`, so that only a build that changes the file meets it.
    fn damage_hello(clone: &Self::Repo);
}

/// A name, and what makes it so.
pub type Damage = (&'static str, fn(&Path));

/// When a hook of a destination runs.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// The destination can still refuse the head.
    BeforePush,
    /// The destination has stored the head.
    AfterPush,
}

/// A commit, as a repository shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub id: String,
    pub parent: String,
    /// `Name <mail>`; without a mail, the name alone.
    pub author: String,
    /// Seconds since 1970, of the author and the committer.
    pub date: i64,
    pub message: String,
    /// The paths that it changes, in order.
    pub files: Vec<String>,
}

/// A repository that tests make and look at.
pub trait Repository: Send + Sync {
    fn at(path: PathBuf) -> Self;

    fn path(&self) -> &Path;

    /// The address at which the worker finds it.
    fn address(&self) -> String;

    /// Writes a file of the working tree.
    fn put(&self, path: &str, content: &[u8]) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits the working tree on a fixed date, which is before those of all diffs.
    fn commit_all(&self, message: &str) -> String {
        self.commit_on(message, "2026-11-01T00:00:00Z")
    }

    /// Commits the working tree on a date.
    fn commit_on(&self, message: &str, date: &str) -> String;

    /// The newest commit.
    fn newest(&self) -> String;

    /// Goes on from another commit: the next commits are on another line.
    fn go_to(&self, revision: &str);

    /// Gives a commit a name that a clone follows; [`Repository::unname`] takes it away.
    fn name(&self, name: &str, revision: &str);

    fn unname(&self, name: &str);

    /// Removes the newest commit, as if it had never been.
    fn lose_newest(&self);

    /// The content of a file in a commit.
    fn content(&self, revision: &str, path: &str) -> Vec<u8>;

    /// The path is a plain file in a commit.
    fn is_plain_file(&self, revision: &str, path: &str) -> bool;

    /// The commits between a commit and one of its descendants, the oldest first.
    fn history(&self, base: &str, head: &str) -> Vec<Commit>;

    /// The heads that builds pushed here.
    fn pushed(&self) -> Vec<String>;

    /// Has a destination run a script, for `sh`, on each push. What it prints is shown to who pushes.
    fn hook(&self, moment: Moment, script: &str);

    fn unhook(&self);

    /// Fails if the repository is not whole.
    fn verify(&self);
}

/// Copies a directory with all that it holds.
pub fn copy_directory(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success(), "cannot copy {}", from.display());
}

/// A file of numbered lines.
pub fn numbered(prefix: &str, count: u32) -> String {
    (1..=count).map(|n| format!("{prefix} {n}\n")).collect()
}

/// The files of a source, which the recorded patches change.
pub fn base_files() -> Vec<(&'static str, Vec<u8>)> {
    let numbered = |prefix, count| numbered(prefix, count).into_bytes();
    vec![
        ("hello.txt", numbered("line", 20)),
        (
            "unicode.txt",
            "héllo wörld\nсъешь ещё\n日本語 テキスト\nplain\n".into(),
        ),
        ("latin1.txt", "café crème\nplain\nthird\n".into()),
        ("noeol.txt", b"alpha\nbeta\ngamma".to_vec()),
        ("with space.txt", b"a\nb\nc\n".to_vec()),
        ("old_name.txt", numbered("rename me", 6)),
        ("old_pure.txt", b"pure\n".to_vec()),
        ("copysrc.txt", numbered("copy src", 7)),
        ("crlf.txt", b"one\r\ntwo\r\nthree\r\nfour\r\n".to_vec()),
        ("todelete.txt", b"bye\nbye\n".to_vec()),
        ("script.sh", b"#!/bin/sh\n".to_vec()),
        ("stack.txt", numbered("stack line", 10)),
        (
            "data.bin",
            include_bytes!("../../../worker-hg/tests/fixtures/data.bin.before").to_vec(),
        ),
    ]
}
