//! The push of a head to the destination.

use async_trait::async_trait;
use worker::{
    Peer, WorkerError,
    destination::{Destination, Push, PushError, PushOutcome},
};

use crate::{git::Opened, program::DESTINATION};

#[async_trait]
impl Destination for Opened {
    async fn push(&mut self, push: Push<'_>) -> Result<PushOutcome, PushError> {
        let doing = format!("push to {}", self.repository.try_name);
        let (Some(git), Some(quarantine)) = (self.repository.vcs.git(), &self.quarantine) else {
            return Err(WorkerError::Settings {
                reason: format!("cannot {doing}: its version control is not Git"),
            }
            .into());
        };
        let reference = git.reference(push.build);
        let mut arguments: Vec<String> = ["push", "--porcelain", "--no-verify", "--atomic"]
            .map(str::to_owned)
            .into();
        arguments.push(format!("--force-with-lease={reference}:"));
        for option in &git.push_options {
            arguments.push(format!("--push-option={option}"));
        }
        arguments.push(DESTINATION.to_owned());
        arguments.push(format!("{}:{reference}", push.head.id));
        let source = self.clone.source();
        let output = source
            .git
            .run(
                quarantine.git_dir(),
                arguments,
                "git push",
                source.limits.transfer,
            )
            .await?;
        if output.code != 0 {
            return Err(WorkerError::Remote {
                peer: Peer::Destination,
                doing,
                words: output.words(),
            }
            .into());
        }
        let is_there = output.text().lines().any(|line| line.starts_with("=\t"));
        Ok(if is_there {
            PushOutcome::UpToDate
        } else {
            PushOutcome::Accepted
        })
    }
}
