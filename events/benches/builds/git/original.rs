//! What LLVM's pre-merge worker does (`scripts/phabtalk/apply_patch2.py` in google/llvm-premerge-checks): Git's commands
//! in a checkout with a working tree. It has the fork, to which it pushes, as `origin`, and the source as `upstream`.
//!
//! These commands are left out, in its favour: a pull from `origin`, a push of the main branch to it, and a second
//! `reset --hard` and `clean` before the patches.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use runtime::{Clock, SystemClock};

use crate::{
    original::{Original, add_step, plain_ssh},
    report::{Times, since},
    stack::Stack,
    stage::{Stage, Try},
};

pub struct Llvm {
    copy: PathBuf,
    ssh: String,
    base: String,
}

impl Llvm {
    /// Makes its checkout.
    pub fn clone(stage: &Stage) -> PathBuf {
        let copy = stage.path("copy");
        let status = git()
            .env("GIT_SSH_COMMAND", plain_ssh(stage))
            .args(["clone", "--quiet", "--origin=upstream"])
            .arg(stage.source_url())
            .arg(&copy)
            .status();
        assert!(
            status.expect("git starts").success(),
            "the source is cloned"
        );
        copy
    }

    pub fn start(stage: &Stage, copy: &Path, target: &Try) -> Self {
        let llvm = Self {
            copy: copy.to_owned(),
            ssh: plain_ssh(stage),
            base: stage.tip.clone(),
        };
        // The last one's branches are of no use.
        for arguments in [
            &["checkout", "--quiet", "main"][..],
            &["config", "--remove-section", "remote.origin"],
        ] {
            let _ = llvm.command(arguments).stderr(Stdio::null()).status();
        }
        llvm.run(&["remote", "add", "origin", &target.url], "");
        llvm
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = git();
        command
            .current_dir(&self.copy)
            .env("GIT_SSH_COMMAND", &self.ssh)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs a command, and returns the seconds that it took.
    fn run(&self, arguments: &[&str], input: &str) -> f64 {
        let begin = SystemClock.now();
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("git starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("git reads");
        drop(stdin);
        let output = child.wait_with_output().expect("git ends");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        since(begin)
    }
}

impl Original for Llvm {
    fn build(&mut self, stack: &Stack) -> Times {
        let begin = SystemClock.now();
        let mut steps = Vec::new();
        let mut step = |name: &str, arguments: &[&str], input: &str| {
            let seconds = self.run(arguments, input);
            add_step(&mut steps, name, seconds);
        };
        let branch = format!("phab-diff-{}", stack.number);

        step("sync", &["fetch", "--all"], "");
        step("sync", &["checkout", "main"], "");
        step("sync", &["reset", "--hard"], "");
        step("sync", &["clean", "-fdx"], "");
        step("sync", &["pull", "upstream", "main"], "");
        step("fetch", &["fetch", "--all"], "");
        step("branch", &["branch", &branch, &self.base], "");
        let head = format!("refs/heads/{branch}");
        step("branch", &["symbolic-ref", "HEAD", &head], "");
        step("branch", &["reset", "--hard"], "");
        for (patch, at) in stack.patches.iter().zip(1..) {
            let message = format!("--message=applying Diff {at}");
            step("patches", &["apply", "-"], patch);
            step("patches", &["add", "-A"], "");
            step("patches", &["commit", "--quiet", &message], "");
        }
        step("push", &["push", "--force", "origin", &branch], "");
        Times {
            total: since(begin),
            steps,
        }
    }
}

/// The same `git` that the worker finds, untouched by what the user has configured.
pub fn git() -> Command {
    let mut command = Command::new("git");
    command
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.org")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.org");
    command
}
