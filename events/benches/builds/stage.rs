//! What both sides work with: a source and Try repositories behind an ssh server.

use std::{
    fs,
    path::{Path, PathBuf},
};

use build::Phid;
use testkit::Sshd;
use worker::{RepositorySettings, Settings};

use crate::{
    content::{Content, Shape},
    repository::Cache,
    stack::Stack,
    vcs::Vcs,
};

pub struct Stage {
    pub vcs: Vcs,
    pub shape: &'static Shape,
    pub content: Content,
    pub sshd: Sshd,
    /// The newest commit of the source.
    pub tip: String,
    source: PathBuf,
    run: PathBuf,
    /// The directory of the worker's clones.
    clones: &'static str,
    /// How many stacks were made.
    stacks: u64,
    /// How many Try repositories were made.
    tries: usize,
}

impl Stage {
    pub async fn set_up(cache: &Cache, shape: &'static Shape) -> Self {
        let source = cache.repository(shape).await;
        let run = cache.run();
        let sshd = Sshd::start(run.join("sshd")).await.expect("sshd starts");
        let vcs = cache.vcs;
        let tip = vcs.tip(&source).await;
        Self {
            vcs,
            shape,
            content: Content::new(),
            sshd,
            tip,
            source,
            run,
            clones: "clones",
            stacks: 0,
            tries: 0,
        }
    }

    /// A path for something that this run makes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    pub fn source(&self) -> &Path {
        &self.source
    }

    pub fn source_url(&self) -> String {
        self.sshd.url(&self.source)
    }

    /// An empty Try. Heads gather there and slow each push down, so each measure gets its own.
    pub async fn fresh_try(&mut self) -> Try {
        self.tries += 1;
        let path = self.path(&format!("try-{}", self.tries));
        let made = self.vcs.make_try(&self.source, &path).await;
        made.expect("a Try is made");
        Try {
            url: self.sshd.url(&path),
            vcs: self.vcs,
            path,
        }
    }

    /// A stack that nobody has seen.
    pub fn stack(&mut self, length: usize) -> Stack {
        self.stacks += 1;
        Stack::new(self, self.stacks, length)
    }

    /// A stack of these patches.
    pub fn stack_of(&mut self, patches: Vec<String>) -> Stack {
        self.stacks += 1;
        Stack::of(self, self.stacks, patches)
    }

    /// Has everything from now on stand on another source.
    pub async fn move_to(&mut self, source: PathBuf) {
        self.tip = self.vcs.tip(&source).await;
        (self.source, self.clones) = (source, "other-clones");
    }

    /// A stack of one patch of at least `bytes`.
    pub fn huge_stack(&mut self, bytes: usize) -> Stack {
        self.stacks += 1;
        Stack::huge(self, self.stacks, bytes)
    }

    /// The settings of a worker that pushes to this Try.
    pub fn settings(&self, target: &Try) -> Settings {
        let repository = RepositorySettings {
            ssh_user: Some(self.sshd.user().to_owned()),
            vcs: self.vcs.settings(),
            mode: self.vcs.try_mode(),
            default_revision: self.vcs.settings().default_revision().to_owned(),
            ssh_key: Some(self.sshd.private_key().expect("a key").into()),
            ..RepositorySettings::new(repository(), "bench", &self.source_url(), &target.url)
        };
        let mut settings = Settings::new(vec![repository], self.clones());
        settings.known_hosts = Some(self.sshd.known_hosts());
        settings
    }

    /// Where the worker keeps its clone.
    pub fn clones(&self) -> PathBuf {
        self.path(self.clones)
    }
}

/// Frees what a run takes, which is gigabytes.
impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.run);
    }
}

/// A Try repository.
pub struct Try {
    pub url: String,
    vcs: Vcs,
    path: PathBuf,
}

impl Try {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many heads were pushed to it.
    pub async fn heads(&self) -> usize {
        self.vcs.heads(&self.path).await
    }
}

/// Frees what a Try takes.
impl Drop for Try {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The name of the repository on Phabricator.
pub fn repository() -> Phid {
    Phid::parse_as(Phid::REPOSITORY, "PHID-REPO-aaaaaaaaaaaaaaaaaaaa").expect("a PHID")
}
