//! The state of trees: `GET <service>/trees/<name>`, with the responses of Mozilla's tree status service.
//!
//! An outage of the service must not stop builds: without a response, a tree counts as open. If it is closed then, a
//! hook of the tree decides about the push.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use http_client::{HttpError, Limits};
use jiff::Timestamp;
use runtime::{Clock, FailureLog, error_chain};
use serde::Deserialize;
use thiserror::Error;
use tracing::{info, warn};
use url::Url;

use crate::{WorkerError, text};

/// The longest time for a request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The time for which a response is used.
const FRESH: Duration = Duration::from_secs(5);

/// The time without requests after a failed one. Builds must not wait for the service one after another.
const BACKOFF: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits::body(64 << 10);

/// The longest reason, in characters.
const MAX_REASON: usize = 200;

/// The state of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TreeState {
    /// It takes pushes, or its state is unknown.
    Open,
    /// It takes no pushes, for this reason.
    Closed(String),
}

/// The reason for which the state of a tree is unknown.
#[derive(Debug, Error)]
enum Unknown {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the status {0:?} is none of open, closed and approval required")]
    Word(String),
}

#[derive(Deserialize)]
struct Response {
    result: Status,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    reason: String,
}

/// The tree status service, and its last responses.
pub(crate) struct TreeStatus {
    service: Option<(Url, reqwest::Client)>,
    clock: Arc<dyn Clock>,
    /// The states of trees, each with the time until which it is used.
    known: Mutex<HashMap<String, (Timestamp, TreeState)>>,
    failures: FailureLog,
}

impl TreeStatus {
    /// Without a service all trees are open.
    pub(crate) fn new(service: Option<Url>, clock: Arc<dyn Clock>) -> Result<Self, WorkerError> {
        let service = match service {
            Some(url) => Some((url, http_client::client(TIMEOUT)?)),
            None => None,
        };
        Ok(Self {
            service,
            clock,
            known: Mutex::default(),
            failures: FailureLog::default(),
        })
    }

    /// The state of `tree`, by a response that is some seconds old at most. After a failed request the tree counts as
    /// open for a minute.
    pub(crate) async fn state(&self, tree: &str) -> TreeState {
        let known = self
            .known
            .lock()
            .get(tree)
            .filter(|(until, _)| self.clock.now() < *until)
            .cloned();
        match known {
            Some((_, state)) => state,
            None => self.request(tree).await,
        }
    }

    /// Requests the state of `tree` now.
    pub(crate) async fn request(&self, tree: &str) -> TreeState {
        let Some((service, http)) = &self.service else {
            return TreeState::Open;
        };
        let response = fetch(service, http, tree).await;
        self.note(tree, response.as_ref().err());
        let is_known = response.is_ok();
        let good_for = if is_known { FRESH } else { BACKOFF };
        let state = response.unwrap_or(TreeState::Open);
        let until = self
            .clock
            .now()
            .saturating_add(good_for)
            .unwrap_or(Timestamp::MAX);
        let before = self
            .known
            .lock()
            .insert(tree.to_owned(), (until, state.clone()));
        let before = before.map_or(TreeState::Open, |(_, state)| state);
        match &state {
            TreeState::Closed(reason) if before == TreeState::Open => {
                info!(
                    tree,
                    "the tree is closed; its builds are deferred: {reason}"
                );
            }
            TreeState::Open if is_known && before != TreeState::Open => {
                info!(tree, "the tree is open; its deferred builds go on")
            }
            _ => {}
        }
        state
    }

    /// Logs when an outage of the service begins, and when it ends.
    fn note(&self, tree: &str, unknown: Option<&Unknown>) {
        match unknown {
            Some(unknown) if self.failures.should_log(()) => {
                let error = error_chain(unknown);
                warn!(
                    tree,
                    error, "the tree status service does not respond; trees count as open"
                );
            }
            None if self.failures.recovered() => {
                info!(tree, "the tree status service responds again");
            }
            _ => {}
        }
    }
}

async fn fetch(service: &Url, http: &reqwest::Client, tree: &str) -> Result<TreeState, Unknown> {
    let mut url = service.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["trees", tree]);
    }
    let response = http_client::send(http.get(url), LIMITS).await?.check()?;
    let Status { status, reason } = response.json::<Response>()?.result;
    let reason = text::cut(&text::one_line(reason.as_bytes()), MAX_REASON);
    let reason = if reason.is_empty() {
        "no reason is given".to_owned()
    } else {
        reason
    };
    match status.as_str() {
        "open" => Ok(TreeState::Open),
        "closed" => Ok(TreeState::Closed(reason)),
        // A hook there refuses a push without an approval in its message.
        "approval required" => Ok(TreeState::Closed(format!("approval required, {reason}"))),
        _ => Err(Unknown::Word(text::cut(&status, 40))),
    }
}
