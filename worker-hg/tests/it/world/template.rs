//! The repositories that every world begins with, and a clone as a worker makes it.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use tempfile::TempDir;
use worker::source_tip;

use super::{Repo, fixture, hg};

/// What is made of the first of them.
const REPOSITORIES: [&str; 3] = ["source", "try", "clone"];

/// A source, a Try repository and a clone of the source as every world begins with them. Made once, and kept beside what is built.
pub(super) fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        base_files().hash(&mut hasher);
        (REPOSITORIES, source_tip::FILE).hash(&mut hasher);
        let made =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hg-world-{:x}", hasher.finish()));
        if !made.exists() {
            let making = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let source = Repo::init(making.path().join("source"));
            for (path, content) in base_files() {
                source.write(path, &content);
            }
            source.commit("the beginning");
            for clone in &REPOSITORIES[1..] {
                let clone_it = ["clone", "--quiet", "--noupdate", "source", clone];
                hg(making.path(), &clone_it);
            }
            source_tip::write(&making.path().join("clone"), &source.tip()).unwrap();
            // Another process may have been faster: its template is as good.
            if fs::rename(making.path(), &made).is_ok() {
                let _ = making.keep();
            }
        }
        made
    })
}

pub(super) fn copy_directory(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success(), "cannot copy {}", from.display());
}

/// The files that the recorded patches change.
fn base_files() -> Vec<(&'static str, Vec<u8>)> {
    let numbered = |prefix: &str, count: u32| {
        (1..=count)
            .map(|n| format!("{prefix} {n}\n"))
            .collect::<String>()
    };
    vec![
        ("hello.txt", numbered("line", 20).into_bytes()),
        (
            "unicode.txt",
            "héllo wörld\nсъешь ещё\n日本語 テキスト\nplain\n".into(),
        ),
        ("latin1.txt", "café crème\nplain\nthird\n".into()),
        ("noeol.txt", b"alpha\nbeta\ngamma".to_vec()),
        ("with space.txt", b"a\nb\nc\n".to_vec()),
        ("old_name.txt", numbered("rename me", 6).into_bytes()),
        ("old_pure.txt", b"pure\n".to_vec()),
        ("copysrc.txt", numbered("copy src", 7).into_bytes()),
        ("crlf.txt", b"one\r\ntwo\r\nthree\r\nfour\r\n".to_vec()),
        ("todelete.txt", b"bye\nbye\n".to_vec()),
        ("script.sh", b"#!/bin/sh\n".to_vec()),
        ("stack.txt", numbered("stack line", 10).into_bytes()),
        ("data.bin", fixture("data.bin.before")),
    ]
}
