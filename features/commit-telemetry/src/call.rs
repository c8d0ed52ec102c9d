//! Calls of the servers that this crate asks: their bounds in size and time, and their retries.

use std::{sync::Arc, time::Duration};

use bus::Backoff;
use bytes::Bytes;
use reqwest::{RequestBuilder, Response, StatusCode, header::RETRY_AFTER};
use runtime::Clock;
use serde::{Deserializer, de::DeserializeOwned};

use crate::TelemetryError;

/// How often a call is tried while there is hope, the first try included.
const TRIES: u32 = 4;
/// The waits between the tries.
const WAITS: Backoff = Backoff {
    first: Duration::from_millis(500),
    factor: 2,
    cap: Duration::from_secs(4),
};
/// How long a server may say nothing: hgweb makes a large diff before it sends the first byte.
const SILENCE: Duration = Duration::from_secs(120);
/// How long an answer may take as a whole. The largest are diffs of gigabytes.
const WHOLE: Duration = Duration::from_secs(3600);
/// The most of a server's words that is shown, in bytes.
const MAX_WORDS: usize = 300;

/// Who calls: an HTTP client that follows no redirects, and a clock to wait by.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) http: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl Caller {
    pub(crate) fn new(http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock }
    }

    /// Makes a whole call, reading the answer included, until it succeeds or there is no hope for it.
    pub(crate) async fn retried<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, TelemetryError>
    where
        F: Future<Output = Result<T, TelemetryError>>,
    {
        for number in 1..TRIES {
            match attempt().await {
                Err(error) if error.may_pass() => {
                    self.clock
                        .sleep(WAITS.after(number, self.clock.as_ref()))
                        .await
                }
                settled => return settled,
            }
        }
        attempt().await
    }
}

/// An answer that has begun.
pub(crate) struct Answer<'a> {
    pub(crate) call: &'a str,
    response: Response,
}

impl<'a> Answer<'a> {
    /// Sends a request. 5xx and 429 are failures of `call`; any other status is an answer.
    pub(crate) async fn of(call: &'a str, request: RequestBuilder) -> Result<Self, TelemetryError> {
        let response = timely(call, request.timeout(WHOLE).send()).await?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            let retry_after = retry_after(&response);
            return Err(TelemetryError::Server {
                call: call.to_owned(),
                status: status.as_u16(),
                retry_after,
            });
        }
        Ok(Self { call, response })
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// What a status means that is none of those that `call` is known to have.
    pub(crate) fn unexpected(&self) -> TelemetryError {
        TelemetryError::Status {
            call: self.call.to_owned(),
            status: self.status().as_u16(),
        }
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TelemetryError> {
        timely(self.call, self.response.chunk()).await
    }

    /// The body, which has at most `limit` bytes.
    pub(crate) async fn body(mut self, limit: usize) -> Result<Vec<u8>, TelemetryError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > limit {
                return Err(TelemetryError::TooLarge {
                    call: self.call.to_owned(),
                    limit: limit as u64,
                });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Waits for a sign of life, for [`SILENCE`] at most.
async fn timely<T>(
    call: &str,
    sign: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, TelemetryError> {
    match tokio::time::timeout(SILENCE, sign).await {
        Ok(result) => {
            // The address is a part of `call` where it is of interest.
            result.map_err(|source| TelemetryError::Unreachable {
                call: call.to_owned(),
                source: source.without_url(),
            })
        }
        Err(_) => Err(TelemetryError::Silent {
            call: call.to_owned(),
            after: SILENCE,
        }),
    }
}

/// How long the server wants to be left alone, where it says so in seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response
        .headers()
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}

/// Reads JSON. An error names the path of the field.
pub(crate) fn read_json<T: DeserializeOwned>(call: &str, body: &[u8]) -> Result<T, TelemetryError> {
    let undecodable = |problem| TelemetryError::Undecodable {
        call: call.to_owned(),
        problem,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = located(&mut json).map_err(undecodable)?;
    json.end().map_err(|error| undecodable(error.to_string()))?;
    Ok(value)
}

/// Reads a value, or says at which field that failed, and how, on one short line.
pub(crate) fn located<'de, T, D>(deserializer: D) -> Result<T, String>
where
    T: serde::Deserialize<'de>,
    D: Deserializer<'de>,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        short(&if path == "." {
            error.into_inner().to_string()
        } else {
            format!("{path}: {}", error.into_inner())
        })
    })
}

/// Words on one short line.
pub(crate) fn short(words: &str) -> String {
    runtime::sanitize::one_line(words, MAX_WORDS)
}
