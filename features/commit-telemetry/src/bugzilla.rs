//! The review system of a changeset, by its bug.
//!
//! Bugzilla's error answers decide too. As in the predecessor, a bug that is private or missing counts as no bug: an answer
//! with status 401, or with a status below 500 and an `error` in its body. For any other 4xx the system is unknown. The
//! predecessor also took an outage (5xx, no answer) as "unknown", and its figures stayed wrong; here the push waits until
//! Bugzilla is back.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use moka::future::Cache;
use reqwest::StatusCode;
use runtime::Clock;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use crate::{
    ReviewSystem, TelemetryError,
    http::{HttpClient, decode_json, failed, open, unexpected},
};

/// The longest answer, in bytes. A bug has some hundred attachments at most, and they come without their data.
const MAX_ANSWER: usize = 32 << 20;
/// The most bugs in the cache.
const CACHE_SIZE: u64 = 10_000;
/// The lifetime of a cached result: the changesets of a bug come together, and a bug changes.
const CACHE_TTL: Duration = Duration::from_secs(600);
/// The type of an attachment that stands for a revision on Phabricator.
const PHABRICATOR: &str = "text/x-phabricator-request";
/// Bugzilla's error code for an address that its API does not have.
const NO_SUCH_METHOD: i64 = 32614;

/// A client of Bugzilla's REST API. Clones share the cache.
#[derive(Clone)]
pub struct Bugzilla {
    api: Url,
    http: HttpClient,
    /// Concurrent lookups of a bug share one request. Failures are not cached.
    cache: Cache<u64, ReviewSystem>,
}

impl fmt::Debug for Bugzilla {
    /// Shows only the host: an address may contain a password.
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
    /// Whether it grants a review. Flags that were set together are in one change.
    fn grants_review(&self) -> bool {
        self.field_name == "flagtypes.name"
            && self.added.split(',').any(|flag| flag.trim() == "review+")
    }
}

/// Bugzilla's answer about a bug.
enum BugAnswer<T> {
    Found(T),
    /// An error answer that determines the review system.
    Error(ReviewSystem),
}

/// An error body. The presence of `error` makes it one, whatever its value.
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(rename = "error")]
    _error: Value,
    #[serde(default)]
    code: Option<i64>,
}

impl Bugzilla {
    /// A client of the REST API at `api`, such as `https://bugzilla.mozilla.org/rest`. `http` must not follow redirects.
    pub fn new(api: Url, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        let cache = Cache::builder()
            .max_capacity(CACHE_SIZE)
            .time_to_live(CACHE_TTL)
            .build();
        Self {
            api,
            http: HttpClient::new(http, clock),
            cache,
        }
    }

    /// The review system of the changesets of a bug.
    pub async fn review_system(&self, bug: u64) -> Result<ReviewSystem, TelemetryError> {
        self.cache
            .try_get_with(bug, self.load(bug))
            .await
            .map_err(TelemetryError::Bugzilla)
    }

    async fn load(&self, bug: u64) -> Result<ReviewSystem, TelemetryError> {
        let query = Some("exclude_fields=data");
        let attachments: Attachments = match self.get(bug, "attachment", query).await? {
            BugAnswer::Found(attachments) => attachments,
            BugAnswer::Error(system) => return Ok(system),
        };
        // The answer holds only the requested bug.
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
            BugAnswer::Found(histories) => histories,
            BugAnswer::Error(system) => return Ok(system),
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
        resource: &str,
        query: Option<&str>,
    ) -> Result<BugAnswer<T>, TelemetryError> {
        let call = format!("the {resource} of bug {bug} on bugzilla");
        let mut url = self.api.clone();
        let api = self.api.path().trim_end_matches('/');
        url.set_path(&format!("{api}/bug/{bug}/{resource}"));
        url.set_query(query);
        let get = || async {
            let answer = open(&call, self.http.get(&url), MAX_ANSWER).await?;
            let status = answer.status();
            if !status.is_success() && !status.is_client_error() {
                return Err(unexpected(&call, status));
            }
            let response = answer.collect().await.map_err(failed(&call))?;
            Ok((status, response.body))
        };
        let (status, body) = self.http.with_retries(get).await?;
        let error = serde_json::from_slice::<ErrorBody>(&body).ok();
        if error
            .as_ref()
            .is_some_and(|error| error.code == Some(NO_SUCH_METHOD))
        {
            // The configured address is wrong; that says nothing about the bug.
            return Err(unexpected(&call, status));
        }
        if status == StatusCode::UNAUTHORIZED || error.is_some() {
            return Ok(BugAnswer::Error(ReviewSystem::NoBug));
        }
        if !status.is_success() {
            return Ok(BugAnswer::Error(ReviewSystem::Unknown));
        }
        decode_json(&call, &body).map(BugAnswer::Found)
    }
}
