//! The second step: selected tests are added to their push.

use std::{fmt::Write as _, time::Duration};

use async_trait::async_trait;
use bus::{Context, Handler, Outcome, Queue};
use bytes::Bytes;
use pulse::PulseMessage;
use runtime::sanitize;
use serde_json::Value;
use taskcluster::{
    Email, EmailTemplate, Taskcluster, TaskclusterError,
    model::{TaskDefinition, TaskMessage},
};
use tracing::{debug, info};

use super::{
    SelectionError,
    action::{self, Decision},
    store::{self, Push, SelectionState},
};
use crate::Trigger;

/// The additional routing key of a message about the end of a selection.
const ROUTE: &str = "route.project.bugbug.test_select";

const FAILURE_RISK: &str = "public/failure_risk";
const SELECTED_TASKS: &str = "public/selected_tasks";
const ACTIONS: &str = "public/actions.json";
/// The longest artifacts that are read, in bytes: a number, some hundred labels, and the actions of a push.
const MAX_RISK: usize = 64;
const MAX_LABELS: usize = 256 * 1024;
const MAX_ACTIONS: usize = 4 * 1024 * 1024;

/// The time between two checks for the decision task of a push, until it ended or the record of the push expires.
const RECHECK: Duration = Duration::from_secs(120);

/// The most labels in a mail, and the longest one, in bytes.
const MAX_NAMED: usize = 200;
const MAX_LABEL: usize = 255;

/// Handles `pulse:bugbug_test_select`: adds the tests that bugbug selected to their push.
pub struct SelectionResultHandler {
    deployment: String,
    community: Taskcluster,
    firefox: Taskcluster,
    queues: SelectionQueues,
    notify: Vec<String>,
}

/// The queues that a selection sends to.
#[derive(Debug, Clone, Copy)]
pub struct SelectionQueues {
    /// Hooks of the deployment of Try.
    pub hooks: Queue<Trigger>,
    /// Mails.
    pub mails: Queue<Email>,
}

impl SelectionResultHandler {
    /// `deployment` is bugbug's name of our Phabricator, `community` the deployment that selects tests, and `firefox` the
    /// one that runs them. Mails about added tests go to the addresses of `notify`.
    pub fn new(
        deployment: String,
        community: Taskcluster,
        firefox: Taskcluster,
        queues: SelectionQueues,
        notify: Vec<String>,
    ) -> Self {
        Self {
            deployment,
            community,
            firefox,
            queues,
            notify,
        }
    }

    /// Whether bugbug sees a risk in the patch.
    async fn is_risky(&self, task: &str) -> Result<bool, SelectionError> {
        let content = self
            .community
            .artifact_content(task, FAILURE_RISK, MAX_RISK)
            .await;
        let content = content.map_err(SelectionError::reading_artifact(task, FAILURE_RISK))?;
        let risk = std::str::from_utf8(&content)
            .ok()
            .and_then(|text| text.trim().parse::<f64>().ok());
        risk.map(|risk| risk != 0.0)
            .ok_or_else(|| artifact(task, FAILURE_RISK, "not a number"))
    }

    async fn labels(&self, task: &str) -> Result<Vec<String>, SelectionError> {
        let content = self
            .community
            .artifact_content(task, SELECTED_TASKS, MAX_LABELS)
            .await;
        let content = content.map_err(SelectionError::reading_artifact(task, SELECTED_TASKS))?;
        let text = std::str::from_utf8(&content)
            .map_err(|_| artifact(task, SELECTED_TASKS, "not UTF-8"))?;
        Ok(text
            .lines()
            .map(str::trim)
            .filter(|label| !label.is_empty())
            .map(str::to_owned)
            .collect())
    }

    /// The decision task of a push, and its actions. `None` until the task completed, since it is not in the index before.
    async fn decision(&self, push: &Push) -> Result<Option<(Decision, Bytes)>, SelectionError> {
        let namespace = format!("gecko.v2.try.revision.{}.taskgraph.decision", push.head);
        let found = self.firefox.find_task(&namespace).await;
        let id = match found {
            Ok(found) => found.task_id,
            Err(TaskclusterError::NotFound { .. }) => return Ok(None),
            Err(source) => {
                return Err(SelectionError::reading(format!(
                    "the index entry of the decision task of {}",
                    push.head
                ))(source));
            }
        };
        let definition = self.firefox.task(&id).await;
        let definition =
            definition.map_err(SelectionError::reading(format!("the decision task {id}")))?;
        let actions = self
            .firefox
            .artifact_content(&id, ACTIONS, MAX_ACTIONS)
            .await;
        let actions = actions.map_err(SelectionError::reading_artifact(&id, ACTIONS))?;
        let group = definition
            .task_group_id
            .clone()
            .unwrap_or_else(|| id.clone());
        let scopes = scopes(&definition);
        Ok(Some((Decision { id, group, scopes }, actions)))
    }
}

