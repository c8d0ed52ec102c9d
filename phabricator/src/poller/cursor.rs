//! The records of the poller: its cursor, and the diffs that it has seen.

use std::time::Duration;

use bus::{Bus, BusError, Field, RecordStore, RecordUpdate};
use jiff::Timestamp;

use build::Phid;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The time for which a seen diff is remembered.
const SEEN_FOR: Duration = Duration::from_secs(90 * 24 * 3600);

const POSITION: RecordStore = RecordStore {
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

/// The position of the poller. Each value is a field of its own, a plain number, so that compare-and-set works on values of
/// other releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PollCursor {
    /// The newest diff at the first start. Diffs up to this one are not taken.
    pub(super) start: u64,
    /// The last diff that the search reached.
    pub(super) cursor: u64,
    /// The last change of a revision that was checked, in seconds of the server's clock.
    pub(super) reconciled: i64,
}

impl PollCursor {
    /// The stored position; `None` before the very first start.
    pub(super) async fn read(bus: &dyn Bus) -> Result<Option<Self>, BusError> {
        let record = bus
            .records(&POSITION, &[RECORD.to_owned()])
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

    /// Stores this position as the first one, unless there is one.
    pub(super) fn start(&self) -> Result<Vec<RecordUpdate>, BusError> {
        Ok(vec![
            POSITION.set_once(RECORD, START, &self.start)?,
            POSITION.set_once(RECORD, CURSOR, &self.cursor)?,
            POSITION.set_once(RECORD, RECONCILED, &self.reconciled)?,
        ])
    }

    /// Advances the cursor, unless another process did so first.
    pub(super) fn advance_to(&self, cursor: u64) -> Result<RecordUpdate, BusError> {
        Ok(POSITION
            .compare_and_set(RECORD, CURSOR, Some(&self.cursor), Some(&cursor))?
            .into())
    }

    /// Records that revisions were checked that changed before `at`, unless another process did so first.
    pub(super) fn reconciled_to(&self, at: i64) -> Result<RecordUpdate, BusError> {
        Ok(POSITION
            .compare_and_set(RECORD, RECONCILED, Some(&self.reconciled), Some(&at))?
            .into())
    }
}

/// Records that a diff was seen.
pub(super) fn mark_seen(diff: &Phid, at: Timestamp) -> Result<RecordUpdate, BusError> {
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

/// Whether a diff that was created at `created_at` would still be remembered, if it had been seen.
pub(super) fn is_remembered(created_at: Timestamp, now: Timestamp) -> bool {
    let age = Duration::try_from(now.duration_since(created_at)).unwrap_or(Duration::ZERO);
    // The clocks of the server and of this process may differ.
    age + DAY < SEEN_FOR
}
