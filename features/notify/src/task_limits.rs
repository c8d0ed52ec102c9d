//! The limits of one task, so that it cannot block the others.
//!
//! * The notifications of a channel are in several partitions. Those of a task are all in one, so a task sends one at a time
//!   on a channel.
//! * A notification with several recipients is split step by step: each step sends a notification for one recipient, and
//!   queues the rest again. So one with a hundred recipients lets the others of its partition pass.
//! * Artifacts and recipients beyond [`MAX_ARTIFACTS`] and [`MAX_RECIPIENTS`] are dropped, with a log line and a note in the
//!   last notification.

use bus::{BusError, Context, Field, RecordStore};
use sha2::{Digest as _, Sha256};

use crate::records::{DAY, hash_id, unreadable};

/// The most artifacts of a task in a day that lead to notifications.
pub(crate) const MAX_ARTIFACTS: usize = 100;
/// The most recipients of one kind in a section.
pub(crate) const MAX_RECIPIENTS: usize = 50;
/// The most recipients on one channel, over all identities of a section.
pub(crate) const MAX_IDENTIFIED: usize = 200;
/// The partitions of a channel.
const PARTITIONS: u8 = 8;

/// The artifacts that led to notifications, by task.
const ARTIFACTS: RecordStore = RecordStore {
    name: "notify-artifacts",
    retention: DAY,
};
const FULL: Field<bool> = Field::new("full");

/// The partition of a task's notifications on a channel.
pub(crate) fn partition(channel: &str, task: &str) -> String {
    format!("{channel}/{}", Sha256::digest(task)[0] % PARTITIONS)
}

/// The position of an artifact among those of its task: whether it leads to notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArtifactRank {
    /// It does.
    Within,
    /// It does, as the last one.
    Last,
    /// It does not, as the first one.
    FirstOver,
    /// It does not, and neither did an earlier one.
    Over,
}

/// Counts an artifact. A repetition has the same rank.
pub(crate) async fn rank_artifact(
    cx: &Context,
    task: &str,
    run: Option<u32>,
    artifact: &str,
) -> Result<ArtifactRank, BusError> {
    let id = hash_id(&[task]);
    let own = hash_id(&[
        &run.map(|run| run.to_string()).unwrap_or_default(),
        artifact,
    ]);
    let recorded = async || {
        let record = cx.recorded(&ARTIFACTS, &id).await?;
        let artifacts: Vec<String> = record.events().map_err(unreadable(&id))?;
        let is_full: Option<bool> = record.field(FULL).map_err(unreadable(&id))?;
        Ok::<_, BusError>((artifacts, is_full))
    };
    let (mut artifacts, is_full) = recorded().await?;
    if !artifacts.contains(&own) && artifacts.len() < MAX_ARTIFACTS {
        cx.record_now(vec![ARTIFACTS.add(&id, &own)?]).await?;
        artifacts = recorded().await?.0;
    }
    match artifacts.iter().position(|one| *one == own) {
        Some(index) if index + 1 < MAX_ARTIFACTS => Ok(ArtifactRank::Within),
        Some(index) if index + 1 == MAX_ARTIFACTS => Ok(ArtifactRank::Last),
        _ if is_full.is_none() => {
            cx.record(ARTIFACTS.set(&id, FULL, &true)?);
            Ok(ArtifactRank::FirstOver)
        }
        _ => Ok(ArtifactRank::Over),
    }
}
