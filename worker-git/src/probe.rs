//! Checks the peers of a repository for `events config check --online`. It pushes nothing, and makes no clone.

use std::{path::Path, time::Duration};

use worker::{
    Peer, RepositorySettings, Settings, WorkerError, disk,
    probe::{self, Probe},
    process::CommandOutput,
    text::is_hash,
};

use crate::{
    clone, outcome,
    program::{DESTINATION, Program, SOURCE},
    quarantine, remote,
};

/// The time for one request to another repository.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A refspec that matches nothing in an empty repository.
const NOTHING: &str = "refs/probe/*:refs/probe/*";

/// Checks all that builds of a repository need: see [`probe::begin`], the program, the source with its
/// `default_revision`, and the repository that is pushed to.
pub(crate) async fn probe(
    program: &Path,
    settings: &Settings,
    repository: &RepositorySettings,
) -> Vec<Probe> {
    let (mut found, ssh) = probe::begin(settings, repository).await;
    let Some(ssh) = ssh else { return found };
    // Each command is the only one on its connection.
    let git = Program::new(program, &ssh, repository).map(|git| git.with_one_off(&ssh));
    let git = match git {
        Ok(git) => git.check_version().await.map(|()| git),
        Err(error) => Err(error),
    };
    let git = match git {
        Ok(git) => git,
        Err(error) => {
            let how = "`git version` was run";
            found.push(Probe::of("the program git", how, Err(error)));
            return found;
        }
    };
    let empty = ssh.directory().join("empty");
    let making = empty.clone();
    if let Err(error) = disk::blocking(move || quarantine::init(&making, false)).await {
        let error = WorkerError::io(format!("make {}", empty.display()))(error);
        found.push(probe::files_of_ssh(error));
        return found;
    }
    let peers = Peers {
        git: &git,
        empty: &empty,
        repository,
    };
    found.push(peers.source().await);
    if repository.lando.is_none() {
        found.push(peers.destination().await);
    }
    found
}

/// Whether our own `git` reports that it connected, and found no ref there.
fn is_empty(output: &CommandOutput) -> bool {
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .any(|line| line.starts_with("No refs in common and none specified; doing nothing."))
}

/// Sends requests to the other repositories, from an empty one.
struct Peers<'a> {
    git: &'a Program,
    empty: &'a Path,
    repository: &'a RepositorySettings,
}

impl Peers<'_> {
    async fn source(&self) -> Probe {
        let RepositorySettings {
            name,
            default_revision,
            ..
        } = self.repository;
        let result = self
            .default_revision()
            .await
            .map(|commit| format!("{default_revision} is commit {commit:.12}"));
        Probe::of(
            format!("the source of {name}"),
            "`git ls-remote` requested it",
            result,
        )
    }

    async fn default_revision(&self) -> Result<String, WorkerError> {
        let RepositorySettings {
            name,
            default_revision,
            ..
        } = self.repository;
        let candidates = clone::default_revision::candidates(default_revision);
        let mut arguments = vec!["ls-remote", "--quiet", "--", SOURCE];
        arguments.extend(candidates.iter().map(String::as_str));
        let output = self
            .git
            .run(self.empty, arguments, "git ls-remote", TIMEOUT)
            .await?;
        if output.code != 0 {
            let doing = format!("reach the source of {name}");
            return Err(remote::failure(Peer::Source, doing, &output));
        }
        let listed = output.text();
        let commit = candidates.iter().find_map(|candidate| {
            let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
            lines
                .find_map(|(commit, name)| (name == candidate && is_hash(commit)).then_some(commit))
        });
        commit
            .map(str::to_owned)
            .ok_or_else(|| WorkerError::NoDefaultRevision {
                repository: name.clone(),
                revision: default_revision.clone(),
            })
    }

    /// A push of nothing: the server checks the right to push as it does for each push, and its hooks do not run.
    async fn destination(&self) -> Probe {
        let what = probe::destination(self.repository);
        let doing = format!("reach {what}");
        let arguments = [
            "push",
            "--porcelain",
            "--dry-run",
            "--no-verify",
            "--",
            DESTINATION,
            NOTHING,
        ];
        let result = self
            .git
            .run(self.empty, arguments, "git push", TIMEOUT)
            .await
            .and_then(|output| {
                if output.code == 0 || is_empty(&output) {
                    Ok("it answers, and takes pushes from us".to_owned())
                } else {
                    Err(outcome::not_reached(&doing, &output))
                }
            });
        Probe::of(
            what,
            "`git push --dry-run` connected to it, as a push does; rules about the ref were not tried",
            result,
        )
    }
}
