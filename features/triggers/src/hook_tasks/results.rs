//! What is recorded of tasks that have ended, until it is reported.

use bus::{Bus, BusError, Context, Field, RecordStore, RecordUpdate};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::HookName;

const ENDED: Field<EndedTask> = Field::new("end");
const TAG: &str = "to-report";
/// How many records are read in one go.
const PAGE: usize = 500;

/// How a watched task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskEnd {
    /// Well.
    Completed,
    /// Badly.
    Failed,
    /// Not by itself.
    Exception,
    /// Taskcluster does not know it any more, so nobody can tell.
    Forgotten,
}

/// A watched task that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedTask {
    /// The task.
    pub task_id: String,
    /// The hook that made it.
    pub hook: HookName,
    /// How it ended.
    pub end: TaskEnd,
    /// When that was seen.
    pub at: Timestamp,
    /// The task that was made in its place.
    pub retried_as: Option<String>,
}

/// Records that a task has ended, and lets it be found until it is reported.
pub(super) fn ended(store: &RecordStore, task: &EndedTask) -> Result<[RecordUpdate; 2], BusError> {
    Ok([
        store.set_once(&task.task_id, ENDED, task)?,
        store.add_to_index(&task.task_id, TAG),
    ])
}

/// Whether the end of a task is recorded. A reported one stays so, for as long as the store keeps it.
pub(super) async fn is_known(
    cx: &Context,
    store: &RecordStore,
    task_id: &str,
) -> Result<bool, BusError> {
    Ok(!cx.recorded(store, task_id).await?.is_empty())
}

/// Records that the end of a task was reported.
pub(super) fn reported(store: &RecordStore, task: &EndedTask) -> RecordUpdate {
    store.remove_from_index(&task.task_id, TAG)
}

/// All that were not reported, in the order in which they ended.
pub(super) async fn unreported(
    bus: &dyn Bus,
    store: &RecordStore,
) -> Result<Vec<EndedTask>, BusError> {
    let mut tasks = Vec::new();
    for page in 0.. {
        let found = bus
            .indexed(store, TAG, page * PAGE..(page + 1) * PAGE)
            .await?;
        let ids: Vec<String> = found.into_iter().map(|(id, _)| id).collect();
        for (id, record) in ids.iter().zip(bus.records(store, &ids).await?) {
            let read = record.field(ENDED);
            tasks.extend(read.map_err(|source| BusError::Record {
                record: id.clone(),
                source,
            })?);
        }
        if ids.len() < PAGE {
            break;
        }
    }
    // One that comes between two pages moves the others on, so some are read twice.
    tasks.sort_by(|a, b| (a.at, &a.task_id).cmp(&(b.at, &b.task_id)));
    tasks.dedup_by(|a, b| a.task_id == b.task_id);
    Ok(tasks)
}
