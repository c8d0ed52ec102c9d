//! The hashes of commits in both version controls, by Lando: `GET <url>/<hash>`.
//!
//! A diff names its base in the version control of its author, which may be another one than that of the clone. Lando
//! maps the commits of such a repository. A commit is mapped some time after it was pushed: see [`crate::base`] for how
//! long a build waits.
//!
//! A build never fails through the service: a commit counts as not mapped while it does not respond.

use std::time::Duration;

use bus::{BusError, Context, Field, RecordStore};
use http_client::{HttpError, Limits};
use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::StatusCode;
use runtime::{FailureLog, error_chain};
use serde::Deserialize;
use thiserror::Error;
use tracing::{info, warn};
use url::Url;

use crate::{RepositorySettings, WorkerError, revision::RevisionName, text::is_hash};

/// The longest time for a request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The time without requests after a failed one. Builds must not wait for the service one after another.
const BACKOFF: Duration = Duration::from_secs(20);

const LIMITS: Limits = Limits::body(64 << 10);

/// The mapped hashes. A commit never gets another hash, so they are kept for as long as diffs are made on it.
const STORE: RecordStore = RecordStore {
    name: "base_mappings",
    retention: Duration::from_secs(90 * 24 * 3600),
};

const HASH: Field<String> = Field::new("hash");

/// The response for a mapped commit.
#[derive(Deserialize)]
struct Mapped {
    git_hash: String,
    hg_hash: String,
}

/// The reason for which a response cannot be used.
#[derive(Debug, Error)]
enum Unusable {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("the response is about another commit, or holds no hashes")]
    Other,
}

/// The service that maps the commits of one repository.
pub(crate) struct BaseMapping {
    url: Url,
    http: reqwest::Client,
    /// Whether the clone has Git.
    is_git: bool,
    repository: String,
    failures: FailureLog,
    /// The time until which no request is sent.
    pause: Mutex<Option<Timestamp>>,
}

impl BaseMapping {
    /// The mapping of a repository, if it has one.
    pub(crate) fn of(repository: &RepositorySettings) -> Result<Option<Self>, WorkerError> {
        let Some(url) = repository.base_mapping.clone() else {
            return Ok(None);
        };
        Ok(Some(Self {
            url,
            http: http_client::client(TIMEOUT)?,
            is_git: repository.vcs.git().is_some(),
            repository: repository.name.clone(),
            failures: FailureLog::default(),
            pause: Mutex::default(),
        }))
    }

    /// The hash that the commit `name` of the other version control has in that of the clone. `None` when it is not
    /// mapped, or the service does not respond.
    pub(crate) async fn find(
        &self,
        cx: &Context,
        name: &RevisionName,
    ) -> Result<Option<RevisionName>, WorkerError> {
        let id = format!("{} {}", self.url, name.as_str());
        let record = cx.recorded(&STORE, &id).await?;
        let known = record.field(HASH).map_err(|source| BusError::Record {
            record: id.clone(),
            source,
        })?;
        if let Some(hash) = known {
            return Ok(RevisionName::parse(&hash));
        }
        let now = cx.clock().now();
        if self.pause.lock().is_some_and(|until| now < until) {
            return Ok(None);
        }
        let response = self.request(name).await;
        self.note(response.as_ref().err(), now);
        let Ok(Some(hash)) = response else {
            return Ok(None);
        };
        cx.record_now(vec![STORE.set(&id, HASH, &hash)?]).await?;
        Ok(RevisionName::parse(&hash))
    }

    /// `None` for a commit that is not mapped, and for the beginning of several hashes.
    async fn request(&self, name: &RevisionName) -> Result<Option<String>, Unusable> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(name.as_str());
        }
        let response = http_client::send(self.http.get(url), LIMITS).await?;
        if matches!(
            response.status,
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST
        ) {
            return Ok(None);
        }
        let Mapped { git_hash, hg_hash } = response.check()?.json()?;
        let (theirs, ours) = if self.is_git {
            (hg_hash, git_hash)
        } else {
            (git_hash, hg_hash)
        };
        if is_hash(&theirs) && is_hash(&ours) && theirs.starts_with(name.as_str()) {
            Ok(Some(ours))
        } else {
            Err(Unusable::Other)
        }
    }

    /// Logs when an outage of the service begins, and when it ends.
    fn note(&self, failure: Option<&Unusable>, now: Timestamp) {
        let repository = &self.repository;
        let until = failure.and_then(|_| now.checked_add(BACKOFF).ok());
        *self.pause.lock() = until;
        match failure {
            Some(failure) if self.failures.should_log(()) => warn!(
                repository,
                error = error_chain(failure),
                "the mapping of commits cannot be used; a base that only it knows is replaced"
            ),
            None if self.failures.recovered() => {
                info!(repository, "the mapping of commits responds again");
            }
            _ => {}
        }
    }
}
