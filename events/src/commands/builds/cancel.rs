//! `events builds cancel`

use anyhow::bail;
use build::{BuildUpdate, SkipReason};

use super::{archive::Archive, report, text::outcome};
use crate::cli::{BuildSelector, Deployment, OneBuild};

/// Runs `events builds cancel`.
pub(super) async fn cancel(options: OneBuild, deployment: &Deployment) -> anyhow::Result<()> {
    let archive = Archive::open(deployment).await?;
    let (request, record) = archive.newest(&options.build).await?;
    let target = request.target.clone();
    if record.end.is_some() {
        bail!(
            "cannot cancel {target}: it has already ended ({})",
            outcome(&record)
        );
    }
    if record.pushing {
        bail!("cannot cancel {target}: its push has begun, and its head may be at its destination");
    }
    let update = BuildUpdate::skipped(SkipReason::Cancelled, "Cancelled by an operator.");
    let (log, producer) = (&archive.log, archive.producer());
    log.finish_from(&producer, &request, &record, update.clone(), None)
        .await?;
    // A worker may have decided another end first.
    let (_, now) = archive
        .newest(&BuildSelector::Target(target.clone()))
        .await?;
    if !now.ends_with(&update) {
        bail!(
            "cannot cancel {target}: it ended just now ({})",
            outcome(&now)
        );
    }
    report(deployment, &target, "cancelled")
}
