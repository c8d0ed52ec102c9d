//! The results of watched tasks, recorded until they are reported.

use bus::{Bus, BusError, Context, Field, RecordStore, RecordUpdate};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::HookName;

const RESULT: Field<EndedTask> = Field::new("result");
const UNREPORTED: &str = "to-report";
/// How many records are read at once.
const PAGE: usize = 500;

/// The result of a watched task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskResult {
    /// It succeeded.
    Completed,
    /// It failed by itself.
    Failed,
    /// It was cancelled, its worker vanished, or its deadline passed.
    Exception,
    /// Taskcluster deleted it before the watcher saw its end.
    Expired,
}

/// A watched task that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedTask {
    /// The task.
    pub task_id: String,
    /// The hook that created it.
    pub hook: HookName,
    /// Its result.
    pub result: TaskResult,
    /// When the watcher saw the end.
    pub at: Timestamp,
    /// The id of the task that was created in its place.
    pub retried_as: Option<String>,
}

/// Records the result of a task, and adds it to the index of unreported ones.
pub(super) fn record(store: &RecordStore, task: &EndedTask) -> Result<[RecordUpdate; 2], BusError> {
    Ok([
        store.set_once(&task.task_id, RESULT, task)?,
        store.add_to_index(&task.task_id, UNREPORTED),
    ])
}

/// Whether the result of a task is recorded. The record outlives the report, for as long as the store keeps it.
pub(super) async fn is_known(
    cx: &Context,
    store: &RecordStore,
    task_id: &str,
) -> Result<bool, BusError> {
    Ok(!cx.recorded(store, task_id).await?.is_empty())
}

/// Marks the result of a task as reported.
pub(super) fn reported(store: &RecordStore, task: &EndedTask) -> RecordUpdate {
    store.remove_from_index(&task.task_id, UNREPORTED)
}

/// All unreported results, in the order in which the tasks ended.
pub(super) async fn unreported(
    bus: &dyn Bus,
    store: &RecordStore,
) -> Result<Vec<EndedTask>, BusError> {
    let mut tasks = Vec::new();
    for page in 0.. {
        let found = bus
            .indexed(store, UNREPORTED, page * PAGE..(page + 1) * PAGE)
            .await?;
        let ids: Vec<String> = found.into_iter().map(|(id, _)| id).collect();
        for (id, record) in ids.iter().zip(bus.records(store, &ids).await?) {
            let read = record.field(RESULT);
            tasks.extend(read.map_err(|source| BusError::Record {
                record: id.clone(),
                source,
            })?);
        }
        if ids.len() < PAGE {
            break;
        }
    }
    // A result that is added between two pages moves the others, so some are read twice.
    tasks.sort_by(|a, b| (a.at, &a.task_id).cmp(&(b.at, &b.task_id)));
    tasks.dedup_by(|a, b| a.task_id == b.task_id);
    Ok(tasks)
}
