//! Why a call gave no result.

use std::time::Duration;

use bus::{Retry, Retryable};
use thiserror::Error;

/// How long what needs a call is deferred while the credentials do not do for it. Only an operator can help.
const CREDENTIALS_PAUSE: Duration = Duration::from_secs(60);
/// How long what needs a call is deferred while Taskcluster does not answer.
const OUTAGE_PAUSE: Duration = Duration::from_secs(30);
/// The bounds of the pause that Taskcluster asks for.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// See [`SHORTEST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Why a call gave no result. None of these holds a credential, a secret, or the signed part of an address.
#[derive(Debug, Error)]
pub enum TaskclusterError {
    /// What was asked is wrong (400).
    #[error("taskcluster refused {call} as wrong: {code}: {message}")]
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
    #[error("taskcluster knows nothing of what {call} asks for: {message}")]
    NotFound {
        /// Service and method.
        call: &'static str,
        /// Taskcluster's words.
        message: String,
    },
    /// The id is taken by something else (409). An identical repeat is no conflict.
    #[error("taskcluster refused {call}, the id is taken by something else: {message}")]
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
    #[error("the artifact stands for an error of its task: {reason}: {message}")]
    ErrorArtifact {
        /// Why there is no content, such as `file-missing-on-worker`.
        reason: String,
        /// The worker's words.
        message: String,
    },
    /// There was an answer with a status that means nothing here, or without Taskcluster's words.
    #[error("{call} was answered with http status {status}, and not in the words of taskcluster")]
    Status {
        /// Service and method.
        call: &'static str,
        /// The status.
        status: u16,
    },
    /// It failed (5xx), several times.
    #[error("taskcluster failed at {call} with http status {status}")]
    Server {
        /// Service and method.
        call: &'static str,
        /// The last status.
        status: u16,
    },
    /// It has too much to do (429), and said so several times, or wants a longer wait than a call may last.
    #[error("taskcluster has too much to do for {call}")]
    Busy {
        /// Service and method.
        call: &'static str,
        /// How long it wants to be left alone, where it says so.
        retry_after: Option<Duration>,
    },
    /// There was no whole answer, several times.
    #[error("taskcluster cannot be reached for {call}")]
    Unreachable {
        /// Service and method.
        call: &'static str,
        /// The last failure, without its address.
        #[source]
        source: reqwest::Error,
    },
    /// The answer does not come, or does not go on.
    #[error("nothing came of {call} for a minute")]
    Stalled {
        /// Service and method.
        call: &'static str,
    },
    /// A stream is so slow that it would hold its place without end.
    #[error("{call} comes slower than {rate} bytes a second")]
    Slow {
        /// Service and method.
        call: &'static str,
        /// The lowest rate, in bytes a second.
        rate: u64,
    },
    /// The answer is longer than anything that could be used.
    #[error("the answer to {call} is longer than {limit} bytes")]
    TooLarge {
        /// Service and method.
        call: &'static str,
        /// The longest that is read, in bytes.
        limit: usize,
    },
    /// The answer is not what the method is known to give.
    #[error("taskcluster's answer to {call} cannot be read: {problem}")]
    Undecodable {
        /// Service and method.
        call: &'static str,
        /// What is wrong and where, without a quote.
        problem: String,
    },
    /// An artifact is at an address that is not fetched from: neither the deployment's own, nor `https` at a public
    /// address.
    #[error(
        "{call} leads to {address}, which is not fetched from: only the deployment itself is, and https at public addresses"
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
            | Self::TooLarge { .. }
            | Self::Elsewhere { .. }
            | Self::Unsendable { .. } => Retry::Never,
            // No message is to blame for the credentials, however long it takes an operator to mend them.
            Self::Credentials { .. } | Self::Scopes { .. } | Self::Unsigned { .. } => {
                Retry::Defer(CREDENTIALS_PAUSE)
            }
            Self::Server { .. } | Self::Unreachable { .. } | Self::Stalled { .. } => {
                Retry::Defer(OUTAGE_PAUSE)
            }
            Self::Busy { retry_after, .. } => Retry::Defer(
                retry_after
                    .unwrap_or(OUTAGE_PAUSE)
                    .clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            ),
            // Whatever stands between here and Taskcluster may say such things for a while.
            Self::Status { .. } | Self::Undecodable { .. } | Self::Slow { .. } => Retry::Backoff,
        }
    }
}

impl TaskclusterError {
    /// Whether the same call may succeed a second later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_builder(),
            Self::Server { .. }
            | Self::Busy {
                retry_after: None, ..
            } => true,
            _ => false,
        }
    }

    /// An address may hold a signature, so it is left out.
    pub(super) fn unreachable(call: &'static str, source: reqwest::Error) -> Self {
        Self::Unreachable {
            call,
            source: source.without_url(),
        }
    }

    /// What the decoder quotes could be a secret, so only the place is kept.
    pub(super) fn undecodable(call: &'static str, error: &serde_json::Error) -> Self {
        let kind = match error.classify() {
            serde_json::error::Category::Io => "input",
            serde_json::error::Category::Syntax => "syntax",
            serde_json::error::Category::Data => "type",
            serde_json::error::Category::Eof => "end of input",
        };
        let problem = format!(
            "{kind} error at line {}, column {}",
            error.line(),
            error.column()
        );
        Self::Undecodable { call, problem }
    }
}
