//! Checks the peers of a repository for `events config check --online`. It pushes nothing, and makes no clone.

use std::{path::Path, time::Duration};

use worker::{
    RepositorySettings, Settings, WorkerError,
    probe::{self, Probe},
    process::{self, CommandOutput},
    ssh::Ssh,
};

use crate::{
    branches, program, remote,
    transport::address::{self, SOURCE},
};

/// The time for one request to another repository.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Checks all that builds of a repository need: see [`probe::begin`], the source with its `default_revision`, and the
/// repository that is pushed to.
pub(crate) async fn probe(
    program: &Path,
    settings: &Settings,
    repository: &RepositorySettings,
) -> Vec<Probe> {
    let (mut found, ssh) = probe::begin(settings, repository).await;
    let Some(ssh) = ssh else { return found };
    let hgrc = match address::write_hgrc(&ssh, repository) {
        Ok(hgrc) => hgrc,
        Err(error) => {
            found.push(probe::files_of_ssh(error));
            return found;
        }
    };
    let peer = Peer {
        program,
        settings,
        repository,
        ssh: &ssh,
        hgrc: &hgrc,
    };
    let (source, root) = peer.source().await;
    found.push(source);
    if repository.lando.is_none() {
        found.push(peer.target(root.as_deref()).await);
    }
    found
}

/// Sends requests to the other repositories.
struct Peer<'a> {
    program: &'a Path,
    settings: &'a Settings,
    repository: &'a RepositorySettings,
    ssh: &'a Ssh,
    hgrc: &'a Path,
}

impl Peer<'_> {
    /// Checks the source. Also returns its first changeset.
    async fn source(&self) -> (Probe, Option<String>) {
        let RepositorySettings {
            name,
            default_revision,
            ..
        } = self.repository;
        let what = format!("the source of {name}");
        let how = format!("`hg identify --rev={default_revision}` requested it");
        let node = match self
            .identify(
                SOURCE,
                &format!("reach the source of {name}"),
                default_revision,
            )
            .await
        {
            Ok(Some(node)) => node,
            Ok(None) => {
                let (repository, revision) = (name.clone(), default_revision.clone());
                return (
                    Probe::of(
                        what,
                        how,
                        Err(WorkerError::NoDefaultRevision {
                            repository,
                            revision,
                        }),
                    ),
                    None,
                );
            }
            Err(error) => return (Probe::of(what, how, Err(error)), None),
        };
        let (root, lines) = futures::join!(
            self.identify(SOURCE, "request the first changeset", "0"),
            self.lines()
        );
        let text = format!("{default_revision} is changeset {node:.12}");
        let mut probe = Probe::of(what, how, Ok(text));
        probe.warning = lines.and_then(|lines| branches::ambiguous(self.repository, &lines));
        (probe, root.ok().flatten())
    }

    async fn target(&self, root: Option<&str>) -> Probe {
        let RepositorySettings { name, try_name, .. } = self.repository;
        let what = probe::destination(self.repository);
        let how = "`hg identify` connected to it, as a push does; the right to push was not tried";
        let doing = format!("reach {what}");
        let url = address::plain(&self.repository.try_url);
        let tip = match self.identify(&url, &doing, "tip").await {
            Ok(tip) => tip.unwrap_or_default(),
            Err(error) => return Probe::of(what, how, Err(error)),
        };
        if tip.bytes().all(|byte| byte == b'0') {
            let mut probe = Probe::of(what, how, Ok("it answers".to_owned()));
            probe.warning = Some(format!(
                "{try_name} is empty: the first push sends the whole history of {name}"
            ));
            return probe;
        }
        let Some(root) = root else {
            return Probe::of(
                what,
                how,
                Ok("it answers; whether it is the right repository is not known".to_owned()),
            );
        };
        let result = self
            .identify(&url, &doing, root)
            .await
            .and_then(|found| match found {
                Some(_) => Ok(format!(
                    "it answers, and has the first changeset {root:.12} of {name}"
                )),
                None => Err(WorkerError::Unrelated {
                    repository: name.clone(),
                    try_name: try_name.clone(),
                    changeset: root.get(..12).unwrap_or(root).to_owned(),
                }),
            });
        Probe::of(what, how, result)
    }

    /// The changeset that `revision` stands for in the repository at `url`. `None` if there is none.
    async fn identify(
        &self,
        url: &str,
        doing: &str,
        revision: &str,
    ) -> Result<Option<String>, WorkerError> {
        let rev = format!("--rev={revision}");
        let output = self
            .run(&["identify", "--template={node}", &rev, "--", url])
            .await?;
        remote::identified(doing, &output)
    }

    /// The lines of development at the source: the branches of the clone if there is one, else one for each head of the
    /// source. `None` if Mercurial fails.
    async fn lines(&self) -> Option<Vec<String>> {
        let clone = self.settings.clones_dir.join(&self.repository.name);
        if clone.join(".hg").is_dir() {
            return branches::of(self.program, &clone).await;
        }
        let empty = self.ssh.directory().join("empty");
        let repository = format!("--repository={}", empty.display());
        let output = self
            .run(&["init", "--", &empty.display().to_string()])
            .await
            .ok()?;
        if output.code != 0 {
            return None;
        }
        let output = self
            .run(&[
                &repository,
                "debugdiscovery",
                "--quiet",
                "--template=json",
                "--",
                SOURCE,
            ])
            .await
            .ok()?;
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let heads = found.get(0)?.get("nb-head-remote")?.as_u64()?;
        Some((1..=heads).map(|number| format!("head {number}")).collect())
    }

    async fn run(&self, arguments: &[&str]) -> Result<CommandOutput, WorkerError> {
        let hg = program::hg(self.program, Some(self.hgrc));
        let ssh = format!("--config=ui.ssh={}", self.ssh.one_off_command());
        let name = arguments
            .iter()
            .find(|word| !word.starts_with('-'))
            .copied()
            .unwrap_or_default();
        process::run(
            hg,
            std::iter::once(ssh.as_str()).chain(arguments.iter().copied()),
            &format!("hg {name}"),
            TIMEOUT,
        )
        .await
    }
}
