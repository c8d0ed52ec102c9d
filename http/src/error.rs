//! The errors of a call.

use std::{error::Error as _, time::Duration};

use reqwest::{StatusCode, header::HeaderMap};
use runtime::{Retry, Retryable, error_chain};
use thiserror::Error;

use crate::{NotPublic, headers::retry_after};

/// How long work is deferred while its peer is away.
const OUTAGE_PAUSE: Duration = Duration::from_secs(30);
/// How long work is deferred while its peer does not accept the credentials. Only an operator can help.
const CREDENTIALS_PAUSE: Duration = Duration::from_secs(60);
/// The bounds of the pause that a peer requests.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The cause for which a call gave no result. No variant holds the address, a header, or a part of a body.
///
/// As [`Retryable`] it is the policy for most peers: outages are deferred, and what something between here and the peer
/// may cause for a while counts attempts.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The request cannot be made, such as one with a bad header.
    #[error("the request cannot be made")]
    Unsendable(#[source] reqwest::Error),
    /// The host has no public address, and the client requests only those.
    #[error(transparent)]
    NotPublic(#[from] NotPublic),
    /// There was no connection, or it broke.
    #[error("the server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// There was no whole response within the time of the client or the request.
    #[error("the server did not respond in time")]
    TimedOut(#[source] reqwest::Error),
    /// Nothing arrived for [`Limits::silence`](crate::Limits::silence).
    #[error("the server sent nothing for {} s", after.as_secs())]
    Silent {
        /// The length of the silence.
        after: Duration,
    },
    /// The body arrives too slowly: it would be read without end.
    #[error("the response arrives slower than {rate} bytes a second")]
    Slow {
        /// The lowest rate, in bytes a second.
        rate: u64,
    },
    /// The peer is overloaded or failed (408, 429, 5xx).
    #[error("the server responded with http status {status}")]
    Busy {
        /// The HTTP status.
        status: u16,
        /// The pause that the peer requests.
        retry_after: Option<Duration>,
    },
    /// The peer does not accept the credentials, or they give no right to the request (401, 403).
    #[error("the server does not accept the credentials (http status {status})")]
    Unauthorized {
        /// The HTTP status.
        status: u16,
    },
    /// There is nothing at the address (404, 410).
    #[error("the server has no such resource (http status {status})")]
    NotFound {
        /// The HTTP status.
        status: u16,
    },
    /// Any other status that is not a success of this request.
    #[error("the server responded with the unexpected http status {status}")]
    Rejected {
        /// The HTTP status.
        status: u16,
    },
    /// The body is not what the peer documents.
    #[error("the response cannot be read: {problem}")]
    Malformed {
        /// The kind of the fault and its place, without a quote: the body may be private.
        problem: String,
    },
    /// The body is longer than [`Limits::body`](crate::Limits::body).
    #[error("the response is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
}

impl HttpError {
    /// The error of a status that is not a success; `None` for 2xx.
    pub fn of_status(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        let retry_after = retry_after(headers);
        match status.as_u16() {
            200..300 => None,
            status @ (408 | 429 | 500..) => Some(Self::Busy {
                status,
                retry_after,
            }),
            status @ (401 | 403) => Some(Self::Unauthorized { status }),
            status @ (404 | 410) => Some(Self::NotFound { status }),
            status => Some(Self::Rejected { status }),
        }
    }

    /// The error of a body with a fault of this kind at this place.
    pub fn malformed(kind: &str, line: usize, column: usize) -> Self {
        Self::Malformed {
            problem: format!("{kind} error at line {line}, column {column}"),
        }
    }

    /// The causes of the error without its own words, for an error that says these in another way.
    pub fn causes(&self) -> String {
        error_chain(self.source().unwrap_or(self))
    }

    /// Whether the peer is away or overloaded: the same request may succeed a second later.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Silent { .. } | Self::Busy { .. }
        )
    }

    /// The shortest wait before another attempt within a call; `None` if another one does not help, or the peer requests
    /// a pause over `longest`.
    pub fn pause(&self, longest: Duration) -> Option<Duration> {
        match self {
            Self::Busy {
                retry_after: Some(pause),
                ..
            } => Some(*pause).filter(|pause| *pause <= longest),
            _ => self.is_outage().then_some(Duration::ZERO),
        }
    }

    /// Whether the peer surely did nothing. Else it may have acted before it failed, or before its response was lost.
    pub fn had_no_effect(&self) -> bool {
        match self {
            Self::Unsendable(_) | Self::NotPublic(_) => true,
            Self::Unreachable(source) => source.is_connect(),
            Self::Busy { status, .. } => matches!(status, 400..500 | 503),
            Self::Unauthorized { .. } | Self::NotFound { .. } => true,
            Self::Rejected { status } => (400..500).contains(status),
            Self::TimedOut(_)
            | Self::Silent { .. }
            | Self::Slow { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}

impl From<reqwest::Error> for HttpError {
    /// Drops the address, which may hold a password or a signature.
    fn from(error: reqwest::Error) -> Self {
        if let Some(refusal) = NotPublic::within(&error) {
            return refusal.clone().into();
        }
        let error = error.without_url();
        if error.is_builder() {
            Self::Unsendable(error)
        } else if error.is_timeout() && !error.is_connect() {
            Self::TimedOut(error)
        } else {
            Self::Unreachable(error)
        }
    }
}

impl From<serde_json::Error> for HttpError {
    /// Keeps the place alone: the decoder may quote what is private.
    fn from(error: serde_json::Error) -> Self {
        let kind = match error.classify() {
            serde_json::error::Category::Io => "input",
            serde_json::error::Category::Syntax => "syntax",
            serde_json::error::Category::Data => "type",
            serde_json::error::Category::Eof => "end of input",
        };
        Self::malformed(kind, error.line(), error.column())
    }
}

impl Retryable for HttpError {
    fn retry(&self) -> Retry {
        match self {
            Self::Unsendable(_) | Self::NotPublic(_) | Self::TooLarge { .. } => Retry::Never,
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Silent { .. } => {
                Retry::Defer(OUTAGE_PAUSE)
            }
            Self::Busy { retry_after, .. } => Retry::Defer(
                retry_after
                    .unwrap_or(OUTAGE_PAUSE)
                    .clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            ),
            Self::Unauthorized { .. } => Retry::Defer(CREDENTIALS_PAUSE),
            // Something between here and the peer may respond so for a while.
            Self::Slow { .. }
            | Self::NotFound { .. }
            | Self::Rejected { .. }
            | Self::Malformed { .. } => Retry::Backoff,
        }
    }
}
