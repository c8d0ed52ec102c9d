//! A repository that is built: its source, which goes on, and its Try, whose content is read at the end.

mod git;
mod hg;
mod reflog;

use std::{fs, path::Path};

use anyhow::Context;
use async_trait::async_trait;
use build::Phid;
use serde_json::{Value, json};
use testkit::{
    Sshd,
    repositories::{Repositories, git as run_git, hg as run_hg},
};

use super::{vcs::Vcs, verify::Try};

/// A repository that is built.
pub struct Repository {
    /// Its name on Phabricator that cannot change.
    pub phid: Phid,
    /// Its commits at the start, the newest first.
    pub history: Vec<String>,
    name: String,
    source_and_try: Box<dyn SourceAndTry>,
    /// How many commits its source got since.
    commits: usize,
}

/// What the head of a build has to hold.
#[derive(Debug, Clone)]
pub struct Content {
    /// The revision that is built.
    pub revision_id: u64,
    /// The diff that is built.
    pub diff_id: u64,
    /// Whether its revision is closed some time, after which the head need not stay.
    pub closes: bool,
    /// The base, if the stack names one that the source has.
    pub base: Option<String>,
    /// The patches of the stack, the lowest first: the diff of each, and its text.
    pub patches: Vec<(Phid, String)>,
}

/// A source and its Try, with one version control.
#[async_trait]
trait SourceAndTry {
    /// The two repositories.
    fn repositories(&self) -> &Repositories;

    /// The keys of a repository in the configuration that are about its version control.
    fn keys(&self, try_url: String) -> Value;

    /// The commits of the source, the newest first.
    async fn history(&self) -> anyhow::Result<Vec<String>>;

    /// Commits what was changed in the source.
    async fn commit(&self) -> anyhow::Result<()>;

    /// Takes back what a program that was killed at Try has left half done, as the operators of Try do.
    async fn recover_try(&self) -> anyhow::Result<()>;

    /// What was pushed, and what is wrong with it by what the builds have to hold.
    async fn pushed(&self, builds: &[&Content]) -> anyhow::Result<Try>;
}

impl Repository {
    /// Makes repository number `number` of a campaign in `directory`, which becomes `phid` on Phabricator.
    pub async fn create(
        vcs: Vcs,
        directory: &Path,
        number: usize,
        phid: impl FnOnce(&str) -> Phid,
    ) -> anyhow::Result<Self> {
        let name = format!("product-{number}");
        let directory = directory.join(&name);
        fs::create_dir(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let repositories = Repositories::create_with(vcs.side(), &directory).await?;
        let source_and_try: Box<dyn SourceAndTry> = match vcs {
            Vcs::Hg => Box::new(hg::Hg::new(repositories)),
            // Builds of the first one have a commit with a file of their own, and those of the second one do not.
            Vcs::Git => Box::new(git::Git::prepare(repositories, number == 0).await?),
        };
        Ok(Self {
            phid: phid(&name),
            history: source_and_try.history().await?,
            name,
            source_and_try,
            commits: 0,
        })
    }

    /// Its part of the configuration.
    pub fn configuration(&self, sshd: &Sshd, key: &str) -> Value {
        let mut keys = self.source_and_try.keys(sshd.url(self.try_repository()));
        keys["name"] = json!(self.name);
        keys["url"] = json!(sshd.url(&self.source_and_try.repositories().source));
        keys["ssh_user"] = json!(sshd.user());
        keys["ssh_key"] = json!(key);
        keys
    }

    /// Where heads are pushed to.
    pub fn try_repository(&self) -> &Path {
        &self.source_and_try.repositories().try_repository
    }

    /// Gives the source one more commit, as other authors do all the time.
    pub async fn commit(&mut self) -> anyhow::Result<()> {
        self.commits += 1;
        let file = self.source_and_try.repositories().source.join("README.md");
        fs::write(&file, format!("Change {}\n", self.commits))
            .with_context(|| format!("cannot write {}", file.display()))?;
        self.source_and_try.commit().await
    }

    /// Takes back what a program that was killed at Try has left half done, as the operators of Try do.
    pub async fn recover_try(&self) -> anyhow::Result<()> {
        self.source_and_try.recover_try().await
    }

    /// What was pushed, and what is wrong with it by what the builds have to hold.
    pub async fn pushed(&self, builds: &[&Content]) -> anyhow::Result<Try> {
        self.source_and_try.pushed(builds).await
    }
}
