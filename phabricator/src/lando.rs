//! Warnings on Lando, where a reviewed revision is landed: that its checks are not through, or did not run.
//!
//! A warning is a kindness. It travels in a queue of its own, so that a Lando that fails never touches a build.

use async_trait::async_trait;
use bus::{Context, Handler, Message, Outcome, Retry, Retryable};
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::info;
use url::Url;

use build::Report;

/// The group that our warnings belong to; Lando shows each group apart.
const GROUP: &str = "LINT";
/// The state of a warning that is shown. One that was taken back is listed no more, or in another state.
const ACTIVE: &str = "ACTIVE";
/// The header that holds the api token of our Phabricator user.
const KEY_HEADER: &str = "X-Phabricator-API-Key";
/// The longest list of warnings that is read, in bytes: a diff has a few.
const MAX_ANSWER: usize = 1 << 20;

/// A warning to be shown beside a diff on Lando; travels in `lando`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandoWarning {
    /// The number of the revision. It is public: nothing is said of others.
    pub revision_id: u64,
    /// The number of the diff that was to be checked.
    pub diff_id: u64,
    /// What is shown, a sentence of ours.
    pub text: String,
}

impl Message for LandoWarning {
    const VERSION: u16 = 1;
}

/// The warning that a report calls for. One that we failed to build counts only with `publish_failure`.
pub fn warning_for(report: &Report, publish_failure: bool) -> Option<&'static str> {
    match report {
        Report::Working => Some("Static analysis and linting are still in progress."),
        Report::PatchFailed(_) => {
            Some("Static analysis and linting did not run due to failure in applying the patch.")
        }
        Report::InfrastructureFailed(_) if publish_failure => {
            Some("Static analysis and linting did not run due to a generic failure.")
        }
        Report::InfrastructureFailed(_)
        | Report::Pushed(_)
        | Report::Neutral(_)
        | Report::Withheld => None,
    }
}

/// Handles `lando`: shows a warning, unless it is shown already.
pub struct Lando {
    /// Its route of warnings.
    url: Url,
    api_key: SecretString,
    http: reqwest::Client,
}

/// Why a warning could not be shown. None of these holds the token.
#[derive(Debug, Error)]
pub enum LandoError {
    /// There was no answer.
    #[error("lando cannot be reached to {doing}")]
    Unreachable {
        /// What was tried.
        doing: &'static str,
        /// The failure, without its address.
        #[source]
        source: reqwest::Error,
    },
    /// The token is not accepted.
    #[error(
        "lando does not accept the api token to {doing} (http status {status}): \
         set a PHABRICATOR.api_key that this lando knows"
    )]
    InvalidToken {
        /// What was tried.
        doing: &'static str,
        /// The status.
        status: u16,
    },
    /// It answered with another status than it is known to.
    #[error("lando answered with http status {status} to {doing}")]
    Status {
        /// What was tried.
        doing: &'static str,
        /// The status.
        status: u16,
    },
    /// Its list of warnings is none.
    #[error(
        "lando's list of warnings cannot be read, check that LANDO.url is the address of its api"
    )]
    Undecodable(#[source] serde_json::Error),
    /// Its list of warnings is longer than anything that could be used.
    #[error(
        "lando's list of warnings is longer than {MAX_ANSWER} bytes, check that LANDO.url is the address of its api"
    )]
    TooLarge,
}

impl Retryable for LandoError {
    fn retry(&self) -> Retry {
        match self {
            // The request itself cannot be made.
            Self::Unreachable { source, .. } if source.is_builder() => Retry::Never,
            Self::Unreachable { .. } => Retry::Backoff,
            Self::Status {
                status: 408 | 429 | 500..,
                ..
            } => Retry::Backoff,
            Self::Status { .. }
            | Self::InvalidToken { .. }
            | Self::Undecodable(_)
            | Self::TooLarge => Retry::Never,
        }
    }
}

/// A warning as Lando lists it.
#[derive(Deserialize)]
struct Listed {
    revision_id: u64,
    diff_id: u64,
    status: String,
    group: String,
    data: Value,
}

impl Listed {
    fn shows(&self, warning: &LandoWarning) -> bool {
        (self.revision_id, self.diff_id) == (warning.revision_id, warning.diff_id)
            && (self.status.as_str(), self.group.as_str()) == (ACTIVE, GROUP)
            && self.data["message"] == warning.text
    }
}

impl Lando {
    /// A client of the Lando whose api is at `url`. `api_key` is the api token of our Phabricator user.
    pub fn new(mut url: Url, api_key: SecretString, http: reqwest::Client) -> Self {
        url.set_path(&format!(
            "{}/diff_warnings/",
            url.path().trim_end_matches('/')
        ));
        Self { url, api_key, http }
    }

    /// Whether this warning is shown already.
    async fn shows(&self, warning: &LandoWarning) -> Result<bool, LandoError> {
        const DOING: &str = "list the warnings of a diff";
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("revision_id", &warning.revision_id.to_string())
            .append_pair("diff_id", &warning.diff_id.to_string())
            .append_pair("group", GROUP);
        let mut response = self.send(DOING, self.http.get(url), StatusCode::OK).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable(DOING))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(LandoError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let listed: Vec<Listed> = serde_json::from_slice(&body).map_err(LandoError::Undecodable)?;
        Ok(listed.iter().any(|listed| listed.shows(warning)))
    }

    async fn add(&self, warning: &LandoWarning) -> Result<(), LandoError> {
        let body = json!({
            "revision_id": warning.revision_id,
            "diff_id": warning.diff_id,
            "group": GROUP,
            "data": { "message": warning.text },
        });
        let request = self.http.post(self.url.clone()).json(&body);
        self.send("add a warning", request, StatusCode::CREATED)
            .await
            .map(|_| ())
    }

    async fn send(
        &self,
        doing: &'static str,
        request: RequestBuilder,
        expected: StatusCode,
    ) -> Result<Response, LandoError> {
        let request = request.header(KEY_HEADER, self.api_key.expose_secret());
        let response = request.send().await.map_err(unreachable(doing))?;
        match response.status() {
            status if status == expected => Ok(response),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(LandoError::InvalidToken {
                    doing,
                    status: status.as_u16(),
                })
            }
            status => Err(LandoError::Status {
                doing,
                status: status.as_u16(),
            }),
        }
    }
}

fn unreachable(doing: &'static str) -> impl Fn(reqwest::Error) -> LandoError {
    move |source| LandoError::Unreachable {
        doing,
        source: source.without_url(),
    }
}

#[async_trait]
impl Handler<LandoWarning> for Lando {
    type Error = LandoError;

    /// A repeated message finds its warning shown. Only a warning that Lando took in without our hearing of it, and
    /// that it lists late, could be shown twice.
    async fn handle(&self, warning: LandoWarning, _cx: &Context) -> Result<Outcome, LandoError> {
        let LandoWarning {
            revision_id,
            diff_id,
            text,
        } = &warning;
        if self.shows(&warning).await? {
            info!("lando shows already for diff {diff_id} of D{revision_id}: {text}");
            return Ok(Outcome::Done);
        }
        self.add(&warning).await?;
        info!("lando shows for diff {diff_id} of D{revision_id}: {text}");
        Ok(Outcome::Done)
    }
}
