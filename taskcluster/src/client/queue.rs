//! The queue service: tasks and groups. Artifacts have their own file.

use reqwest::Method;
use serde::Deserialize;

use super::{Taskcluster, TaskclusterError, call::Call};
use crate::model::{TaskDefinition, TaskStatus};

/// How many tasks are asked for at once: as many as the queue gives.
const PAGE: &str = "1000";

/// Some tasks of a group.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupPage {
    /// The tasks, in no order that means anything. A page may be empty though more follow.
    pub tasks: Vec<GroupTask>,
    /// What leads to the next page; none on the last.
    pub continuation_token: Option<String>,
}

/// A task of a group.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct GroupTask {
    /// How far it is.
    pub status: TaskStatus,
    /// What it is to do.
    pub task: TaskDefinition,
}

#[derive(Deserialize)]
struct Status {
    status: TaskStatus,
}

impl Taskcluster {
    /// The definition of a task (`queue.task`).
    pub async fn task(&self, task_id: &str) -> Result<TaskDefinition, TaskclusterError> {
        self.call(&Call::get("queue.task", &["task", task_id]))
            .await?
            .json()
    }

    /// How far a task is (`queue.status`).
    pub async fn status(&self, task_id: &str) -> Result<TaskStatus, TaskclusterError> {
        let answer = self
            .call(&Call::get("queue.status", &["task", task_id, "status"]))
            .await?;
        Ok(answer.json::<Status>()?.status)
    }

    /// Creates a task under an id that the caller chose (`queue.createTask`): 22 letters of url-safe base64 (a slug id).
    /// Doing so again with the same definition changes nothing and succeeds; with another definition it is a
    /// [`TaskclusterError::Conflict`].
    pub async fn create_task(
        &self,
        task_id: &str,
        task: &TaskDefinition,
    ) -> Result<TaskStatus, TaskclusterError> {
        let name = "queue.createTask";
        let task = serde_json::to_value(task).map_err(|problem| TaskclusterError::Unsendable {
            call: name,
            problem: problem.to_string(),
        })?;
        let answer = self
            .call(&Call::with_body(
                name,
                Method::PUT,
                &["task", task_id],
                &task,
            ))
            .await?;
        Ok(answer.json::<Status>()?.status)
    }

    /// A page of a task group (`queue.listTaskGroup`): the first, or the one that `token` leads to.
    pub async fn task_group(
        &self,
        group: &str,
        token: Option<&str>,
    ) -> Result<GroupPage, TaskclusterError> {
        let mut query = vec![("limit", PAGE)];
        query.extend(token.map(|token| ("continuationToken", token)));
        let path = ["task-group", group, "list"];
        self.call(&Call {
            query,
            ..Call::get("queue.listTaskGroup", &path)
        })
        .await?
        .json()
    }
}
