//! What the poller remembers, on the bus: how far it is, and which diffs it has seen.

use std::time::Duration;

use bus::{Bus, BusError, Field, RecordStore, RecordUpdate};
use jiff::Timestamp;

use build::Phid;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a seen diff is remembered.
const SEEN_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

const PLACE: RecordStore = RecordStore {
    name: "diff-poller",
    retention: Duration::from_secs(365 * 24 * 3600),
};
const SEEN: RecordStore = RecordStore {
    name: "seen-diffs",
    retention: SEEN_FOR,
};

const RECORD: &str = "place";
const START: Field<u64> = Field::new("start");
const CURSOR: Field<u64> = Field::new("cursor");
const RECONCILED: Field<i64> = Field::new("reconciled");
const AT: Field<i64> = Field::new("at");

/// How far the poller is. Each value has a slot of its own, as a plain number, so that what another release wrote can be
/// swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The newest diff when it was first started; of those up to here nothing is wanted.
    pub(super) start: u64,
    /// The newest diff that the search was followed to.
    pub(super) cursor: u64,
    /// Revisions that changed before were looked at, in seconds of the server's clock.
    pub(super) reconciled: i64,
}

impl Place {
    /// `None` before the very first start.
    pub(super) async fn read(bus: &dyn Bus) -> Result<Option<Self>, BusError> {
        let record = bus
            .records(&PLACE, &[RECORD.to_owned()])
            .await?
            .pop()
            .unwrap_or_default();
        let unreadable = |source| BusError::Record {
            record: RECORD.to_owned(),
            source,
        };
        let start = record.field(START).map_err(unreadable)?;
        let cursor = record.field(CURSOR).map_err(unreadable)?;
        let reconciled = record.field(RECONCILED).map_err(unreadable)?;
        Ok(start
            .zip(cursor)
            .zip(reconciled)
            .map(|((start, cursor), reconciled)| Self {
                start,
                cursor,
                reconciled,
            }))
    }

    /// Begins here, unless it began before.
    pub(super) fn begins(&self) -> Result<Vec<RecordUpdate>, BusError> {
        Ok(vec![
            PLACE.set_once(RECORD, START, &self.start)?,
            PLACE.set_once(RECORD, CURSOR, &self.cursor)?,
            PLACE.set_once(RECORD, RECONCILED, &self.reconciled)?,
        ])
    }

    /// Follows the search to `cursor`, unless somebody else did meanwhile.
    pub(super) fn moves_to(&self, cursor: u64) -> Result<RecordUpdate, BusError> {
        Ok(PLACE
            .compare_and_set(RECORD, CURSOR, Some(&self.cursor), Some(&cursor))?
            .into())
    }

    /// Revisions that changed before `at` were looked at, unless somebody else did that meanwhile.
    pub(super) fn reconciled_to(&self, at: i64) -> Result<RecordUpdate, BusError> {
        Ok(PLACE
            .compare_and_set(RECORD, RECONCILED, Some(&self.reconciled), Some(&at))?
            .into())
    }
}

/// Remembers that a diff was seen.
pub(super) fn sees(diff: &Phid, at: Timestamp) -> Result<RecordUpdate, BusError> {
    SEEN.set_once(diff.as_str(), AT, &at.as_second())
}

/// Whether each of these diffs was seen.
pub(super) async fn were_seen(bus: &dyn Bus, diffs: &[&Phid]) -> Result<Vec<bool>, BusError> {
    let ids: Vec<String> = diffs.iter().map(|diff| diff.to_string()).collect();
    Ok(bus
        .records(&SEEN, &ids)
        .await?
        .iter()
        .map(|record| !record.is_empty())
        .collect())
}

/// Whether a diff of that time would still be remembered, had it been seen.
pub(super) fn is_remembered(created_at: Timestamp, now: Timestamp) -> bool {
    let age = Duration::try_from(now.duration_since(created_at)).unwrap_or(Duration::ZERO);
    // The server's clock may be another one.
    age + DAY < SEEN_FOR
}
