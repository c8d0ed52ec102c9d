//! The worlds of the tests, with Git.

mod refs;
mod repo;
mod side;

use std::{
    fs,
    ops::{Deref, DerefMut},
    os::unix::fs::PermissionsExt,
};

use worker::{GitSettings, VcsSettings};

pub use refs::Closed;
pub use repo::Repo;
pub use side::GitSide;
pub use worlds::{TestPatch, add, change, phid, until};

/// A type of this crate, so that tests add what they need of it.
pub struct World(worlds::World<GitSide>);

impl World {
    pub fn new() -> Self {
        Self(worlds::World::new())
    }

    pub fn git_settings(&mut self) -> &mut GitSettings {
        match &mut self.repository().vcs {
            VcsSettings::Git(git) => git,
            VcsSettings::Mercurial => panic!("the repository is Mercurial's"),
        }
    }

    /// Has the worker run a script in place of Git, which finds the real one as `git`.
    pub fn wrap_git(&mut self, script: &str) {
        let path = self.path("wrapped-git");
        fs::write(&path, format!("#!/bin/sh\n{script}\nexec git \"$@\"\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.side.program = path;
    }
}

impl Deref for World {
    type Target = worlds::World<GitSide>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}
