//! Requests to hgweb, Bugzilla and the edge: their limits, their retries, and the decoding of their answers.

use std::{sync::Arc, time::Duration};

use http_client::{HttpError, Incoming, Limits};
use reqwest::{RequestBuilder, StatusCode};
use runtime::{Attempts, Backoff, Clock};
use serde::{Deserializer, de::DeserializeOwned};
use url::Url;

use crate::TelemetryError;

/// The attempts of a call whose failures are transient.
const ATTEMPTS: Attempts = Attempts {
    most: 4,
    waits: Backoff {
        first: Duration::from_millis(500),
        factor: 2,
        cap: Duration::from_secs(4),
    },
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

    /// Runs a whole call, including reading the answer, until it succeeds, fails permanently, or has used up its attempts.
    pub(crate) async fn with_retries<T, F>(
        &self,
        attempt: impl Fn() -> F,
    ) -> Result<T, TelemetryError>
    where
        F: Future<Output = Result<T, TelemetryError>>,
    {
        let clock = self.clock.as_ref();
        ATTEMPTS
            .run(clock, |_| attempt(), TelemetryError::pause)
            .await
    }
}

/// Sends a request, and returns the answer when its headers have arrived. 5xx and 429 are errors of `call`; any other status
/// is an answer.
pub(crate) async fn open(
    call: &str,
    request: RequestBuilder,
    max_body: usize,
) -> Result<Incoming, TelemetryError> {
    let limits = Limits {
        body: max_body,
        silence: IDLE_TIMEOUT,
    };
    let answer = http_client::open(request.timeout(TOTAL_TIMEOUT), limits)
        .await
        .map_err(failed(call))?;
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return answer.check().map_err(failed(call));
    }
    Ok(answer)
}

/// Adds the call to its error.
pub(crate) fn failed(call: &str) -> impl Fn(HttpError) -> TelemetryError {
    move |source| TelemetryError::Http {
        call: call.to_owned(),
        source,
    }
}

/// The error for a status that `call` is not known to have.
pub(crate) fn unexpected(call: &str, status: StatusCode) -> TelemetryError {
    TelemetryError::UnexpectedStatus {
        call: call.to_owned(),
        status: status.as_u16(),
    }
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
