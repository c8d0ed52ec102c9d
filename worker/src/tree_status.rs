//! Whether a tree takes pushes: `GET <service>/trees/<name>`, as Mozilla's tree status service answers it.
//!
//! A service that cannot be asked must not stop anybody: without an answer a tree counts as open. What a closed tree
//! does to a push that goes there all the same, a hook of the tree decides.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use jiff::Timestamp;
use runtime::{Clock, error_chain};
use serde::Deserialize;
use thiserror::Error;
use tracing::{info, warn};
use url::Url;

use crate::{WorkerError, text};

/// The time that the service has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(5);

/// How long a service that gave no answer is left alone. Builds must not wait for it one after another.
const SILENCE: Duration = Duration::from_secs(60);

/// The longest answer, in bytes, and the longest reason, in characters.
const MAX_ANSWER: usize = 64 << 10;
const MAX_REASON: usize = 200;

/// What is known of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It takes pushes, or nobody says that it does not.
    Open,
    /// It does not. Holds why, for people.
    Closed(String),
}

/// Why there is no answer.
#[derive(Debug, Error)]
enum Unknown {
    #[error("it cannot be reached")]
    Unreachable(#[from] reqwest::Error),
    #[error("it answers {0}")]
    Status(u16),
    #[error("its answer is no tree's status")]
    Garbled(#[from] serde_json::Error),
    #[error("its answer has more than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("it says {0:?}, which is none of open, closed and approval required")]
    Word(String),
}

#[derive(Deserialize)]
struct Answer {
    result: Status,
}

#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    reason: String,
}

/// The service, and what it last said.
pub(crate) struct TreeStatus {
    service: Option<(Url, reqwest::Client)>,
    clock: Arc<dyn Clock>,
    /// Its answers, each with the time until which it is good.
    known: Mutex<HashMap<String, (Timestamp, Verdict)>>,
    /// Whether the service did not answer when it was last asked.
    silent: Mutex<bool>,
}

impl TreeStatus {
    /// Without a service all trees are open.
    pub(crate) fn new(service: Option<Url>, clock: Arc<dyn Clock>) -> Result<Self, WorkerError> {
        let service = match service {
            Some(url) => Some((url, observe::http::client(PATIENCE)?)),
            None => None,
        };
        Ok(Self {
            service,
            clock,
            known: Mutex::default(),
            silent: Mutex::default(),
        })
    }

    /// What is known of `tree`, by an answer that is some seconds old at most, or a minute when there was none.
    pub(crate) async fn look(&self, tree: &str) -> Verdict {
        let known = self
            .known
            .lock()
            .get(tree)
            .filter(|(until, _)| self.clock.now() < *until)
            .cloned();
        match known {
            Some((_, verdict)) => verdict,
            None => self.look_again(tree).await,
        }
    }

    /// Asks now.
    pub(crate) async fn look_again(&self, tree: &str) -> Verdict {
        let Some((service, http)) = &self.service else {
            return Verdict::Open;
        };
        let answer = ask(service, http, tree).await;
        self.note(tree, answer.as_ref().err());
        let good_for = if answer.is_ok() { FRESH } else { SILENCE };
        let verdict = answer.unwrap_or(Verdict::Open);
        let until = self
            .clock
            .now()
            .saturating_add(good_for)
            .unwrap_or(Timestamp::MAX);
        let before = self
            .known
            .lock()
            .insert(tree.to_owned(), (until, verdict.clone()));
        let before = before.map_or(Verdict::Open, |(_, verdict)| verdict);
        match &verdict {
            Verdict::Closed(reason) if before == Verdict::Open => {
                info!(
                    tree,
                    "the tree is closed; its builds are deferred: {reason}"
                );
            }
            Verdict::Open if before != Verdict::Open => {
                info!(tree, "the tree is open; its deferred builds go on")
            }
            _ => {}
        }
        verdict
    }

    /// Says once that the service is silent, and once that it speaks again.
    fn note(&self, tree: &str, unknown: Option<&Unknown>) {
        let was_silent = std::mem::replace(&mut *self.silent.lock(), unknown.is_some());
        match unknown {
            Some(unknown) if !was_silent => {
                let error = error_chain(unknown);
                warn!(
                    tree,
                    error, "the tree status service gives no answer: the tree counts as open"
                );
            }
            None if was_silent => info!(tree, "the tree status service answers again"),
            _ => {}
        }
    }
}

async fn ask(service: &Url, http: &reqwest::Client, tree: &str) -> Result<Verdict, Unknown> {
    let mut url = service.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["trees", tree]);
    }
    // The address may hold a password.
    let mut response = http
        .get(url)
        .send()
        .await
        .map_err(reqwest::Error::without_url)?;
    if !response.status().is_success() {
        return Err(Unknown::Status(response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(reqwest::Error::without_url)?
    {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            return Err(Unknown::TooLong);
        }
    }
    let Status { status, reason } = serde_json::from_slice::<Answer>(&body)?.result;
    let reason = text::cut(&text::one_line(reason.as_bytes()), MAX_REASON);
    let reason = if reason.is_empty() {
        "no reason is given".to_owned()
    } else {
        reason
    };
    match status.as_str() {
        "open" => Ok(Verdict::Open),
        "closed" => Ok(Verdict::Closed(reason)),
        // A push without somebody's approval in its message is refused there.
        "approval required" => Ok(Verdict::Closed(format!("approval required, {reason}"))),
        _ => Err(Unknown::Word(text::cut(&status, 40))),
    }
}
