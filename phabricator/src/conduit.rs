//! The Conduit client: one call, its retries, and its errors.

mod download;

use std::{fmt, io, time::Duration};

use bus::{Retry, Retryable};
use bytes::Bytes;
use http_client::{HttpError, Incoming, Limits};
use reqwest::StatusCode;
use runtime::{Attempts, Backoff, FailureLog, SystemClock};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use thiserror::Error;
use tracing::{error, info};
use url::Url;

/// The attempts of one call while the server does not respond: after 0.5 and 1 s.
const ATTEMPTS: Attempts = Attempts {
    most: 3,
    waits: Backoff {
        first: Duration::from_millis(500),
        factor: 2,
        cap: Duration::from_secs(1),
    },
};
/// The longest `Retry-After` that a call waits for. With a longer one the call fails, and its message is retried.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How long what needs a call is deferred while the token is not accepted.
const TOKEN_PAUSE: Duration = Duration::from_secs(30);
/// The longest answer is twice the largest patch that is applied.
const LIMITS: Limits = Limits::body(128 << 20);
/// The most of a server's error text that is kept, in bytes.
const MAX_INFO: usize = 500;

/// A Phabricator, and the right to call it.
#[derive(Clone)]
pub struct Conduit {
    url: Url,
    token: SecretString,
    http: reqwest::Client,
    /// The refusals of the token.
    revoked: FailureLog,
}

/// Why a call gave no result. None of these holds the token, a patch, or anything else of what was asked.
#[derive(Debug, Error)]
pub enum ConduitError {
    /// Phabricator understood the call and refused it.
    #[error("phabricator refused {method}: {code}: {info}")]
    Refused {
        /// The method that was called.
        method: &'static str,
        /// Phabricator's `error_code`.
        code: String,
        /// Phabricator's `error_info`, without the token and cut to a sane length. Left out where it may be about a
        /// private revision.
        info: String,
    },
    /// The token is not accepted.
    #[error(
        "phabricator does not accept the api token for {method} ({code}): set a valid PHABRICATOR.api_key"
    )]
    InvalidToken {
        /// The method that was called.
        method: &'static str,
        /// Phabricator's `error_code`.
        code: String,
    },
    /// There was no response, or none that can be used; several times if that could pass.
    #[error("no usable response from phabricator to {method}, {}", tries_failed(*tries))]
    Http {
        /// The method that was called.
        method: &'static str,
        /// How many times it was called.
        tries: u32,
        /// The last failure.
        #[source]
        source: HttpError,
    },
    /// The answer goes to our disk, and that takes it no more or does not give it back.
    #[error("cannot store phabricator's answer to {method}")]
    Disk {
        /// The method that was called.
        method: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl Retryable for ConduitError {
    fn retry(&self) -> Retry {
        match self {
            // The call itself is wrong, and stays so.
            Self::Refused { code, .. } if code == "ERR-CONDUIT-CALL" => Retry::Never,
            Self::Http { source, .. } => match source.retry() {
                Retry::Never => Retry::Never,
                _ => Retry::Backoff,
            },
            // Nobody but an operator can help, and however long that takes, no build is to blame for it.
            Self::InvalidToken { .. } => Retry::Defer(TOKEN_PAUSE),
            // Also refusals: a database that is away for a moment comes as ERR-CONDUIT-CORE, a parent that became
            // private between two calls as ERR-BAD-SOURCEPHIDS, and the next try sees the new state.
            Self::Refused { .. } | Self::Disk { .. } => Retry::Backoff,
        }
    }
}

impl fmt::Debug for Conduit {
    /// An address may hold a password, so only the host is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conduit")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// What every call is answered with. Errors come with status 200.
#[derive(Deserialize)]
struct Answer<T> {
    result: Option<T>,
    error_code: Option<String>,
    error_info: Option<String>,
}

impl Conduit {
    /// A client of the Phabricator at `url` (without `/api`).
    pub fn new(url: Url, token: SecretString, http: reqwest::Client) -> Self {
        Self {
            url,
            token,
            http,
            revoked: FailureLog::default(),
        }
    }

    /// Calls `method`. An outage is tried again within the call, after 0.5 and 1 s.
    ///
    /// A connection can break after the server has acted, so a call may happen twice.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Map<String, Value>,
    ) -> Result<T, ConduitError> {
        let params = self.signed(params);
        let body = retried(|tries| self.post(method, &params, tries)).await?;
        self.read(method, &body)
    }

    /// Calls `method` once: for what must not happen twice. See [`ConduitError::had_no_effect`].
    pub(crate) async fn call_once<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Map<String, Value>,
    ) -> Result<T, ConduitError> {
        let body = self.post(method, &self.signed(params), 1).await?;
        self.read(method, &body)
    }

    fn signed(&self, mut params: Map<String, Value>) -> String {
        params.insert(
            "__conduit__".to_owned(),
            json!({ "token": self.token.expose_secret() }),
        );
        Value::Object(params).to_string()
    }

    fn read<T: DeserializeOwned>(
        &self,
        method: &'static str,
        body: &[u8],
    ) -> Result<T, ConduitError> {
        let malformed = |error: serde_json::Error| ConduitError::http(method, 1, error);
        let answer: Answer<T> = serde_json::from_slice(body).map_err(malformed)?;
        self.check_refusal(method, answer.error_code, answer.error_info)?;
        match answer.result {
            Some(result) => Ok(result),
            // Some methods answer null.
            None => T::deserialize(Value::Null).map_err(malformed),
        }
    }

    /// Calls `method` for the `tries`-th time.
    async fn post(
        &self,
        method: &'static str,
        params: &str,
        tries: u32,
    ) -> Result<Bytes, ConduitError> {
        let response = self.send(method, params, tries).await?.collect().await;
        let failed = |error| ConduitError::http(method, tries, error);
        Ok(response.map_err(failed)?.body)
    }

    /// Calls `method` for the `tries`-th time; the body of the answer is still to be read.
    async fn send(
        &self,
        method: &'static str,
        params: &str,
        tries: u32,
    ) -> Result<Incoming, ConduitError> {
        let url = format!("{}/api/{method}", self.url.as_str().trim_end_matches('/'));
        let form = [("params", params), ("output", "json")];
        let opened = http_client::open(self.http.post(url).form(&form), LIMITS).await;
        opened
            .and_then(|response| response.require(StatusCode::OK))
            .map_err(|error| ConduitError::http(method, tries, error))
    }

    /// Fails when an answer is an error.
    fn check_refusal(
        &self,
        method: &'static str,
        code: Option<String>,
        info: Option<String>,
    ) -> Result<(), ConduitError> {
        if let Some(code) = code {
            return Err(self.refusal(method, code, &info.unwrap_or_default()));
        }
        if self.revoked.recovered() {
            info!("phabricator accepts the api token again");
        }
        Ok(())
    }

    fn refusal(&self, method: &'static str, code: String, info: &str) -> ConduitError {
        if code == "ERR-INVALID-AUTH" || code == "ERR-INVALID-SESSION" {
            if self.revoked.should_log(()) {
                error!(
                    code,
                    "phabricator does not accept the api token: builds are deferred until PHABRICATOR.api_key is valid again"
                );
            }
            // Its text echoes the token, and says nothing that the code does not.
            return ConduitError::InvalidToken { method, code };
        }
        if method.starts_with("differential.") || method.starts_with("edge.") {
            let info = "its words are not shown, they may be about a private revision".to_owned();
            return ConduitError::Refused { method, code, info };
        }
        ConduitError::Refused {
            method,
            code,
            info: http_client::redact(info, [&self.token], MAX_INFO),
        }
    }
}

