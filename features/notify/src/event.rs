//! The task event in a message of Pulse.

use std::collections::BTreeSet;

use pulse::{PulseMessage, Routing};
use serde::Deserialize;
use serde_json::json;
use taskcluster::{
    Taskcluster, TaskclusterError,
    model::{TaskMessage, TaskStatus},
};

use crate::{DispatchError, Status};

/// The length of a task's id.
const ID_LENGTH: usize = 22;
/// The most runs that are kept, the last ones. Taskcluster retries a task fewer times.
const MAX_RUNS: usize = 50;
/// The longest name of an artifact, in bytes: the queue's own limit.
const MAX_ARTIFACT: usize = 1024;

/// A change of a task.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) status: Status,
    pub(crate) task_id: String,
    pub(crate) group_id: String,
    pub(crate) run_id: Option<u32>,
    /// All runs in the message.
    pub(crate) runs: Vec<u32>,
    /// The runs that a worker started: they have logs.
    pub(crate) started: BTreeSet<u32>,
    pub(crate) artifact: Option<String>,
}

#[derive(Deserialize)]
struct WithArtifact {
    artifact: Named,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Event {
    pub(crate) fn read(message: &PulseMessage) -> Result<Self, DispatchError> {
        let exchange = &message.routing.exchange;
        let status =
            Status::of_exchange(exchange).ok_or_else(|| DispatchError::UnknownExchange {
                exchange: crate::text::one_line(exchange, 200),
            })?;
        let TaskMessage {
            status: task,
            run_id,
            ..
        } = message.json()?;
        for id in [&task.task_id, &task.task_group_id] {
            if !is_id(id) {
                return Err(DispatchError::InvalidTaskId {
                    exchange: exchange.clone(),
                    id: crate::text::one_line(id, 60),
                });
            }
        }
        let artifact = match status {
            Status::ArtifactCreated => Some(crate::text::one_line(
                &message.json::<WithArtifact>()?.artifact.name,
                MAX_ARTIFACT,
            )),
            _ => None,
        };
        let runs = &task.runs[task.runs.len().saturating_sub(MAX_RUNS)..];
        Ok(Self {
            status,
            run_id,
            runs: runs.iter().map(|run| run.run_id).collect(),
            started: runs
                .iter()
                .filter(|run| run.started.is_some())
                .map(|run| run.run_id)
                .collect(),
            task_id: task.task_id,
            group_id: task.task_group_id,
            artifact,
        })
    }
}

/// Whether `text` has the form of a task id. Such a text is safe in an address and in a header.
fn is_id(text: &str) -> bool {
    text.len() == ID_LENGTH
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// The message that Pulse would deliver if the task entered `status` now. `artifact` is the name of the artifact for
/// [`Status::ArtifactCreated`].
pub async fn replayed(
    taskcluster: &Taskcluster,
    task_id: &str,
    status: Status,
    artifact: Option<&str>,
) -> Result<PulseMessage, TaskclusterError> {
    let task = taskcluster.status(task_id).await?;
    let mut body = json!({ "status": described(&task), "runId": task.runs.last().map(|run| run.run_id), "version": 1 });
    if status == Status::ArtifactCreated {
        body["artifact"] = json!({ "name": artifact.unwrap_or("public/logs/live.log") });
    }
    let run = task
        .runs
        .last()
        .map_or_else(|| "_".to_owned(), |run| run.run_id.to_string());
    let key = format!(
        "primary.{}.{run}._._._._.{}.{}._",
        task.task_id, task.scheduler_id, task.task_group_id
    );
    let routing = Routing {
        exchange: status.exchange(),
        key,
        other_routes: Vec::new(),
    };
    Ok(PulseMessage {
        routing,
        body: body.to_string().into_bytes().into(),
    })
}

fn described(task: &TaskStatus) -> serde_json::Value {
    let run = |run: &taskcluster::model::Run| {
        json!({
            "runId": run.run_id,
            "state": run.state,
            "reasonResolved": run.reason_resolved,
            "scheduled": run.scheduled,
            "started": run.started,
            "resolved": run.resolved,
        })
    };
    json!({
        "taskId": task.task_id,
        "taskGroupId": task.task_group_id,
        "schedulerId": task.scheduler_id,
        "state": task.state,
        "deadline": task.deadline,
        "expires": task.expires,
        "runs": task.runs.iter().map(run).collect::<Vec<_>>(),
    })
}
