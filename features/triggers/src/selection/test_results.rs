//! The end: tests of a push have run.
//!
//! Every task on Try that ends comes here, and nearly none belongs to a push that we remember. So what costs least is
//! asked first: the message itself, then the store, and the service only for what a message of a remembered push does not
//! say.

use async_trait::async_trait;
use build::{TestOutcome, TestResult};
use bus::{Context, Handler, Outcome, Queue};
use pulse::PulseMessage;
use runtime::sanitize;
use taskcluster::{
    Taskcluster,
    model::{TaskMessage, TaskState},
};
use tracing::info;

use super::{SelectionError, store};

/// The kind of tasks that are tests. What others find, the review bot reports.
const TEST: &str = "test";
/// The longest label that is shown, in characters.
const MAX_LABEL: usize = 200;

/// Handles `pulse:try_task_end`: has the tests' results told on the build targets of their pushes.
pub struct TestEnd {
    firefox: Taskcluster,
    results: Queue<TestResult>,
}

impl TestEnd {
    /// Of tasks of the deployment `firefox`; what ended is sent to `results`.
    pub fn new(firefox: Taskcluster, results: Queue<TestResult>) -> Self {
        Self { firefox, results }
    }

    /// The label of a test; `None` when the task is none.
    async fn label(&self, message: &TaskMessage) -> Result<Option<String>, SelectionError> {
        if let (Some(TEST), Some(label)) = (message.tag("kind"), message.tag("label")) {
            return Ok(Some(label.to_owned()));
        }
        let id = &message.status.task_id;
        let task = self
            .firefox
            .task(id)
            .await
            .map_err(SelectionError::reading(format!("task {id} on try")))?;
        let tag = |name| task.tags.get(name).and_then(|value| value.as_str());
        let label = tag("label").unwrap_or(&task.metadata.name);
        Ok((tag("kind") == Some(TEST)).then(|| label.to_owned()))
    }
}

#[async_trait]
impl Handler<PulseMessage> for TestEnd {
    type Error = SelectionError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, SelectionError> {
        let message: TaskMessage = message.json()?;
        let outcome = match message.status.state {
            TaskState::Completed => TestOutcome::Pass,
            TaskState::Failed | TaskState::Exception => TestOutcome::Fail,
            TaskState::Unscheduled
            | TaskState::Pending
            | TaskState::Running
            | TaskState::Unknown => return Ok(Outcome::Done),
        };
        if message.task.is_some() && message.tag("kind") != Some(TEST) {
            return Ok(Outcome::Done);
        }
        let status = &message.status;
        let Some(push) = store::of_group(cx, &status.task_group_id).await? else {
            return Ok(Outcome::Done);
        };
        let Some(label) = self.label(&message).await? else {
            return Ok(Outcome::Done);
        };
        // A task that was resolved before its first run has none.
        let run = message
            .run_id
            .or_else(|| status.runs.last().map(|run| run.run_id))
            .unwrap_or_default();
        let job = format!(
            "{}&selectedTaskRun={}-{run}",
            push.treeherder_url, status.task_id
        );
        info!(build = %push.target, task = status.task_id, run, "a selected test ended: {outcome:?}");
        let result = TestResult {
            target: push.target,
            label: label
                .chars()
                .filter(|c| !c.is_control() && !sanitize::is_format(*c))
                .take(MAX_LABEL)
                .collect(),
            outcome,
            link: (outcome == TestOutcome::Fail).then_some(job),
            task_id: status.task_id.clone(),
            run,
        };
        cx.send(&self.results, &result)?;
        Ok(Outcome::Done)
    }
}
