//! Analysis of commits that are published on MozReview.

use async_trait::async_trait;
use bus::{Context, Handler, Outcome, Queue};
use pulse::PulseMessage;
use serde::Deserialize;
use serde_json::json;
use tracing::debug;

use super::{
    HookError,
    task_group::{invalid_message, is_changeset, same_repository},
};
use crate::{HookName, Trigger};

/// The most commits of one message. No series for review is that long.
const MAX_COMMITS: usize = 1000;

/// Handles messages of `mozreview.commits.published`: triggers a hook once for each commit of one repository.
pub struct PublishedCommits {
    repository_url: String,
    hook: HookName,
    hooks: Queue<Trigger>,
}

/// The part that every message has.
#[derive(Deserialize)]
struct Published<T> {
    payload: T,
}

#[derive(Deserialize)]
struct Repository {
    repository_url: String,
}

#[derive(Deserialize)]
struct Commits {
    commits: Vec<Commit>,
}

#[derive(Deserialize)]
struct Commit {
    rev: String,
    review_request_id: u64,
    diffset_revision: u64,
}

impl PublishedCommits {
    /// Triggers `hook`, through the queue `hooks`, for commits of the repository at `repository_url`.
    pub fn new(repository_url: String, hook: HookName, hooks: Queue<Trigger>) -> Self {
        Self {
            repository_url,
            hook,
            hooks,
        }
    }
}

#[async_trait]
impl Handler<PulseMessage> for PublishedCommits {
    type Error = HookError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, HookError> {
        let Repository { repository_url } = message.json::<Published<Repository>>()?.payload;
        if !same_repository(&repository_url, &self.repository_url) {
            debug!("ignored, the commits are for another repository");
            return Ok(Outcome::Done);
        }
        let Commits { commits } = message.json::<Published<Commits>>()?.payload;
        if commits.len() > MAX_COMMITS {
            return Err(invalid_message(&message, "it has more than 1000 commits"));
        }
        for Commit {
            rev,
            review_request_id,
            diffset_revision,
        } in &commits
        {
            if !is_changeset(rev) {
                return Err(invalid_message(
                    &message,
                    "the rev of a commit is not a changeset",
                ));
            }
            let payload = json!({
                "ANALYSIS_SOURCE": "mozreview",
                "ANALYSIS_ID": review_request_id,
                "MOZREVIEW_REVISION": rev,
                "MOZREVIEW_DIFFSET": diffset_revision,
            });
            let what = format!("mozreview {review_request_id} {diffset_revision} {rev}");
            Trigger::new(self.hook.clone(), payload, &what).send(&self.hooks, cx)?;
        }
        Ok(Outcome::Done)
    }
}
