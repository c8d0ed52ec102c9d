//! Risk analysis of diffs, for the users who want it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use build::{Build, Phid};
use bus::{BusError, Context, Handler, Outcome, Queue};
use serde_json::json;

use crate::{HookName, Trigger};

/// Handles builds: triggers the hook once for each diff whose author or reviewer is one of the configured users.
pub struct RiskAnalysis {
    deployment: String,
    users: BTreeSet<Phid>,
    hooks: Queue<Trigger>,
}

impl RiskAnalysis {
    /// Triggers the hook, through the queue `hooks`, for diffs that `users` write or review. `deployment` is the hook's name
    /// of our Phabricator.
    pub fn new(deployment: String, users: BTreeSet<Phid>, hooks: Queue<Trigger>) -> Self {
        Self {
            deployment,
            users,
            hooks,
        }
    }
}

#[async_trait]
impl Handler<Build> for RiskAnalysis {
    type Error = BusError;

    async fn handle(&self, build: Build, cx: &Context) -> Result<Outcome, BusError> {
        let mut people = std::iter::once(&build.revision.author).chain(&build.revision.reviewers);
        if !people.any(|person| self.users.contains(person)) {
            return Ok(Outcome::Done);
        }
        let hook = HookName::new("project-bugbug", "bugbug-classify-patch");
        let payload = json!({"PHABRICATOR_DEPLOYMENT": self.deployment, "DIFF_ID": build.diff.id});
        Trigger::new(hook, payload, &format!("diff {}", build.diff.id)).send(&self.hooks, cx)?;
        Ok(Outcome::Done)
    }
}
