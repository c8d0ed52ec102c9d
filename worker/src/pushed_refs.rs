//! The record of each ref that gets heads of builds: the heads that were pushed to it.
//!
//! A ref of a Git repository is replaced only while it has a head of ours, so the worker has to know these. A head is
//! recorded before it is pushed: a worker that dies after a push has left no head that the next one takes for somebody
//! else's. A record is kept for twice the retention of the ref, and for [`AT_LEAST`].

use std::{collections::HashSet, time::Duration};

use bus::{BusError, Context, RecordStore};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{GitSettings, RepositorySettings, WorkerError, revision::Revision};

/// The shortest time from the last push to a ref until its record expires.
const AT_LEAST: Duration = Duration::from_secs(90 * 24 * 3600);

/// The most heads of a ref that may be replaced. A build that is restarted pushes another head at most.
const HEADS: usize = 32;

/// A head that a worker began to push to a ref.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PushedHead {
    /// The commit.
    head: String,
    /// The time at which the push began.
    at: Timestamp,
}

/// Records that `head` is about to be pushed to `reference`. Returns the heads that were pushed there before, each once,
/// the newest first. `head` itself may be one of them.
pub(crate) async fn begin(
    cx: &Context,
    repository: &RepositorySettings,
    git: &GitSettings,
    reference: &str,
    head: &Revision,
) -> Result<Vec<Revision>, WorkerError> {
    let store = store(git);
    // No name of a repository has a space.
    let id = format!("{} {reference}", repository.name);
    let record = cx.recorded(&store, &id).await?;
    let before: Vec<PushedHead> = record.events().map_err(|source| BusError::Record {
        record: id.clone(),
        source,
    })?;
    if before.last().is_none_or(|last| last.head != head.id) {
        let pushed = PushedHead {
            head: head.id.clone(),
            at: cx.clock().now(),
        };
        cx.record_now(vec![store.add(&id, &pushed)?]).await?;
    }
    let mut known = HashSet::new();
    let heads = before
        .into_iter()
        .rev()
        .map(|pushed| pushed.head)
        .filter(|head| known.insert(head.clone()))
        .take(HEADS);
    Ok(heads.map(|id| Revision { id }).collect())
}

fn store(git: &GitSettings) -> RecordStore {
    RecordStore {
        name: "pushed_refs",
        retention: git.ref_retention.saturating_mul(2).max(AT_LEAST),
    }
}
