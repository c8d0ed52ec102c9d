//! What is remembered of pushes whose tests are selected, on the shared store: which push a diff was, until its tests are
//! selected, and which push a task group belongs to, until its tests have run. After [`RETENTION`] neither matters.

use std::time::Duration;

use build::Phid;
use bus::{BusError, Context, Field, RecordStore, RecordUpdate};
use serde::{Deserialize, Serialize};

use super::SelectionError;

/// How long a selection and the tests after it may take.
const RETENTION: Duration = Duration::from_secs(7 * 3600);

/// Pushes by the number of their diff.
const PUSHES: RecordStore = RecordStore {
    name: "selection-pushes",
    retention: RETENTION,
};
/// Pushes by their task group.
const GROUPS: RecordStore = RecordStore {
    name: "selection-groups",
    retention: RETENTION,
};

/// The push.
const PUSH: Field<Push> = Field::new("push");
/// The head of the push for which tests were selected and asked for. A diff may be pushed again.
const SELECTED: Field<String> = Field::new("selected");

/// A push to Try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Push {
    /// The build target of the build that was pushed.
    pub(super) target: Phid,
    /// Its diff.
    pub(super) diff_id: u64,
    /// The number of the diff's revision.
    pub(super) revision_id: u64,
    /// The head's changeset, 40 hex digits.
    pub(super) head: String,
    /// Where its jobs are shown.
    pub(super) treeherder_url: String,
}

/// What is known of a diff's push.
pub(super) struct OfDiff {
    pub(super) push: Push,
    /// Whether tests were selected for this push already.
    pub(super) selected: bool,
}

/// To be recorded when the selection for a push begins.
pub(super) fn begun(push: &Push) -> Result<RecordUpdate, BusError> {
    PUSHES.set(&push.diff_id.to_string(), PUSH, push)
}

/// To be recorded when the selected tests are added to the push, in its task group.
pub(super) fn selected(push: &Push, group: &str) -> Result<[RecordUpdate; 2], BusError> {
    Ok([
        PUSHES.set(&push.diff_id.to_string(), SELECTED, &push.head)?,
        GROUPS.set(group, PUSH, push)?,
    ])
}

/// The newest push of a diff, unless it is none of ours, or too long ago.
pub(super) async fn of_diff(cx: &Context, diff_id: u64) -> Result<Option<OfDiff>, SelectionError> {
    let record = cx.recorded(&PUSHES, &diff_id.to_string()).await?;
    let Some(push) = record.field(PUSH)? else {
        return Ok(None);
    };
    let selected = record
        .field(SELECTED)?
        .is_some_and(|head| head == push.head);
    Ok(Some(OfDiff { push, selected }))
}

/// The push that selected tests were added to in this task group, if they were.
pub(super) async fn of_group(cx: &Context, group: &str) -> Result<Option<Push>, SelectionError> {
    Ok(cx.recorded(&GROUPS, group).await?.field(PUSH)?)
}
