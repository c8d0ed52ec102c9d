//! The deletion of refs at the destination, each by a push of its own.
//!
//! The push needs no object, so it starts from an empty repository: neither a clone nor its lock is needed. It has the same
//! lease as the push of a head (see `push.rs`), so a ref that somebody else has moved stays.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use worker::{
    Peer, WorkerError,
    destination::{DestinationRefs, RefDeletion},
    disk,
    process::CommandOutput,
    revision::Revision,
    ssh::Ssh,
    text::is_hash,
};

use crate::{
    outcome::{self, DeletionEnd},
    program::{DESTINATION, Program},
    quarantine, remote,
};

/// The refs of a repository's destination.
pub(crate) struct OldRefs {
    git: Program,
    ssh: Ssh,
    /// The directory of an empty repository.
    empty: PathBuf,
    /// The name of the destination.
    name: String,
    /// The time for one command.
    time: Duration,
}

impl OldRefs {
    pub(crate) async fn open(
        git: Program,
        ssh: Ssh,
        name: &str,
        time: Duration,
    ) -> Result<Self, WorkerError> {
        let empty = ssh.directory().join("empty");
        let making = empty.clone();
        disk::blocking(move || quarantine::init(&making, false))
            .await
            .map_err(WorkerError::io(format!("make {}", empty.display())))?;
        Ok(Self {
            git,
            ssh,
            empty,
            name: name.to_owned(),
            time,
        })
    }

    /// Deletes the ref while it has `commit`.
    async fn delete_at(&self, reference: &str, commit: &str) -> Result<DeletionEnd, WorkerError> {
        let arguments = [
            "push",
            "--porcelain",
            "--no-verify",
            &format!("--force-with-lease={reference}:{commit}"),
            "--",
            DESTINATION,
            &format!(":{reference}"),
        ]
        .map(str::to_owned);
        let output = self
            .git
            .run(&self.empty, arguments, "git push", self.time)
            .await?;
        outcome::deletion(&self.doing(reference), reference, &output)
    }

    fn doing(&self, reference: &str) -> String {
        format!("delete {reference} at {}", self.name)
    }
}

#[async_trait]
impl DestinationRefs for OldRefs {
    /// Expects the newest of our heads on the ref, and requests the one that is there only if it is another.
    async fn delete(
        &mut self,
        reference: &str,
        ours: &[Revision],
    ) -> Result<RefDeletion, WorkerError> {
        if let Some(newest) = ours.first() {
            match self.delete_at(reference, &newest.id).await? {
                DeletionEnd::Deleted => return Ok(RefDeletion::Deleted),
                DeletionEnd::Refused(error) => return Ok(RefDeletion::Refused(error)),
                DeletionEnd::LeaseLost => {}
            }
        }
        let doing = self.doing(reference);
        let arguments = ["ls-remote", "--", DESTINATION, reference];
        let output = self
            .git
            .run(&self.empty, arguments, "git ls-remote", self.time)
            .await?;
        let Some(commit) = there(&doing, &output)? else {
            return Ok(RefDeletion::Missing);
        };
        if !ours.iter().any(|head| head.id == commit) {
            return Ok(RefDeletion::Moved(commit));
        }
        Ok(match self.delete_at(reference, &commit).await? {
            DeletionEnd::Deleted => RefDeletion::Deleted,
            DeletionEnd::Refused(error) => RefDeletion::Refused(error),
            DeletionEnd::LeaseLost => RefDeletion::Refused(outcome::moving(&doing, reference)),
        })
    }

    async fn close(&mut self) {
        self.ssh.close_connections().await;
    }
}

/// The commit of a ref, from the output of `git ls-remote` for it.
pub(crate) fn there(doing: &str, output: &CommandOutput) -> Result<Option<String>, WorkerError> {
    if output.code != 0 {
        return Err(remote::failure(Peer::Destination, doing, output));
    }
    let text = output.text();
    let commit = text.split_once('\t').map(|(commit, _)| commit);
    Ok(commit.filter(|commit| is_hash(commit)).map(str::to_owned))
}