fn artifact(task: &str, artifact: &'static str, problem: &'static str) -> SelectionError {
    SelectionError::Artifact {
        task: task.to_owned(),
        artifact,
        problem,
    }
}

fn scopes(task: &TaskDefinition) -> Vec<String> {
    let scopes = task
        .rest
        .get("scopes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    scopes
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The diff that bugbug's task was triggered for. Hooks turn numbers into text.
fn diff_id(task: &TaskDefinition) -> Option<u64> {
    let value = task.extra.get("phabricator-diff-id")?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[async_trait]
impl Handler<PulseMessage> for SelectionResultHandler {
    type Error = SelectionError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, SelectionError> {
        if !message
            .routing
            .other_routes
            .iter()
            .any(|route| route == ROUTE)
        {
            return Ok(Outcome::Done);
        }
        let id = message.json::<TaskMessage>()?.status.task_id;
        let task = self.community.task(&id).await;
        let task = task.map_err(SelectionError::reading(format!(
            "the test selection task {id}"
        )))?;
        if task
            .extra
            .get("phabricator-deployment")
            .and_then(Value::as_str)
            != Some(self.deployment.as_str())
        {
            debug!(
                task = id,
                "ignoring the selection: it is for another phabricator"
            );
            return Ok(Outcome::Done);
        }
        let diff = diff_id(&task).ok_or_else(|| SelectionError::Diff { task: id.clone() })?;
        let Some(SelectionState { push, selected }) = store::push_of_diff(cx, diff).await? else {
            info!(
                task = id,
                diff, "ignoring the selection: its diff has no recorded push"
            );
            return Ok(Outcome::Done);
        };
        if selected {
            debug!(
                task = id,
                diff, "ignoring the selection: its tests were added to this push before"
            );
            return Ok(Outcome::Done);
        }
        if !self.is_risky(&id).await? {
            info!(task = id, diff, "adding no tests: bugbug reports no risk");
            return Ok(Outcome::Done);
        }
        let labels = self.labels(&id).await?;
        if labels.is_empty() {
            info!(task = id, diff, "adding no tests: bugbug selected none");
            return Ok(Outcome::Done);
        }
        let Some((decision, actions)) = self.decision(&push).await? else {
            let reason = format!(
                "the decision task of the push {} to try has not completed; selected tests are added after that",
                push.head
            );
            return Ok(Outcome::defer(RECHECK, reason));
        };
        let decision_id = decision.id.clone();
        let group = decision.group.clone();
        let mail = mail_text(&push, &labels);
        let tests = labels.len();
        let add = action::add_new_jobs(actions, decision, labels).await;
        let add = add.map_err(|source| SelectionError::Action {
            decision: decision_id,
            source,
        })?;
        store::tests_added(&push, &group)?
            .into_iter()
            .for_each(|update| cx.record(update));
        cx.send(&self.queues.hooks, &add)?;
        // One message for each address, so that a failed mail does not repeat the others.
        for address in &self.notify {
            let email = Email {
                address: address.clone(),
                subject: format!("Tests selected for D{}", push.revision_id),
                content: mail.clone(),
                template: EmailTemplate::Fullscreen,
            };
            cx.send(&self.queues.mails, &email)?;
        }
        info!(
            task = id,
            diff, group, tests, "added the selected tests to the push"
        );
        Ok(Outcome::Done)
    }
}

/// The mail, in Markdown. Labels are foreign text: the indentation by four spaces makes them code.
fn mail_text(push: &Push, labels: &[String]) -> String {
    let mut text = format!(
        "bugbug selected {} tests for diff {} of D{}. They are added to [its push to Try]({}):\n\n",
        labels.len(),
        push.diff_id,
        push.revision_id,
        push.jobs_url
    );
    for label in labels.iter().take(MAX_NAMED) {
        let label = sanitize::one_line(label, MAX_LABEL);
        let _ = writeln!(text, "    {label}");
    }
    if let Some(more) = labels.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
        let _ = writeln!(text, "\nand {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_lists_bounded_number_of_tests() {
        let push = Push {
            target: build::Phid::parse("PHID-HMBT-00000000000000000001").unwrap(),
            diff_id: 2,
            revision_id: 1,
            head: "a".repeat(40),
            jobs_url: "https://treeherder.example/#/jobs?repo=try&revision=aaaa".to_owned(),
        };
        let labels: Vec<String> = (0..300)
            .map(|number| format!("test-{number}-\u{7}{}", "ü".repeat(400)))
            .collect();
        let text = mail_text(&push, &labels);
        assert!(text.starts_with(
            "bugbug selected 300 tests for diff 2 of D1. They are added to [its push to Try](https:"
        ));
        assert!(
            text.ends_with("\nand 100 more\n") && !text.contains('\u{7}'),
            "{text}"
        );
        // The notify service rejects longer mails.
        assert!(text.chars().count() < 102_400, "{}", text.chars().count());
        assert!(mail_text(&push, &labels[..2]).ends_with("ü…\n"));
    }
}
