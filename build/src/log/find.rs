//! Finds the records of builds, and reads them.

use std::ops::Range;

use bus::{Bus, BusError, Context, DecodeError};

use super::BuildLog;
use crate::{Phid, record::BuildRecord};

/// The index of all builds but those whose state is still `accepted`. These are in [`OPEN`] alone, and not in the indexes
/// of their revision and diff: accepting a build must cost little, finding one may cost more.
pub const ALL: &str = "all";
/// The index of builds whose final report is not published yet.
pub const OPEN: &str = "open";

impl BuildLog {
    /// The record of a build, as the delivery of a step sees it. Empty when there is none, or none that can be read.
    pub async fn read(&self, cx: &Context, target: &Phid) -> Result<BuildRecord, BusError> {
        Ok(readable(
            target,
            BuildRecord::read(&cx.recorded(&self.store, target.as_str()).await?),
        ))
    }

    /// The records of builds, in the order of `targets`. Empty ones as with [`BuildLog::read`].
    pub async fn find(
        &self,
        bus: &dyn Bus,
        targets: &[Phid],
    ) -> Result<Vec<BuildRecord>, BusError> {
        let ids: Vec<String> = targets.iter().map(Phid::to_string).collect();
        let records = bus.records(&self.store, &ids).await?;
        Ok(targets
            .iter()
            .zip(&records)
            .map(|(target, record)| readable(target, BuildRecord::read(record)))
            .collect())
    }

    /// The builds of an index, the newest first: the positions in `part` of that list.
    pub async fn indexed(
        &self,
        bus: &dyn Bus,
        index: &str,
        part: Range<usize>,
    ) -> Result<Vec<Phid>, BusError> {
        let found = bus.indexed(&self.store, index, part).await?;
        Ok(found
            .into_iter()
            .filter_map(|(id, _)| Phid::parse(&id).ok())
            .collect())
    }
}

/// Replaces a record that cannot be read, such as one of another release, by an empty one, and logs that.
fn readable(target: &Phid, read: Result<BuildRecord, DecodeError>) -> BuildRecord {
    read.unwrap_or_else(|error| {
        let error = runtime::error_chain(&error);
        tracing::warn!(build = %target, error, "cannot read the record of a build; going on as if it had none");
        BuildRecord::default()
    })
}

/// The index of the builds of a revision; see [`ALL`].
pub fn revision_index(revision: u64) -> String {
    format!("D{revision}")
}

/// The number of diffs that share an index. Diffs that are published together have numbers near each other, and records
/// of one index are written with one command.
const DIFFS: u64 = 100;

/// The index of the builds of a diff and of its neighbours; see [`ALL`]. The reader leaves out builds of other diffs.
pub fn diff_index(diff: u64) -> String {
    format!("diffs:{}", diff / DIFFS)
}
