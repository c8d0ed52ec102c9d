//! Code review after landing: triggered when all tasks of a landed push are resolved.

use async_trait::async_trait;
use bus::{Context, Handler, Outcome, Queue};
use pulse::PulseMessage;
use serde_json::{Map, Value};
use taskcluster::{Taskcluster, TaskclusterError};
use tracing::debug;

use super::{
    HookError,
    task_group::{resolved, same_repository},
};
use crate::{HookName, Trigger};

/// The repository in which a push landed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// The repository `integration/autoland`.
    Autoland,
    /// The repository `mozilla-central`.
    MozillaCentral,
}

impl Landing {
    /// Its address, as decision tasks name it.
    fn repository(self) -> &'static str {
        match self {
            Self::Autoland => "https://hg.mozilla.org/integration/autoland",
            Self::MozillaCentral => "https://hg.mozilla.org/mozilla-central",
        }
    }

    /// The key of the task group in the payload of the hook.
    fn variable(self) -> &'static str {
        match self {
            Self::Autoland => "AUTOLAND_TASK_GROUP_ID",
            Self::MozillaCentral => "MOZILLA_CENTRAL_TASK_GROUP_ID",
        }
    }
}

/// Handles messages of `task-group-resolved`: triggers code review once for each group of a landed push.
pub struct PostLandingReview {
    taskcluster: Taskcluster,
    landing: Landing,
    hook: HookName,
    hooks: Queue<Trigger>,
}

impl PostLandingReview {
    /// Triggers the hook of the deployment `channel` (such as `production`), through the queue `hooks`, for groups of
    /// `taskcluster` whose push landed in the repository of `landing`.
    pub fn new(
        taskcluster: Taskcluster,
        landing: Landing,
        channel: &str,
        hooks: Queue<Trigger>,
    ) -> Self {
        let hook = HookName::new("project-relman", format!("code-review-{channel}"));
        Self {
            taskcluster,
            landing,
            hook,
            hooks,
        }
    }
}

#[async_trait]
impl Handler<PulseMessage> for PostLandingReview {
    type Error = HookError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, HookError> {
        let group = resolved(&message)?;
        // The decision task creates the other tasks of its group, and has the group's id.
        let decision = match self.taskcluster.task(&group).await {
            Ok(task) => task,
            Err(TaskclusterError::NotFound { .. }) => {
                debug!(group, "ignored, the group has no decision task");
                return Ok(Outcome::Done);
            }
            Err(source) => return Err(HookError::Group { group, source }),
        };
        let repository = decision.env("GECKO_HEAD_REPOSITORY");
        if !repository.is_some_and(|named| same_repository(named, self.landing.repository())) {
            debug!(
                task = group,
                "ignored, the decision task is for another repository, or for none"
            );
            return Ok(Outcome::Done);
        }
        let payload = Map::from_iter([(
            self.landing.variable().to_owned(),
            Value::from(group.as_str()),
        )]);
        Trigger::new(self.hook.clone(), Value::Object(payload), &group).send(&self.hooks, cx)?;
        Ok(Outcome::Done)
    }
}
