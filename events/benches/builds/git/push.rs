//! A bare `git push` of the commits that the worker has pushed: the least that a build can take.

use std::path::PathBuf;

use runtime::{Clock, SystemClock};
use worker::GitSettings;

use super::original::git;
use crate::{
    original::plain_ssh,
    report::since,
    stack::Stack,
    stage::{Stage, Try, repository},
};

/// Whether the ssh connection of a push is its own, or is kept from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    Own,
    Kept,
}

/// A clone that pushes to a Try of its own.
pub struct BarePush {
    clone: PathBuf,
    ssh: String,
    target: Try,
}

impl BarePush {
    pub async fn start(stage: &mut Stage, connection: Connection) -> Self {
        let target = stage.fresh_try().await;
        let clone = target.path().with_extension("clone");
        let made = stage.vcs.make_try(stage.source(), &clone).await;
        made.expect("a clone is made");
        let keeping = match connection {
            Connection::Own => "",
            // A socket has a short path: it is in the clone, where `git` starts ssh.
            Connection::Kept => {
                " -oControlMaster=auto -oControlPersist=60 -oControlPath=./connection"
            }
        };
        let ssh = plain_ssh(stage) + keeping;
        Self { clone, ssh, target }
    }

    /// Takes the commits of a stack from a Try, and pushes them. Returns the seconds of the push.
    pub fn push(&self, stack: &Stack, from: &Try) -> f64 {
        let reference = GitSettings::default().reference(&stack.build(repository()));
        let from = from.path().display().to_string();
        self.run(&["fetch", "--quiet", "--no-tags", &from, &reference]);
        let begin = SystemClock.now();
        let head = format!("FETCH_HEAD:{reference}");
        self.run(&["push", "--quiet", &self.target.url, &head]);
        since(begin)
    }

    fn run(&self, arguments: &[&str]) {
        let status = git()
            .current_dir(&self.clone)
            .env("GIT_DIR", &self.clone)
            .env("GIT_SSH_COMMAND", &self.ssh)
            .args(arguments)
            .status();
        assert!(status.expect("git starts").success(), "{arguments:?}");
    }

    /// How many heads it pushed.
    pub async fn heads(&self) -> usize {
        self.target.heads().await
    }
}
