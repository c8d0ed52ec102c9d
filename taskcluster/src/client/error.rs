//! Why a call gave no result.

use std::time::Duration;

use bus::{Retry, Retryable};
use http_client::HttpError;
use thiserror::Error;

/// How long what needs a call is deferred while the credentials do not do for it. Only an operator can help.
const CREDENTIALS_PAUSE: Duration = Duration::from_secs(60);

/// Why a call gave no result. None of these holds a credential, a secret, or the signed part of an address.
#[derive(Debug, Error)]
pub enum TaskclusterError {
    /// What was asked is wrong (400).
    #[error("taskcluster refused {call} as invalid: {code}: {message}")]
    Input {
        /// Service and method, such as `hooks.triggerHook`.
        call: &'static str,
        /// Taskcluster's error code, such as `InputError` or `InputValidationError`.
        code: String,
        /// Taskcluster's words, on one short line.
        message: String,
    },
    /// The credentials are not accepted (401).
    #[error(
        "taskcluster does not accept the credentials for {call}: {message}: set a valid client id and access token, and check this machine's time"
    )]
    Credentials {
        /// Service and method.
        call: &'static str,
        /// Taskcluster's words.
        message: String,
    },
    /// The credentials are accepted, and give no right to this (403).
    #[error("taskcluster's client may not do {call}: {message}: give it the missing scopes")]
    Scopes {
        /// Service and method.
        call: &'static str,
        /// Taskcluster's words, which name the scopes.
        message: String,
    },
    /// There is no such task, hook, artifact, … (404).
    #[error("taskcluster does not find what {call} names: {message}")]
    NotFound {
        /// Service and method.
        call: &'static str,
        /// Taskcluster's words.
        message: String,
    },
    /// Another object has the id (409). An identical repeat is not a conflict.
    #[error("taskcluster refused {call}, since another object has the id: {message}")]
    Conflict {
        /// Service and method.
        call: &'static str,
        /// Taskcluster's words.
        message: String,
    },
    /// The address wants no mail from this deployment (400 `DenylistedAddress`).
    #[error("taskcluster sends no mail to this address: it is on the denylist")]
    DenylistedAddress,
    /// The task made an artifact that stands for an error (424).
    #[error("the artifact is an error of its task: {reason}: {message}")]
    ErrorArtifact {
        /// Why there is no content, such as `file-missing-on-worker`.
        reason: String,
        /// The worker's words.
        message: String,
    },
    /// There was no response, or none that can be used: a status means nothing without Taskcluster's words.
    #[error("no usable response from taskcluster to {call}")]
    Http {
        /// Service and method.
        call: &'static str,
        /// The last failure.
        #[source]
        source: HttpError,
    },
    /// An artifact is at an address that is not fetched from: neither the deployment's own, nor `https` at a public
    /// address.
    #[error(
        "{call} leads to {address}, which is not allowed: only the deployment itself and https at public addresses are"
    )]
    Elsewhere {
        /// Service and method.
        call: &'static str,
        /// Scheme and host.
        address: String,
    },
    /// The call cannot be made: what it names cannot be a name, or cannot be written.
    #[error("cannot make the call {call}: {problem}")]
    Unsendable {
        /// Service and method.
        call: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The call cannot be signed: a fault of the credentials.
    #[error("cannot sign the call {call}: {problem}")]
    Unsigned {
        /// Service and method.
        call: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Retryable for TaskclusterError {
    fn retry(&self) -> Retry {
        match self {
            // The message asks for what cannot be, and will ask for it again.
            Self::Input { .. }
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::DenylistedAddress
            | Self::ErrorArtifact { .. }
            | Self::Elsewhere { .. }
            | Self::Unsendable { .. } => Retry::Never,
            // No message is to blame for the credentials, however long it takes an operator to mend them.
            Self::Credentials { .. } | Self::Scopes { .. } | Self::Unsigned { .. } => {
                Retry::Defer(CREDENTIALS_PAUSE)
            }
            Self::Http { source, .. } => match source {
                // Only Taskcluster's own words count as its verdict.
                HttpError::Unauthorized { .. } => Retry::Backoff,
                source => source.retry(),
            },
        }
    }
}

impl TaskclusterError {
    /// Whether there was an outage.
    pub(super) fn is_outage(&self) -> bool {
        matches!(self, Self::Http { source, .. } if source.is_outage())
    }

    /// The shortest wait before another attempt of the same call, if one may help.
    pub(super) fn pause(&self, longest: Duration) -> Option<Duration> {
        match self {
            // One attempt takes a minute already.
            Self::Http {
                source: HttpError::Silent { .. },
                ..
            } => None,
            Self::Http { source, .. } => source.pause(longest),
            _ => None,
        }
    }

    pub(super) fn http(call: &'static str) -> impl Fn(HttpError) -> Self {
        move |source| Self::Http { call, source }
    }
}
