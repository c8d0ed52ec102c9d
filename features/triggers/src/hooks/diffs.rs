//! Analysis of new diffs on Phabricator.

use async_trait::async_trait;
use build::NewDiff;
use bus::{BusError, Context, Handler, Outcome, Queue};
use serde_json::json;

use crate::{HookName, Trigger};

/// Handles new diffs: triggers a hook once for each diff.
pub struct DiffAnalysis {
    hook: HookName,
    hooks: Queue<Trigger>,
}

impl DiffAnalysis {
    /// Triggers `hook`, through the queue `hooks`.
    pub fn new(hook: HookName, hooks: Queue<Trigger>) -> Self {
        Self { hook, hooks }
    }
}

#[async_trait]
impl Handler<NewDiff> for DiffAnalysis {
    type Error = BusError;

    async fn handle(&self, diff: NewDiff, cx: &Context) -> Result<Outcome, BusError> {
        let payload = json!({"ANALYSIS_SOURCE": "phabricator", "ANALYSIS_ID": diff.phid.as_str()});
        Trigger::new(self.hook.clone(), payload, diff.phid.as_str()).send(&self.hooks, cx)?;
        Ok(Outcome::Done)
    }
}
