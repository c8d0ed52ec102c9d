//! The push of a head to a Git repository.
//!
//! A build has a ref of its own. `git push` gets a lease (`--force-with-lease`): the ref must not exist there, or have a
//! head that we pushed before. So nobody's commits are lost, whatever ref is configured.
//!
//! The worker records the heads of each ref before it pushes them: see `worker/src/refs/record.rs`. A build that is
//! restarted on a newer base has another head for the same ref, which replaces the earlier one.
//!
//! The head is a pure function of the build, so a push that is repeated finds it on the ref, and Git reports "up to
//! date" before it compares the lease.

use async_trait::async_trait;
use worker::{
    WorkerError,
    destination::{Destination, Push, PushError, PushOutcome},
    process::CommandOutput,
    revision::Revision,
};

use crate::{
    git::Opened,
    old_refs,
    outcome::{self, PushEnd, Pushed},
    program::DESTINATION,
};

/// The name of the command in errors.
const COMMAND: &str = "git push";

#[async_trait]
impl Destination for Opened {
    /// A failed push may have succeeded: the answer can be lost after the other side has stored the head. So after a
    /// failure on the way the worker pushes the same head once more, and Git then finds it "up to date". It uses a new
    /// connection, since the kept one may have failed.
    async fn push(&mut self, push: Push<'_>) -> Result<PushOutcome, PushError> {
        let one = Head::of(self, &push)?;
        match one.push().await {
            Err(PushError::Failed(WorkerError::Remote { .. } | WorkerError::Deadline { .. })) => {
                self.ssh.close_connections().await;
                Head::of(self, &push)?.push().await
            }
            ended => ended,
        }
    }
}

/// A head and its ref.
struct Head<'a> {
    opened: &'a Opened,
    id: &'a str,
    replaces: &'a [Revision],
    reference: String,
    /// The arguments of the push in front of the destination.
    options: Vec<String>,
    doing: String,
    hook_rejects_patches: bool,
}

impl<'a> Head<'a> {
    fn of(opened: &'a Opened, push: &Push<'a>) -> Result<Self, WorkerError> {
        let doing = format!("push to {}", opened.repository.try_name);
        let Some(git) = opened.repository.vcs.git() else {
            return Err(WorkerError::Settings {
                reason: format!("cannot {doing}: its version control is not Git"),
            });
        };
        let options = git
            .push_options
            .iter()
            .map(|option| format!("--push-option={option}"));
        Ok(Self {
            opened,
            id: &push.head.id,
            replaces: push.replaces,
            reference: git.reference(push.build),
            options: options.collect(),
            doing,
            hook_rejects_patches: git.hook_rejects_patches,
        })
    }

    /// Expects the newest of our heads on the ref, and requests the one that is there only if it is another.
    async fn push(&self) -> Result<PushOutcome, PushError> {
        let newest = self.replaces.first().map_or("", |head| &head.id);
        match self.push_once(newest).await? {
            PushEnd::Pushed(outcome) => return Ok(outcome),
            PushEnd::LeaseLost => {}
            PushEnd::Failed(error) => return Err(error),
        }
        let there = self.there().await?;
        let is_ours = |id: &String| self.replaces.iter().any(|head| head.id == *id);
        if let Some(other) = there.as_ref().filter(|id| !is_ours(id)) {
            return Err(outcome::taken(&self.doing, &self.reference, other).into());
        }
        match self.push_once(there.as_deref().unwrap_or_default()).await? {
            PushEnd::Pushed(outcome) => Ok(outcome),
            PushEnd::LeaseLost => Err(outcome::moving(&self.doing, &self.reference).into()),
            PushEnd::Failed(error) => Err(error),
        }
    }

    /// Pushes while the ref has the head `replaced`, or while there is none if that is empty.
    async fn push_once(&self, replaced: &str) -> Result<PushEnd, WorkerError> {
        let reference = &self.reference;
        let mut arguments = vec![
            "push".to_owned(),
            "--porcelain".to_owned(),
            "--no-verify".to_owned(),
            format!("--force-with-lease={reference}:{replaced}"),
        ];
        arguments.extend(self.options.iter().cloned());
        arguments.extend([
            "--".to_owned(),
            DESTINATION.to_owned(),
            format!("{}:{reference}", self.id),
        ]);
        let output = self.git(arguments).await?;
        let pushed = Pushed {
            doing: &self.doing,
            reference,
            hook_rejects_patches: self.hook_rejects_patches,
        };
        Ok(outcome::push(pushed, &output))
    }

    /// The commit that the ref has there, if it exists.
    async fn there(&self) -> Result<Option<String>, WorkerError> {
        let arguments = ["ls-remote", "--", DESTINATION, &self.reference];
        let output = self.git(arguments.map(str::to_owned).into()).await?;
        old_refs::there(&self.doing, &output)
    }

    async fn git(&self, arguments: Vec<String>) -> Result<CommandOutput, WorkerError> {
        let Some(quarantine) = &self.opened.quarantine else {
            return Err(WorkerError::Settings {
                reason: format!("cannot {}: there is no head", self.doing),
            });
        };
        let source = self.opened.clone.source();
        let time = source.limits.transfer;
        source
            .git
            .run(quarantine.git_dir(), arguments, COMMAND, time)
            .await
            .map_err(|error| match error {
                WorkerError::Deadline {
                    command, seconds, ..
                } => WorkerError::Deadline {
                    command,
                    is_push: true,
                    seconds,
                },
                error => error,
            })
    }
}
