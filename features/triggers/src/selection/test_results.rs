//! The third step: tests of a push have ended.
//!
//! Every task on Try that ends comes here, and almost none belongs to a recorded push. So the cheapest checks come first:
//! the message itself, then the record, and Taskcluster only for what the message of a recorded push lacks.

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

/// The kind of tasks that are tests. The review bot reports the results of other kinds.
const TEST: &str = "test";
/// The longest label of a unit, in bytes.
const MAX_LABEL: usize = 200;

/// Handles `pulse:tests`: publishes the results of tests on the build targets of their pushes.
pub struct TestResultHandler {
    firefox: Taskcluster,
    results: Queue<TestResult>,
}

impl TestResultHandler {
    /// Reads tasks of the deployment `firefox`, and sends their results to `results`.
    pub fn new(firefox: Taskcluster, results: Queue<TestResult>) -> Self {
        Self { firefox, results }
    }

    /// The label of a test; `None` if the task is not a test.
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
impl Handler<PulseMessage> for TestResultHandler {
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
        let Some(push) = store::push_of_group(cx, &status.task_group_id).await? else {
            return Ok(Outcome::Done);
        };
        let Some(label) = self.label(&message).await? else {
            return Ok(Outcome::Done);
        };
        // A task that was resolved before its first run has no run.
        let run = message
            .run_id
            .or_else(|| status.runs.last().map(|run| run.run_id))
            .unwrap_or_default();
        let job = format!("{}&selectedTaskRun={}-{run}", push.jobs_url, status.task_id);
        info!(build = %push.target, task = status.task_id, run, ?outcome, "a test of the push ended");
        let result = TestResult {
            target: push.target,
            label: sanitize::one_line(&label, MAX_LABEL),
            outcome,
            link: (outcome == TestOutcome::Fail).then_some(job),
            task_id: status.task_id.clone(),
            run,
        };
        cx.send(&self.results, &result)?;
        Ok(Outcome::Done)
    }
}
