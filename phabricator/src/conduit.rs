//! The Conduit client: one call, its retries, and its errors.

mod download;

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use bus::{Retry, Retryable};
use bytes::Bytes;
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use thiserror::Error;
use tracing::{error, info};
use url::Url;

/// How often one call is tried while the server does not answer, the first try included.
const TRIES: usize = 3;
/// The wait before the second try; it doubles after that.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// How long what needs a call is deferred while the token is not accepted.
const TOKEN_PAUSE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes: twice the largest patch that is applied.
const MAX_ANSWER: usize = 128 << 20;
/// The most of a server's error text that is kept, in bytes.
const MAX_INFO: usize = 500;

/// A Phabricator, and the right to call it.
#[derive(Clone)]
pub struct Conduit {
    url: Url,
    token: SecretString,
    http: reqwest::Client,
    /// Whether the token was refused when it was last used.
    revoked: Arc<AtomicBool>,
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
    /// It answered with something else than 200, several times if that could pass.
    #[error("phabricator answered {method} with http status {status}")]
    Server {
        /// The method that was called.
        method: &'static str,
        /// The status.
        status: u16,
    },
    /// There was no answer.
    #[error("phabricator cannot be reached for {method}, {}", tries_failed(*tries))]
    Unreachable {
        /// The method that was called.
        method: &'static str,
        /// How many times it was called.
        tries: u32,
        /// The last failure, without its address.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is longer than anything that could be used.
    #[error("phabricator's answer to {method} is longer than {MAX_ANSWER} bytes")]
    TooLarge {
        /// The method that was called.
        method: &'static str,
    },
    /// The answer is not what the method is known to give. What the decoder quotes could be private, so only the
    /// place is kept.
    #[error(
        "phabricator's answer to {method} cannot be read: {problem} error at line {line}, column {column}"
    )]
    Undecodable {
        /// The method that was called.
        method: &'static str,
        /// What kind of fault it is.
        problem: &'static str,
        /// Where in the answer.
        line: usize,
        /// Where in the line.
        column: usize,
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
            Self::TooLarge { .. } => Retry::Never,
            // Nobody but an operator can help, and however long that takes, no build is to blame for it.
            Self::InvalidToken { .. } => Retry::Defer(TOKEN_PAUSE),
            // Also refusals: a database that is away for a moment comes as ERR-CONDUIT-CORE, a parent that became
            // private between two calls as ERR-BAD-SOURCEPHIDS, and the next try sees the new state.
            Self::Refused { .. }
            | Self::Server { .. }
            | Self::Unreachable { .. }
            | Self::Undecodable { .. }
            | Self::Disk { .. } => Retry::Backoff,
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
            revoked: Arc::default(),
        }
    }

    /// Calls `method`. A 5xx or a broken connection is tried again within the call, after 0.5 and 1 s.
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
        let answer: Answer<T> = serde_json::from_slice(body)
            .map_err(|error| ConduitError::undecodable(method, &error))?;
        self.check_refusal(method, answer.error_code, answer.error_info)?;
        match answer.result {
            Some(result) => Ok(result),
            // Some methods answer null.
            None => T::deserialize(Value::Null)
                .map_err(|error| ConduitError::undecodable(method, &error)),
        }
    }

    /// Calls `method` for the `tries`-th time.
    async fn post(
        &self,
        method: &'static str,
        params: &str,
        tries: u32,
    ) -> Result<Vec<u8>, ConduitError> {
        let mut body = self.send(method, params, tries).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = body.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// Calls `method` for the `tries`-th time; the body of the answer is still to be read.
    async fn send(
        &self,
        method: &'static str,
        params: &str,
        tries: u32,
    ) -> Result<Body, ConduitError> {
        let url = format!("{}/api/{method}", self.url.as_str().trim_end_matches('/'));
        let form = [("params", params), ("output", "json")];
        let response = self
            .http
            .post(url)
            .form(&form)
            .send()
            .await
            .map_err(|source| ConduitError::unreachable(method, tries, source))?;
        if response.status() != StatusCode::OK {
            return Err(ConduitError::Server {
                method,
                status: response.status().as_u16(),
            });
        }
        Ok(Body {
            method,
            tries,
            response,
            left: MAX_ANSWER,
        })
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
        if self.revoked.swap(false, Ordering::Relaxed) {
            info!("phabricator accepts the api token again");
        }
        Ok(())
    }

    fn refusal(&self, method: &'static str, code: String, info: &str) -> ConduitError {
        if code == "ERR-INVALID-AUTH" || code == "ERR-INVALID-SESSION" {
            if !self.revoked.swap(true, Ordering::Relaxed) {
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
            info: scrub(info, self.token.expose_secret()),
        }
    }
}

/// The body of an answer.
struct Body {
    method: &'static str,
    tries: u32,
    response: Response,
    /// How many more bytes are read.
    left: usize,
}

impl Body {
    /// What comes next; `None` at the end.
    async fn chunk(&mut self) -> Result<Option<Bytes>, ConduitError> {
        let Self { method, tries, .. } = *self;
        let chunk = self.response.chunk().await;
        let chunk = chunk.map_err(|source| ConduitError::unreachable(method, tries, source))?;
        let length = chunk.as_ref().map_or(0, Bytes::len);
        self.left = self
            .left
            .checked_sub(length)
            .ok_or(ConduitError::TooLarge { method })?;
        Ok(chunk)
    }
}

/// Makes a call, which gets the number of the try, and makes it again while it fails in a way that may pass.
async fn retried<T, F>(call: impl Fn(u32) -> F) -> Result<T, ConduitError>
where
    F: Future<Output = Result<T, ConduitError>>,
{
    let backoff = ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_factor(2.0)
        .with_max_times(TRIES - 1);
    let tries = AtomicU32::new(0);
    let next = || call(tries.fetch_add(1, Ordering::Relaxed) + 1);
    next.retry(backoff).when(ConduitError::may_pass).await
}

impl ConduitError {
    /// Whether it concerns all calls, and not only what was asked for.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::InvalidToken { .. } | Self::Server { .. } | Self::Unreachable { .. } => true,
            Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Undecodable { .. }
            | Self::Disk { .. } => false,
        }
    }

    /// Whether the same call may succeed a second later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_builder(),
            Self::Server { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// Whether the server has no such method: it is another version.
    pub fn is_unknown_method(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "ERR-CONDUIT-CALL")
    }

    /// Whether the server surely did nothing. Else it may have acted before it failed, or before its answer was lost.
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::InvalidToken { .. } => true,
            Self::Server { status, .. } => matches!(status, 400..500 | 503),
            Self::Unreachable { source, .. } => source.is_connect() || source.is_builder(),
            Self::TooLarge { .. } | Self::Undecodable { .. } | Self::Disk { .. } => false,
        }
    }

    fn unreachable(method: &'static str, tries: u32, source: reqwest::Error) -> Self {
        Self::Unreachable {
            method,
            tries,
            source: source.without_url(),
        }
    }

    fn undecodable(method: &'static str, error: &serde_json::Error) -> Self {
        let problem = match error.classify() {
            serde_json::error::Category::Io => "input",
            serde_json::error::Category::Syntax => "syntax",
            serde_json::error::Category::Data => "type",
            serde_json::error::Category::Eof => "end of input",
        };
        Self::Undecodable {
            method,
            problem,
            line: error.line(),
            column: error.column(),
        }
    }
}

fn tries_failed(tries: u32) -> String {
    match tries {
        1 => "1 try failed".to_owned(),
        tries => format!("{tries} tries failed"),
    }
}

/// `info` on one line, cut, and without the token.
fn scrub(info: &str, token: &str) -> String {
    let token = token.trim();
    let info = if token.is_empty() {
        info.to_owned()
    } else {
        info.replace(token, "(token)")
    };
    runtime::sanitize::one_line(&info, MAX_INFO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_short_line_without_the_token() {
        let table = [
            (
                "API token \"api-abc\" is bad",
                "api-abc",
                "API token \"(token)\" is bad",
            ),
            ("two\nlines", "api-abc", "two lines"),
            ("nothing to hide", "", "nothing to hide"),
            ("api-abc", " api-abc\n", "(token)"),
        ];
        for (info, token, expected) in table {
            assert_eq!(scrub(info, token), expected);
        }
        let long = scrub(&"ü".repeat(400), "x");
        assert!(long.len() <= MAX_INFO && long.ends_with("ü…"), "{long}");
        assert_eq!(scrub("a\u{202e}b", "x"), "ab");
    }
}
