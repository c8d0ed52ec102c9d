//! A real Git, and its repository.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Entry, Files, NAMES};

/// A bare repository.
pub(super) struct Lab {
    pub(super) directory: TempDir,
}

impl Lab {
    pub(super) fn new() -> Self {
        let lab = Self {
            directory: tempfile::tempdir().expect("a directory"),
        };
        lab.git(&["init", "--quiet", "--bare", "."], b"");
        lab
    }

    pub(super) fn git(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
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
    pub(super) fn tree(&self, files: &Files) -> String {
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
