//! The first step: a push whose tests are to be selected.

use async_trait::async_trait;
use build::{BuildUpdate, BuildUpdateMessage, VersionControl};
use bus::{Context, Handler, Outcome, Queue};
use serde_json::json;
use sha2::{Digest, Sha256};
use taskcluster::Taskcluster;
use tracing::info;

use super::{
    SelectionError,
    store::{self, Push},
};
use crate::{HookName, Trigger};

/// The hook of the community deployment that selects tests.
const GROUP: &str = "project-bugbug";
const HOOK: &str = "bugbug-test-select";

/// Handles `bugbug:try_push`: triggers the selection for a share of the pushes, and records them.
pub struct SelectionStart {
    share: f64,
    deployment: String,
    firefox: Taskcluster,
    community_hooks: Queue<Trigger>,
}

impl SelectionStart {
    /// Selects tests for this `share` of diffs, from 0 to 1. `deployment` is bugbug's name of our Phabricator. `firefox` is
    /// the deployment of Try under its public address, from which bugbug reads. `community_hooks` is the queue of hooks
    /// on the community deployment.
    pub fn new(
        share: f64,
        deployment: String,
        firefox: Taskcluster,
        community_hooks: Queue<Trigger>,
    ) -> Self {
        Self {
            share,
            deployment,
            firefox,
            community_hooks,
        }
    }
}

/// Whether a diff is in this share of all diffs. Each push of the diff gets the same result, on every machine.
fn is_chosen(diff_id: u64, share: f64) -> bool {
    let digest = Sha256::digest(format!("test selection of diff {diff_id}"));
    let number = digest
        .iter()
        .take(4)
        .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    f64::from(number) < share * (f64::from(u32::MAX) + 1.0)
}

#[async_trait]
impl Handler<BuildUpdateMessage> for SelectionStart {
    type Error = SelectionError;

    async fn handle(
        &self,
        BuildUpdateMessage { request, update }: BuildUpdateMessage,
        cx: &Context,
    ) -> Result<Outcome, SelectionError> {
        let diff_id = request.diff_id;
        let BuildUpdate::Pushed(pushed) = update else {
            return Ok(Outcome::Done);
        };
        if !is_chosen(diff_id, self.share) {
            return Ok(Outcome::Done);
        }
        if store::push_of_diff(cx, diff_id)
            .await?
            .is_some_and(|known| known.push.head == pushed.revision)
        {
            info!(
                diff = diff_id,
                head = pushed.revision,
                "the selection of tests was triggered for this push before"
            );
            return Ok(Outcome::Done);
        }
        // Only a push to Try has a decision task, and its jobs on Treeherder.
        let is_try = pushed.vcs == VersionControl::Mercurial && pushed.on_treeherder;
        let Some(jobs_url) = pushed.jobs_url.filter(|_| is_try) else {
            info!(
                diff = diff_id,
                "no tests are selected for the push: its jobs are not on Treeherder"
            );
            return Ok(Outcome::Done);
        };
        let namespace = format!("gecko.v2.try.revision.{}.firefox.decision", pushed.revision);
        let jobs = self
            .firefox
            .indexed_artifact_url(&namespace, "public/runnable-jobs.json");
        let jobs = jobs.map_err(SelectionError::reading(format!(
            "the runnable jobs of {}",
            pushed.revision
        )))?;
        let what = format!("diff {diff_id} at {}", pushed.revision);
        let payload = json!({
            "PHABRICATOR_DEPLOYMENT": self.deployment,
            "DIFF_ID": diff_id,
            "RUNNABLE_JOBS": jobs.as_str(),
        });
        cx.record(store::selection_started(&Push {
            target: request.target,
            diff_id,
            revision_id: request.revision_id,
            head: pushed.revision,
            jobs_url,
        })?);
        cx.send(
            &self.community_hooks,
            &Trigger::new(HookName::new(GROUP, HOOK), payload, &what),
        )?;
        info!(
            diff = diff_id,
            "triggered the selection of tests for the push"
        );
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_share_of_diffs_is_chosen_consistently() {
        let chosen = |share| {
            (1..=10_000)
                .filter(|diff| is_chosen(*diff, share))
                .collect::<Vec<_>>()
        };
        assert_eq!((chosen(0.0).len(), chosen(1.0).len()), (0, 10_000));
        let (tenth, half) = (chosen(0.1), chosen(0.5));
        assert!(
            (900..1100).contains(&tenth.len()) && (4800..5200).contains(&half.len()),
            "{}",
            tenth.len()
        );
        assert_eq!(tenth, chosen(0.1));
        assert!(
            tenth.iter().all(|diff| half.contains(diff)),
            "a greater share holds the lesser one"
        );
    }
}
