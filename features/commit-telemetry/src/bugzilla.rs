//! Where a changeset was reviewed, by its bug.
//!
//! Bugzilla's refusals tell something too. A bug that may not be seen, or that is not there, counts as none, as it always
//! did: an answer 401, or one below 500 with an `error` in it. Another answer 4xx says nothing, so the system is unknown. The
//! original took an outage (5xx, no answer) for "unknown" as well, and the figures stayed wrong; here the push waits
//! until Bugzilla is back.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use moka::future::Cache;
use reqwest::StatusCode;
use runtime::Clock;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use crate::{
    ReviewSystem, TelemetryError,
    call::{Answer, Caller, read_json},
};

/// The longest answer that is read, in bytes. A bug has some hundred attachments at most, and they come without their data.
const MAX_ANSWER: usize = 32 << 20;
/// How many bugs' answers are kept.
const KEPT: u64 = 10_000;
/// How long an answer is kept: the changesets of a bug come together, and a bug goes on.
const FRESH: Duration = Duration::from_secs(600);
/// The type of an attachment that stands for a revision on Phabricator.
const PHABRICATOR: &str = "text/x-phabricator-request";

/// A Bugzilla. Clones share the answers that are kept.
#[derive(Clone)]
pub struct Bugzilla {
    api: Url,
    caller: Caller,
    /// Who asks for a bug that is being asked for waits for that answer. Failures are not kept.
    known: Cache<u64, ReviewSystem>,
}

impl fmt::Debug for Bugzilla {
    /// An address may hold a password, so only the host is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bugzilla")
            .field("host", &self.api.host_str())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Attachments {
    /// By the number of the bug.
    bugs: HashMap<String, Vec<Attachment>>,
}

#[derive(Deserialize)]
struct Attachment {
    content_type: String,
    /// 0 or 1.
    is_patch: u8,
    /// 0 or 1.
    is_obsolete: u8,
}

#[derive(Deserialize)]
struct Histories {
    bugs: Vec<History>,
}

#[derive(Deserialize)]
struct History {
    history: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    field_name: String,
    added: String,
}

impl Change {
    /// Whether somebody granted a review. Flags that were set at once stand in one change.
    fn grants_review(&self) -> bool {
        self.field_name == "flagtypes.name"
            && self.added.split(',').any(|flag| flag.trim() == "review+")
    }
}

/// What Bugzilla says of a bug.
enum Said<T> {
    This(T),
    /// Nothing, which tells the review system nevertheless.
    Nothing(ReviewSystem),
}

impl Bugzilla {
    /// A client of the REST API at `api`, such as `https://bugzilla.mozilla.org/rest`. `http` must not follow redirects.
    pub fn new(api: Url, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        let known = Cache::builder()
            .max_capacity(KEPT)
            .time_to_live(FRESH)
            .build();
        Self {
            api,
            caller: Caller::new(http, clock),
            known,
        }
    }

    /// Where the changesets of a bug were reviewed.
    pub async fn review_system(&self, bug: u64) -> Result<ReviewSystem, TelemetryError> {
        self.known
            .try_get_with(bug, self.ask(bug))
            .await
            .map_err(TelemetryError::Bugzilla)
    }

    async fn ask(&self, bug: u64) -> Result<ReviewSystem, TelemetryError> {
        let attachments: Attachments = match self
            .get(bug, "attachment", Some("exclude_fields=data"))
            .await?
        {
            Said::This(attachments) => attachments,
            Said::Nothing(system) => return Ok(system),
        };
        // It answers with the one bug that was asked for.
        let valid = || {
            attachments
                .bugs
                .values()
                .flatten()
                .filter(|attachment| attachment.is_obsolete == 0)
        };
        if valid().any(|attachment| attachment.content_type == PHABRICATOR) {
            return Ok(ReviewSystem::Phabricator);
        }
        if !valid().any(|attachment| attachment.is_patch == 1) {
            return Ok(ReviewSystem::Unknown);
        }
        let histories: Histories = match self.get(bug, "history", None).await? {
            Said::This(histories) => histories,
            Said::Nothing(system) => return Ok(system),
        };
        let mut changes = histories
            .bugs
            .iter()
            .flat_map(|bug| &bug.history)
            .flat_map(|entry| &entry.changes);
        Ok(if changes.any(Change::grants_review) {
            ReviewSystem::Bmo
        } else {
            ReviewSystem::Unknown
        })
    }

    async fn get<T: DeserializeOwned>(
        &self,
        bug: u64,
        what: &str,
        query: Option<&str>,
    ) -> Result<Said<T>, TelemetryError> {
        let call = format!("the {what} of bug {bug} on bugzilla");
        let mut url = self.api.clone();
        url.set_path(&format!(
            "{}/bug/{bug}/{what}",
            self.api.path().trim_end_matches('/')
        ));
        url.set_query(query);
        let get = || async {
            let answer = Answer::of(&call, self.caller.http.get(url.clone())).await?;
            let status = answer.status();
            if !status.is_success() && !status.is_client_error() {
                return Err(answer.unexpected());
            }
            Ok((status, answer.body(MAX_ANSWER).await?))
        };
        let (status, body) = self.caller.retried(get).await?;
        let refusal = serde_json::from_slice::<Refusal>(&body).ok();
        if refusal
            .as_ref()
            .is_some_and(|refusal| refusal.code == Some(NO_SUCH_METHOD))
        {
            // The address of the API is wrong, which says nothing of the bug.
            return Err(TelemetryError::Status {
                call,
                status: status.as_u16(),
            });
        }
        if status == StatusCode::UNAUTHORIZED || refusal.is_some() {
            return Ok(Said::Nothing(ReviewSystem::NoBug));
        }
        if !status.is_success() {
            return Ok(Said::Nothing(ReviewSystem::Unknown));
        }
        read_json(&call, &body).map(Said::This)
    }
}

/// A refusal in Bugzilla's words. It is one by its `error`, whatever that is.
#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "error")]
    _error: Value,
    #[serde(default)]
    code: Option<i64>,
}

/// What Bugzilla says of an address that it does not know.
const NO_SUCH_METHOD: i64 = 32614;
