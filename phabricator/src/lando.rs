//! Warnings on Lando, where a reviewed revision is landed: its checks are still running, or did not run.
//!
//! Warnings travel in a queue of their own, so that a failing Lando never affects a build.

use async_trait::async_trait;
use bus::{Context, Handler, Message, Outcome, Retry, Retryable};
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tracing::info;
use url::Url;

use build::BuildUpdate;

/// The group of our warnings; Lando shows each group on its own.
const GROUP: &str = "LINT";
/// The status of a warning that Lando shows. A withdrawn one is not listed, or has another status.
const ACTIVE: &str = "ACTIVE";
/// The header that holds the api token of our Phabricator user.
const KEY_HEADER: &str = "X-Phabricator-API-Key";
/// The longest list of warnings that is read, in bytes: a diff has a few.
const MAX_RESPONSE: usize = 1 << 20;

/// A warning to be shown beside a diff on Lando; travels in `lando`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandoWarning {
    /// The number of the revision, which is public: private ones get no warning.
    pub revision_id: u64,
    /// The number of the diff that was to be checked.
    pub diff_id: u64,
    /// The warning, a sentence of ours.
    pub text: String,
}

impl Message for LandoWarning {
    const VERSION: u16 = 1;
}

/// The warning for an update. An infrastructure failure gets one only with `publish_failure`.
pub fn warning_for(update: &BuildUpdate, publish_failure: bool) -> Option<&'static str> {
    match update {
        BuildUpdate::Working => Some("Static analysis and linting are still in progress."),
        BuildUpdate::PatchFailed(_) => {
            Some("Static analysis and linting did not run due to failure in applying the patch.")
        }
        BuildUpdate::InfraFailed(_) if publish_failure => {
            Some("Static analysis and linting did not run due to a generic failure.")
        }
        BuildUpdate::InfraFailed(_)
        | BuildUpdate::Pushed(_)
        | BuildUpdate::Skipped(_)
        | BuildUpdate::Private => None,
    }
}

/// Handles `lando`: adds a warning, unless Lando shows it already.
pub struct Lando {
    /// The route for warnings.
    url: Url,
    api_key: SecretString,
    http: reqwest::Client,
}

/// The cause for which a warning could not be added. No variant holds the token.
#[derive(Debug, Error)]
pub enum LandoError {
    /// There was no response.
    #[error("cannot {doing}: lando cannot be reached")]
    Unreachable {
        /// The call, as an infinitive.
        doing: &'static str,
        /// The failure, without the address.
        #[source]
        source: reqwest::Error,
    },
    /// Lando does not accept the token.
    #[error(
        "cannot {doing}: lando does not accept the api token (http status {status}); \
         set a PHABRICATOR.api_key that this lando knows"
    )]
    InvalidToken {
        /// The call, as an infinitive.
        doing: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// Lando responded with an unexpected status.
    #[error("cannot {doing}: lando responded with http status {status}")]
    Status {
        /// The call, as an infinitive.
        doing: &'static str,
        /// The HTTP status.
        status: u16,
    },
    /// The response is not a list of warnings.
    #[error("cannot read lando's list of warnings; check that LANDO.url is the address of its api")]
    Undecodable(#[source] serde_json::Error),
    /// The list of warnings is longer than 1 MiB.
    #[error(
        "cannot read lando's list of warnings: it is longer than {MAX_RESPONSE} bytes; \
         check that LANDO.url is the address of its api"
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

    /// Whether Lando shows this warning already.
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
            if body.len() + chunk.len() > MAX_RESPONSE {
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

    /// A repeated message finds its warning in the list. Lando can show a warning twice only if its response was lost and
    /// the warning is listed late.
    async fn handle(&self, warning: LandoWarning, _cx: &Context) -> Result<Outcome, LandoError> {
        let LandoWarning {
            revision_id,
            diff_id,
            text,
        } = &warning;
        if self.shows(&warning).await? {
            info!(
                "skipping the warning: lando shows it already for diff {diff_id} of D{revision_id}: {text}"
            );
            return Ok(Outcome::Done);
        }
        self.add(&warning).await?;
        info!("added a warning on lando for diff {diff_id} of D{revision_id}: {text}");
        Ok(Outcome::Done)
    }
}
