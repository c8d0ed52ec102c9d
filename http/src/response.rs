//! A call and its response, within limits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    RequestBuilder, StatusCode,
    header::{HeaderMap, HeaderName},
};
use runtime::Clock;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{HttpError, headers::header};

/// The limits of a response. The time for the whole call is that of the client or of the request.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest body, in bytes.
    pub body: usize,
    /// The longest time without a byte, before the head too.
    pub silence: Duration,
}

impl Limits {
    /// A body of at most `bytes` bytes, and no limit of silence.
    pub const fn body(bytes: usize) -> Self {
        Self {
            body: bytes,
            silence: Duration::MAX,
        }
    }
}

/// A response that was read, with whatever status.
#[derive(Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, within [`Limits::body`].
    pub body: Bytes,
}

/// A response whose body still arrives.
pub struct Incoming {
    response: reqwest::Response,
    limits: Limits,
    received: usize,
    pace: Option<Pace>,
}

/// The lowest rate of a body. Only the time that its reader waits for it counts.
struct Pace {
    /// In bytes a second.
    rate: u64,
    /// The wait that costs nothing.
    grace: Duration,
    clock: Arc<dyn Clock>,
    waited: Duration,
}

/// Sends `request` once and reads the response, with whatever status.
pub async fn send(request: RequestBuilder, limits: Limits) -> Result<Response, HttpError> {
    open(request, limits).await?.collect().await
}

/// Sends `request` once and returns the response when its head has arrived, with whatever status.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that sends http requests"
)]
pub async fn open(request: RequestBuilder, limits: Limits) -> Result<Incoming, HttpError> {
    let response = within(limits.silence, request.send()).await?;
    Ok(Incoming {
        response,
        limits,
        received: 0,
        pace: None,
    })
}

impl Response {
    /// The error of the status; `None` if it is a success.
    pub fn error(&self) -> Option<HttpError> {
        HttpError::of_status(self.status, &self.headers)
    }

    /// The response if it is a success, or the error of its status.
    pub fn check(self) -> Result<Self, HttpError> {
        match self.error() {
            None => Ok(self),
            Some(error) => Err(error),
        }
    }

    /// The value of a header, if it is one of ASCII text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The value that the body holds as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

impl Incoming {
    /// The error of the status; `None` if it is a success.
    pub fn error(&self) -> Option<HttpError> {
        HttpError::of_status(self.status(), self.response.headers())
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// The value of a header, if it is one of ASCII text.
    pub fn header(&self, name: HeaderName) -> Option<&str> {
        header(self.response.headers(), name)
    }

    /// The response if it is a success, or the error of its status.
    pub fn check(self) -> Result<Self, HttpError> {
        match self.error() {
            None => Ok(self),
            Some(error) => Err(error),
        }
    }

    /// The response if it has the status `expected`, or an error: of a peer that has one status for success, another 2xx
    /// comes from something else.
    pub fn require(self, expected: StatusCode) -> Result<Self, HttpError> {
        let response = self.check()?;
        match response.status() {
            status if status == expected => Ok(response),
            status => Err(HttpError::Rejected {
                status: status.as_u16(),
            }),
        }
    }

    /// The same, where a body that arrives at less than `rate` bytes a second is an error. `grace` is the wait in all that
    /// does not count.
    pub fn with_lowest_rate(mut self, rate: u64, grace: Duration, clock: Arc<dyn Clock>) -> Self {
        self.pace = Some(Pace {
            rate,
            grace,
            clock,
            waited: Duration::ZERO,
        });
        self
    }

    /// The next bytes of the body; `None` at its end. After an error nothing more comes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let begun = self.pace.as_ref().map(|pace| pace.clock.now());
        let Some(chunk) = within(self.limits.silence, self.response.chunk()).await? else {
            return Ok(None);
        };
        self.received = self.received.saturating_add(chunk.len());
        if self.received > self.limits.body {
            let limit = self.limits.body;
            return Err(HttpError::TooLarge { limit });
        }
        if let (Some(pace), Some(begun)) = (&mut self.pace, begun) {
            pace.waited += pace.clock.now().duration_since(begun).unsigned_abs();
            let earned = Duration::from_secs(self.received as u64 / pace.rate.max(1));
            if pace.waited > pace.grace + earned {
                return Err(HttpError::Slow { rate: pace.rate });
            }
        }
        Ok(Some(chunk))
    }

    /// Reads the body to its end.
    pub async fn collect(mut self) -> Result<Response, HttpError> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
        }
        Ok(self.with_body(body))
    }

    /// Reads the body up to its limit and leaves the rest. A body that breaks off before is an error.
    pub async fn truncated(mut self) -> Result<Response, HttpError> {
        let mut body = Vec::new();
        self.fill(&mut body).await?;
        Ok(self.with_body(body))
    }

    /// Reads the beginning of the body, up to its limit. One that breaks off is as long as it arrived: for a response whose
    /// status says enough, and whose body an error quotes.
    pub async fn beginning(mut self) -> Response {
        let mut body = Vec::new();
        let _ = self.fill(&mut body).await;
        self.with_body(body)
    }

    async fn fill(&mut self, body: &mut Vec<u8>) -> Result<(), HttpError> {
        let limit = std::mem::replace(&mut self.limits.body, usize::MAX);
        while body.len() < limit
            && let Some(chunk) = self.chunk().await?
        {
            body.extend_from_slice(&chunk[..chunk.len().min(limit - body.len())]);
        }
        Ok(())
    }

    fn with_body(mut self, body: Vec<u8>) -> Response {
        Response {
            status: self.status(),
            headers: std::mem::take(self.response.headers_mut()),
            body: body.into(),
        }
    }
}

async fn within<T>(
    silence: Duration,
    step: impl Future<Output = reqwest::Result<T>>,
) -> Result<T, HttpError> {
    match timeout(silence, step).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(HttpError::Silent { after: silence }),
    }
}

#[cfg(test)]
mod tests;