/// Makes a call, which gets the number of the try, and makes it again while it fails in a way that may pass.
async fn retried<T, F>(call: impl Fn(u32) -> F) -> Result<T, ConduitError>
where
    F: Future<Output = Result<T, ConduitError>>,
{
    let pause = |error: &ConduitError| match error {
        ConduitError::Http { source, .. } => source.pause(LONGEST_WAIT),
        _ => None,
    };
    ATTEMPTS.run(&SystemClock, call, pause).await
}

impl ConduitError {
    /// Whether it concerns all calls, and not only what was asked for.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::InvalidToken { .. } => true,
            Self::Http { source, .. } => !matches!(
                source,
                HttpError::TooLarge { .. } | HttpError::Malformed { .. }
            ),
            Self::Refused { .. } | Self::Disk { .. } => false,
        }
    }

    /// Whether the answer is longer than it may be.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self, Self::Http { source, .. } if matches!(source, HttpError::TooLarge { .. }))
    }

    /// Whether the server has no such method: it is another version.
    pub fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "ERR-CONDUIT-CALL")
    }

    /// Whether the server surely did nothing. Else it may have acted before it failed, or before its answer was lost.
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::InvalidToken { .. } => true,
            Self::Http { source, .. } => source.had_no_effect(),
            Self::Disk { .. } => false,
        }
    }

    fn http(method: &'static str, tries: u32, error: impl Into<HttpError>) -> Self {
        Self::Http {
            method,
            tries,
            source: error.into(),
        }
    }
}

fn tries_failed(tries: u32) -> String {
    match tries {
        1 => "1 try failed".to_owned(),
        tries => format!("{tries} tries failed"),
    }
}
