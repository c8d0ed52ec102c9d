//! Warnings on Lando, where a reviewed revision is landed: its checks are still running, or did not run.
//!
//! Warnings travel in a queue of their own, so that a failing Lando never affects a build.

use async_trait::async_trait;
use bus::{Context, Handler, Message, Outcome, Retry, Retryable};
use http_client::{HttpError, Incoming, Limits};
use reqwest::{RequestBuilder, StatusCode};
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
/// A diff has a few warnings.
const LIMITS: Limits = Limits::body(1 << 20);

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
    /// There was no response, or none that can be used.
    #[error("cannot {doing}: no usable response from lando; check LANDO.url if this persists")]
    Http {
        /// The call, as an infinitive.
        doing: &'static str,
        /// The failure.
        #[source]
        source: HttpError,
    },
}

impl Retryable for LandoError {
    fn retry(&self) -> Retry {
        match self {
            Self::Http { source, .. } if source.is_outage() => Retry::Backoff,
            Self::Http { .. } | Self::InvalidToken { .. } => Retry::Never,
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
        let response = self.open(DOING, self.http.get(url), StatusCode::OK).await?;
        let response = response.collect().await.map_err(failed(DOING))?;
        let listed: Vec<Listed> = response.json().map_err(failed(DOING))?;
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
        // The status says enough, so the body is not read.
        self.open("add a warning", request, StatusCode::CREATED)
            .await
            .map(|_| ())
    }

    async fn open(
        &self,
        doing: &'static str,
        request: RequestBuilder,
        expected: StatusCode,
    ) -> Result<Incoming, LandoError> {
        let request = request.header(KEY_HEADER, self.api_key.expose_secret());
        let response = http_client::open(request, LIMITS).await;
        response
            .and_then(|response| response.require(expected))
            .map_err(failed(doing))
    }
}

fn failed(doing: &'static str) -> impl Fn(HttpError) -> LandoError {
    move |error| match error {
        HttpError::Unauthorized { status } => LandoError::InvalidToken { doing, status },
        source => LandoError::Http { doing, source },
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
