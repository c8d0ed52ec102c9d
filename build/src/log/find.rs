//! How the records of builds are found again, and read.

use std::ops::Range;

use bus::{Bus, BusError, Context, DecodeError};

use super::BuildLog;
use crate::{Phid, record::BuildRecord};

/// All builds have this tag, and those of their revision and their diff, but for builds whose state is still `accepted`:
/// these are found by [`OPEN`] alone. Accepting a build is to cost little, and reading its records may.
pub const ALL: &str = "all";
/// Builds whose end is not published yet have this tag.
pub const OPEN: &str = "open";

impl BuildLog {
    /// What is known of a build, within a step.
    pub async fn read(&self, cx: &Context, target: &Phid) -> Result<BuildRecord, BusError> {
        Ok(readable(
            target,
            BuildRecord::read(&cx.recorded(&self.store, target.as_str()).await?),
        ))
    }

    /// What is known of builds.
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

    /// The builds with a tag, the newest first: those at the places of `part`.
    pub async fn tagged(
        &self,
        bus: &dyn Bus,
        tag: &str,
        part: Range<usize>,
    ) -> Result<Vec<Phid>, BusError> {
        let found = bus.indexed(&self.store, tag, part).await?;
        Ok(found
            .into_iter()
            .filter_map(|(id, _)| Phid::parse(&id).ok())
            .collect())
    }
}

/// A record of another release may not be readable. The build goes on without it, as one of which nothing is known.
fn readable(target: &Phid, read: Result<BuildRecord, DecodeError>) -> BuildRecord {
    read.unwrap_or_else(|error| {
        let error = runtime::error_chain(&error);
        tracing::warn!(build = %target, error, "the record of a build cannot be read, going on without it");
        BuildRecord::default()
    })
}

/// The tag of the builds of a revision, see [`ALL`].
pub fn revision_tag(revision: u64) -> String {
    format!("D{revision}")
}

/// How many diffs share a tag. Diffs that are published together have numbers near each other, and what shares a tag
/// shares the commands that write it.
const DIFFS: u64 = 100;

/// The tag of the builds of a diff and of its neighbours, see [`ALL`]: whoever reads it leaves out those of other diffs.
pub fn diff_tag(diff: u64) -> String {
    format!("diffs:{}", diff / DIFFS)
}
