//! What the program works with: repositories behind a real ssh server, and a Phabricator.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context;
use build::Phid;
use runtime::SystemClock;
use secrecy::ExposeSecret;
use serde_json::json;
use testkit::{Sshd, phabricator::FakePhabricator};

use super::{
    plan::{REPOSITORIES, WORKERS},
    repository::Repository,
    vcs::Vcs,
};

/// The secret of the webhook.
pub const SECRET: &str = "chaos";
/// The username of an author whose revisions are not built.
const SKIPPED: &str = "robot";

/// All that is outside the program.
pub struct Stage {
    /// The version control of the repositories.
    pub vcs: Vcs,
    /// Phabricator.
    pub phabricator: FakePhabricator,
    /// The repositories that are built.
    pub repositories: Vec<Repository>,
    /// A repository on Phabricator that is not built.
    pub unsupported: Phid,
    /// An author.
    pub author: Phid,
    /// An author whose revisions are not built.
    pub skipped_author: Phid,
    /// The project whose revisions are private.
    pub secure: Phid,
    sshd: Sshd,
}

impl Stage {
    /// Sets all up in `directory`.
    pub async fn set_up(vcs: Vcs, directory: &Path) -> anyhow::Result<Self> {
        let phabricator = FakePhabricator::start(Arc::new(SystemClock))
            .await
            .context("cannot serve a phabricator")?;
        let mut repositories = Vec::new();
        for number in 0..REPOSITORIES {
            let add = |name: &str| phabricator.add_repository(name);
            repositories.push(Repository::create(vcs, directory, number, add).await?);
        }
        Ok(Self {
            vcs,
            repositories,
            unsupported: phabricator.add_repository("elsewhere"),
            author: phabricator.add_user("zoe", "Zoë Example"),
            skipped_author: phabricator.add_user(SKIPPED, "Robot"),
            secure: phabricator.add_project("secure-revision"),
            phabricator,
            sshd: Sshd::start(directory.join("sshd"))
                .await
                .context("cannot start an ssh server")?,
        })
    }

    /// Writes the configurations of all processes. Each worker has clones of its own.
    pub fn configure(&self, directory: &Path) -> anyhow::Result<()> {
        let key = self.sshd.private_key().context("cannot read an ssh key")?;
        let repositories: Vec<_> = self
            .repositories
            .iter()
            .map(|repository| repository.configuration(&self.sshd, &key))
            .collect();
        let workers =
            (0..WORKERS).map(|number| (format!("worker-{number}.yml"), clones(directory, number)));
        for (file, clones) in [("web.yml".to_owned(), directory.join("unused"))]
            .into_iter()
            .chain(workers)
        {
            // JSON is YAML.
            let config = json!({"events": {
                "PHABRICATOR": {
                    "url": self.phabricator.url().as_str(),
                    "api_key": self.phabricator.token().expose_secret(),
                    "publish": true,
                },
                "webhook_secret": SECRET,
                "user_blacklist": [SKIPPED],
                "clones_dir": clones,
                "known_hosts": self.sshd.known_hosts(),
                "repositories": repositories,
            }});
            let path = directory.join(file);
            fs::write(&path, config.to_string())
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    /// Ends the servers.
    pub async fn end(mut self) {
        // What is left of it ends with the value.
        let _ = self.sshd.stop().await;
    }
}

/// Where a worker has its clones.
pub fn clones(directory: &Path, worker: usize) -> std::path::PathBuf {
    directory.join(format!("clones-{worker}"))
}
