//! `events builds retry`

use anyhow::bail;
use build::FinalOutcome;

use super::{archive::Archive, report, text::outcome};
use crate::cli::{Deployment, OneBuild};

/// Runs `events builds retry`.
pub(super) async fn retry(options: OneBuild, deployment: &Deployment) -> anyhow::Result<()> {
    let archive = Archive::open(deployment).await?;
    let (request, record) = archive.newest(&options.build).await?;
    let target = request.target.clone();
    if record.published_at.is_some() {
        bail!(
            "cannot retry {target}: it has ended ({}), and its target accepts no other answer; run `events builds restart \
             {target}`, which makes a new target in Harbormaster",
            outcome(&record)
        );
    }
    let (answer, action) = match record.end.as_ref().map(|end| end.outcome.clone()) {
        Some(FinalOutcome::Answered(update)) => (Some(update), "sending its answer again"),
        _ => (None, "building it again from the beginning"),
    };
    let (log, producer) = (&archive.log, archive.producer());
    let reason = "an operator retries it";
    log.redrive(&producer, request, answer, reason, record.redriven, None)
        .await?;
    report(deployment, &target, action)
}
