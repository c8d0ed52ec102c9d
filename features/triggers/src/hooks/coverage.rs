//! Code coverage: triggered when a task group with a build for code coverage is resolved.

use async_trait::async_trait;
use bus::{Context, Handler, Outcome, Queue};
use pulse::PulseMessage;
use serde_json::json;
use taskcluster::{GroupTask, Taskcluster};
use tracing::{debug, info};

use super::{
    HookError,
    task_group::{is_changeset, resolved, same_repository},
};
use crate::{HookName, Trigger};

/// The prefixes of the names of tasks that build for code coverage.
const BUILDS: [&str; 2] = ["build-linux64-ccov", "build-win64-ccov"];
/// The repositories for which coverage is collected.
const REPOSITORIES: [&str; 2] = [
    "https://hg.mozilla.org/mozilla-central",
    "https://hg.mozilla.org/try",
];
/// The most pages of a group that are read. At 1,000 tasks a page, this is ten times the size of the largest groups.
const MAX_PAGES: usize = 200;

/// Handles messages of `task-group-resolved`: triggers a hook once for each group with a build for code coverage.
pub struct CoverageBuilds {
    taskcluster: Taskcluster,
    hook: HookName,
    hooks: Queue<Trigger>,
}

impl CoverageBuilds {
    /// Triggers `hook`, through the queue `hooks`, for groups of `taskcluster`.
    pub fn new(taskcluster: Taskcluster, hook: HookName, hooks: Queue<Trigger>) -> Self {
        Self {
            taskcluster,
            hook,
            hooks,
        }
    }

    /// The first build for code coverage of a group.
    async fn build(&self, group: &str) -> Result<Option<GroupTask>, HookError> {
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let page = self.taskcluster.task_group(group, token.as_deref()).await;
            let page = page.map_err(|source| HookError::Group {
                group: group.to_owned(),
                source,
            })?;
            if let Some(build) = page.tasks.into_iter().find(is_build) {
                return Ok(Some(build));
            }
            token = page.continuation_token;
            if token.is_none() {
                return Ok(None);
            }
        }
        Err(HookError::TooManyPages {
            group: group.to_owned(),
            pages: MAX_PAGES,
        })
    }
}

fn is_build(task: &GroupTask) -> bool {
    BUILDS
        .iter()
        .any(|name| task.task.metadata.name.starts_with(name))
}

#[async_trait]
impl Handler<PulseMessage> for CoverageBuilds {
    type Error = HookError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, HookError> {
        let group = resolved(&message)?;
        let Some(build) = self.build(&group).await? else {
            debug!(group, "ignoring the group: it has no code-coverage build");
            return Ok(Outcome::Done);
        };
        let task = build.status.task_id;
        let named = build.task.env("GECKO_HEAD_REPOSITORY");
        let known = |named: &str| {
            REPOSITORIES
                .into_iter()
                .find(|known| same_repository(known, named))
        };
        let Some(repository) = named.and_then(known) else {
            info!(
                group,
                task,
                "ignoring the group: its code-coverage build names another repository, or none"
            );
            return Ok(Outcome::Done);
        };
        let variable = "GECKO_HEAD_REV";
        let Some(revision) = build
            .task
            .env(variable)
            .filter(|revision| is_changeset(revision))
        else {
            return Err(HookError::NoChangeset {
                task,
                group,
                variable,
            });
        };
        let payload = json!({"REPOSITORY": repository, "REVISION": revision});
        Trigger::new(self.hook.clone(), payload, &group).send(&self.hooks, cx)?;
        Ok(Outcome::Done)
    }
}
