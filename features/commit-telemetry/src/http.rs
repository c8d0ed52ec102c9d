//! Requests to hgweb, Bugzilla and the edge: their bounds in size and time, and their retries.

use std::{sync::Arc, time::Duration};

use bus::Backoff;
use bytes::Bytes;
use reqwest::{RequestBuilder, Response, StatusCode, header::RETRY_AFTER};
use runtime::Clock;
use serde::{Deserializer, de::DeserializeOwned};
use url::Url;

use crate::TelemetryError;

/// The most tries of a call whose failures are transient.
const TRIES: u32 = 4;
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    factor: 2,
    cap: Duration::from_secs(4),
};
/// The longest time without data: hgweb computes a large diff before it sends the first byte.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest time for a whole answer. The largest are diffs of gigabytes.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(3600);
/// The most bytes of a server's text in an error.
const MAX_FOREIGN_TEXT: usize = 300;

/// An HTTP client that follows no redirects, and the clock of its retries.
#[derive(Clone)]
pub(crate) struct HttpClient {
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl HttpClient {
    pub(crate) fn new(client: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock }
    }

    pub(crate) fn get(&self, url: &Url) -> RequestBuilder {
        self.client.get(url.clone())
    }

    pub(crate) fn put(&self, url: &Url) -> RequestBuilder {
        self.client.put(url.clone())
    }

    /// Runs a whole call, including reading the answer, until it succeeds, fails permanently, or has used up its tries.
    pub(crate) async fn with_retries<T, F>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, TelemetryError>
    where
        F: Future<Output = Result<T, TelemetryError>>,
    {
        for number in 1..TRIES {
            match attempt().await {
                Err(error) if error.is_transient() => {
                    let wait = BACKOFF.after(number, self.clock.as_ref());
                    self.clock.sleep(wait).await;
                }
                settled => return settled,
            }
        }
        attempt().await
    }
}

/// An answer whose headers have arrived.
pub(crate) struct Answer<'a> {
    /// The name of the call in errors.
    pub(crate) call: &'a str,
    response: Response,
}

impl<'a> Answer<'a> {
    /// Sends a request. 5xx and 429 are errors of `call`; any other status is an answer.
    pub(crate) async fn receive(
        call: &'a str,
        request: RequestBuilder,
    ) -> Result<Self, TelemetryError> {
        let response = with_idle_timeout(call, request.timeout(TOTAL_TIMEOUT).send()).await?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(TelemetryError::ServerError {
                call: call.to_owned(),
                status: status.as_u16(),
                retry_after: retry_after(&response),
            });
        }
        Ok(Self { call, response })
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The error for a status that `call` is not known to have.
    pub(crate) fn unexpected(&self) -> TelemetryError {
        TelemetryError::UnexpectedStatus {
            call: self.call.to_owned(),
            status: self.status().as_u16(),
        }
    }

    /// The next chunk of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, TelemetryError> {
        with_idle_timeout(self.call, self.response.chunk()).await
    }

    /// The body, if it has at most `limit` bytes.
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

async fn with_idle_timeout<T>(
    call: &str,
    response: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, TelemetryError> {
    match tokio::time::timeout(IDLE_TIMEOUT, response).await {
        // `call` has the address where it matters.
        Ok(result) => result.map_err(|source| TelemetryError::Unreachable {
            call: call.to_owned(),
            source: source.without_url(),
        }),
        Err(_) => Err(TelemetryError::Timeout {
            call: call.to_owned(),
            after: IDLE_TIMEOUT,
        }),
    }
}

/// The pause that the server requests, if it does so in seconds.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Decodes JSON. An error names the path of the field.
pub(crate) fn decode_json<T: DeserializeOwned>(
    call: &str,
    body: &[u8],
) -> Result<T, TelemetryError> {
    let undecodable = |problem| TelemetryError::Undecodable {
        call: call.to_owned(),
        problem,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = decode(&mut json).map_err(undecodable)?;
    json.end().map_err(|error| undecodable(error.to_string()))?;
    Ok(value)
}

/// Decodes a value. The error is one short line with the path of the field and the problem.
pub(crate) fn decode<'de, T, D>(deserializer: D) -> Result<T, String>
where
    T: serde::Deserialize<'de>,
    D: Deserializer<'de>,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path = error.path().to_string();
        sanitized(&if path == "." {
            error.into_inner().to_string()
        } else {
            format!("{path}: {}", error.into_inner())
        })
    })
}

/// Foreign text on one short line.
pub(crate) fn sanitized(text: &str) -> String {
    runtime::sanitize::one_line(text, MAX_FOREIGN_TEXT)
}
