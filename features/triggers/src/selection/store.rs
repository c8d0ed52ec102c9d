//! Records of the pushes whose tests are selected: the push of a diff, until its tests are selected, and the push of a task
//! group, until its tests have run.

use std::time::Duration;

use build::Phid;
use bus::{BusError, Context, Field, RecordStore, RecordUpdate};
use serde::{Deserialize, Serialize};

use super::SelectionError;

/// The longest time for a selection and the tests after it.
const RETENTION: Duration = Duration::from_secs(7 * 3600);

/// Pushes, by the number of their diff.
const PUSHES: RecordStore = RecordStore {
    name: "selection-pushes",
    retention: RETENTION,
};
/// Pushes, by their task group.
const GROUPS: RecordStore = RecordStore {
    name: "selection-groups",
    retention: RETENTION,
};

const PUSH: Field<Push> = Field::new("push");
/// The head of the push to which tests were added. A diff may be pushed again.
const SELECTED: Field<String> = Field::new("selected");

/// A push to Try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Push {
    /// The build target of its build.
    pub(super) target: Phid,
    /// Its diff.
    pub(super) diff_id: u64,
    /// The number of the diff's revision.
    pub(super) revision_id: u64,
    /// The head's changeset, 40 hex digits.
    pub(super) head: String,
    /// The address of its jobs on Treeherder.
    #[serde(alias = "treeherder_url")]
    pub(super) jobs_url: String,
}

/// The push of a diff, and the state of its selection.
pub(super) struct SelectionState {
    pub(super) push: Push,
    /// Whether selected tests were added to this push.
    pub(super) selected: bool,
}

/// The update to record when the selection for a push starts.
pub(super) fn selection_started(push: &Push) -> Result<RecordUpdate, BusError> {
    PUSHES.set(&push.diff_id.to_string(), PUSH, push)
}

/// The updates to record when selected tests are added to the task group of the push.
pub(super) fn tests_added(push: &Push, group: &str) -> Result<[RecordUpdate; 2], BusError> {
    Ok([
        PUSHES.set(&push.diff_id.to_string(), SELECTED, &push.head)?,
        GROUPS.set(group, PUSH, push)?,
    ])
}

/// The newest push of a diff, if it is recorded: ours, and younger than [`RETENTION`].
pub(super) async fn push_of_diff(
    cx: &Context,
    diff_id: u64,
) -> Result<Option<SelectionState>, SelectionError> {
    let record = cx.recorded(&PUSHES, &diff_id.to_string()).await?;
    let Some(push) = record.field(PUSH)? else {
        return Ok(None);
    };
    let selected = record
        .field(SELECTED)?
        .is_some_and(|head| head == push.head);
    Ok(Some(SelectionState { push, selected }))
}

/// The push of this task group, if selected tests were added to it.
pub(super) async fn push_of_group(
    cx: &Context,
    group: &str,
) -> Result<Option<Push>, SelectionError> {
    Ok(cx.recorded(&GROUPS, group).await?.field(PUSH)?)
}
