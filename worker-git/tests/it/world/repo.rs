//! A repository, and the commands of the tests on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A repository that tests make and look at.
pub struct Repo {
    pub path: PathBuf,
}

impl Repo {
    /// Makes an empty repository with a working tree.
    pub fn init(&self) {
        fs::create_dir(&self.path).unwrap();
        self.git(&["init", "--quiet", "--initial-branch=main"]);
        self.git(&["config", "uploadpack.allowFilter", "true"]);
    }

    /// Makes an empty repository without a working tree.
    pub fn init_bare(&self) {
        fs::create_dir(&self.path).unwrap();
        self.git(&["init", "--quiet", "--bare", "--initial-branch=main"]);
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits the working tree, on a fixed date.
    pub fn commit(&self, message: &str) -> String {
        self.commit_at(message, "2026-11-20T12:00:00Z")
    }

    pub fn commit_at(&self, message: &str, date: &str) -> String {
        self.git(&["add", "--all"]);
        let output = run(
            &self.path,
            &["commit", "--quiet", "--allow-empty", "-m", message],
            &[("GIT_AUTHOR_DATE", date), ("GIT_COMMITTER_DATE", date)],
        );
        assert!(output.status.success(), "{output:?}");
        self.tip()
    }

    /// The output of a command that must succeed, as text.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = String::from_utf8(self.output(arguments)).unwrap();
        output.trim_end().to_owned()
    }

    /// The output of a command that must succeed.
    pub fn output(&self, arguments: &[&str]) -> Vec<u8> {
        let output = run(&self.path, arguments, &[]);
        assert!(
            output.status.success(),
            "git {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The commit at its `HEAD`.
    pub fn tip(&self) -> String {
        self.rev("HEAD")
    }

    pub fn rev(&self, name: &str) -> String {
        self.git(&["rev-parse", "--verify", name])
    }

    /// Its branches.
    pub fn branches(&self) -> Vec<String> {
        let names = self.git(&["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"]);
        names.lines().map(str::to_owned).collect()
    }

    /// Whether it has an object.
    pub fn has(&self, object: &str) -> bool {
        run(
            &self.path,
            &["cat-file", "-e", object],
            &[("GIT_NO_LAZY_FETCH", "1")],
        )
        .status
        .success()
    }

    /// Its commits, newest first, from `head` down to `base`.
    pub fn log(&self, base: &str, head: &str, format: &str) -> String {
        let (format, range) = (format!("--format={format}"), format!("{base}..{head}"));
        self.git(&["log", &format, &range])
    }

    /// The diff of the working tree, as Phabricator renders it.
    pub fn diff(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["diff", "--cached", "--binary", "--full-index", "-M", "-C"]) + "\n"
    }
}

fn run(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "src")
        .env("GIT_AUTHOR_EMAIL", "src@example.org")
        .env("GIT_COMMITTER_NAME", "src")
        .env("GIT_COMMITTER_EMAIL", "src@example.org")
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}
