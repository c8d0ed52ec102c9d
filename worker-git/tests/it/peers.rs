//! Pushes to real servers, and each way in which they end.

mod daemon;
mod gitolite;
mod http;
mod path;
mod ssh;
mod tls;

pub use ssh::over_ssh;

use build::BuildUpdate;

use crate::world::{Repo, World};

/// The ref of the builds of D7.
pub const REF: &str = "refs/heads/phabricator/D7/1007";

impl Repo {
    /// Installs a hook, a script for `sh`.
    pub fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path.join("hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Removes its hooks.
    pub fn unhook(&self) {
        std::fs::remove_dir_all(self.path.join("hooks")).unwrap();
    }

    /// Makes a commit on nothing with this name, as somebody else would push one.
    pub fn strange_commit(&self, reference: &str) -> String {
        let tree = self.git(&["hash-object", "-w", "-t", "tree", "/dev/null"]);
        let commit = self.git(&["commit-tree", "-m", "not ours", &tree]);
        self.git(&["update-ref", reference, &commit]);
        commit
    }
}

impl World {
    /// The build of D7 must be pushed to `destination`.
    async fn lands(&self, destination: &Repo) {
        let build = self.simple_build(7);
        // It may have failed before.
        self.die_before_the_end_is_recorded(&build).await;
        let pushed = self.pushed(&build).await;
        assert_eq!(destination.rev(REF), pushed.revision);
        assert_eq!(destination.branches(), ["phabricator/D7/1007"]);
    }

    /// The build of D7 must fail by our fault, and be tried so often: the words for operators.
    async fn fails(&self, attempts: u32) -> String {
        let failed = self.failed(&self.simple_build(7)).await;
        let (tried, words) = failed.split_once(": ").unwrap();
        assert_eq!(tried, attempts.to_string(), "{words}");
        words.to_owned()
    }

    /// The build of D7 must fail at once, since an operator has to act: the summary for its author, and the words.
    async fn is_barred(&self) -> (String, String) {
        let words = self.fails(1).await;
        let build = self.simple_build(7);
        self.die_before_the_end_is_recorded(&build).await;
        let BuildUpdate::InfraFailed(failure) = self.build(&build).await else {
            panic!("it did not fail");
        };
        (failure.summary, words)
    }
}

/// Asserts that a failure has this summary, and these words for operators.
#[track_caller]
pub fn assert_barred((summary, words): (String, String), expected: &str, part: &str) {
    assert_eq!(summary, expected, "{words}");
    assert!(words.contains(part), "{words}");
}
