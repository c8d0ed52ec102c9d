//! What the program works with: repositories behind a real ssh server, and a Phabricator.

use std::{fs, path::Path, sync::Arc};

use anyhow::Context;
use build::Phid;
use runtime::SystemClock;
use secrecy::ExposeSecret;
use serde_json::json;
use testkit::{
    Sshd,
    phabricator::FakePhabricator,
    repositories::{Repositories, hg},
};

use super::{
    plan::{REPOSITORIES, WORKERS},
    verify::Head,
};

/// The secret of the webhook.
pub const SECRET: &str = "chaos";
/// The username of an author whose revisions are not built.
const SKIPPED: &str = "robot";

/// All that is outside the program.
pub struct Stage {
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

/// A repository that is built.
pub struct Repository {
    /// Its name on Phabricator that cannot change.
    pub phid: Phid,
    /// Its changesets at the start, the newest first.
    pub history: Vec<String>,
    name: String,
    source_and_try: Repositories,
    /// How many changesets its source got since.
    commits: usize,
}

impl Stage {
    /// Sets all up in `directory`.
    pub async fn set_up(directory: &Path) -> anyhow::Result<Self> {
        let phabricator = FakePhabricator::start(Arc::new(SystemClock))
            .await
            .context("cannot serve a phabricator")?;
        let mut repositories = Vec::new();
        for number in 0..REPOSITORIES {
            let name = format!("product-{number}");
            let directory = directory.join(&name);
            fs::create_dir(&directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            let source_and_try = Repositories::create(&directory).await?;
            let history = hg(&source_and_try.source, &["log", "--template={node}\n"]).await?;
            repositories.push(Repository {
                phid: phabricator.add_repository(&name),
                history: history.lines().map(str::to_owned).collect(),
                name,
                source_and_try,
                commits: 0,
            });
        }
        Ok(Self {
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
            .map(|repository| {
                json!({
                    "name": repository.name,
                    "url": self.sshd.url(&repository.source_and_try.source),
                    "try_url": self.sshd.url(repository.try_repository()),
                    "ssh_user": self.sshd.user(),
                    "ssh_key": key,
                })
            })
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

impl Repository {
    /// Where heads are pushed to.
    pub fn try_repository(&self) -> &Path {
        &self.source_and_try.try_repository
    }

    /// Gives the source one more changeset, as other authors do all the time.
    pub async fn commit(&mut self) -> anyhow::Result<()> {
        self.commits += 1;
        let source = &self.source_and_try.source;
        let file = source.join("README.md");
        fs::write(&file, format!("Change {}\n", self.commits))
            .with_context(|| format!("cannot write {}", file.display()))?;
        hg(
            source,
            &[
                "commit",
                "--quiet",
                "--user=Ada",
                "--date=1700000000 0",
                "--message=Go on",
            ],
        )
        .await?;
        Ok(())
    }

    /// Takes back what an `hg` that was killed has left half done, as the operators of Try do.
    pub async fn recover_try(&self) -> anyhow::Result<()> {
        match hg(self.try_repository(), &["recover"]).await {
            Err(error) if !error.to_string().contains("no interrupted transaction") => Err(error),
            _ => Ok(()),
        }
    }

    /// What was pushed.
    pub async fn heads(&self) -> anyhow::Result<Vec<Head>> {
        let template = "--template={node} {sub('(?s).*Differential Diff: ', '', desc)}\n";
        let heads = hg(
            self.try_repository(),
            &["log", "--rev=head() and not public()", template],
        )
        .await?;
        let head = |line: &str| {
            let (node, diff) = line.split_once(' ')?;
            Some(Head {
                node: node.to_owned(),
                diff: diff.to_owned(),
            })
        };
        heads
            .lines()
            .map(|line| head(line).with_context(|| format!("Try shows a head as {line:?}")))
            .collect()
    }

    /// How many changesets were pushed.
    pub async fn pushed_changesets(&self) -> anyhow::Result<usize> {
        self.source_and_try.try_changesets().await
    }
}
