//! Errors on the way from a push to its pings, and the time of the next try.

use std::{sync::Arc, time::Duration};

use http_client::HttpError;
use runtime::{Retry, Retryable};
use thiserror::Error;

use crate::{DiffFault, Node};

/// The reason why a ping was not made or not sent. `call` names a request and its server.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The repository does not have the changeset (404).
    #[error("no such changeset: {revision} is not in {repository}")]
    NoSuchChangeset {
        /// The requested revision.
        revision: String,
        /// The address of the repository.
        repository: String,
    },
    /// A call failed, several times if its failure is transient.
    #[error("the request for {call} failed")]
    Http {
        /// The request.
        call: String,
        /// The last failure.
        #[source]
        source: HttpError,
    },
    /// The request is not known to have such a status.
    #[error("unexpected http status {status} for {call}: is that the address of the right server?")]
    UnexpectedStatus {
        /// The request.
        call: String,
        /// The status.
        status: u16,
    },
    /// The answer does not have the expected form.
    #[error("cannot decode the answer to {call}: {problem}")]
    Undecodable {
        /// The request.
        call: String,
        /// The field and its problem.
        problem: String,
    },
    /// The diff of a changeset does not have the expected form.
    #[error("cannot count the diff of changeset {node}")]
    Diff {
        /// The changeset.
        node: Node,
        /// The problem.
        #[source]
        source: DiffFault,
    },
    /// A message names an address outside the allowed server or repository.
    #[error("{url} is not requested: it is not below {allowed}")]
    ForeignUrl {
        /// The address.
        url: String,
        /// The address that it has to be below.
        allowed: String,
    },
    /// A request to Bugzilla failed. Concurrent lookups of a bug share the request and its failure.
    #[error(transparent)]
    Bugzilla(Arc<TelemetryError>),
    /// The ping violates the schema. The ingestion would accept it and drop it silently.
    #[error("the ping of changeset {node} does not fit the schema {schema}, at {place}: {problem}")]
    SchemaViolation {
        /// The changeset.
        node: String,
        /// The name of the schema.
        schema: &'static str,
        /// The field of the ping, as a JSON pointer.
        place: String,
        /// The problem.
        problem: String,
    },
    /// The ingestion rejects the ping, and would do so each time.
    #[error(
        "the telemetry edge rejected the ping of changeset {node} (http status {status}): {advice}"
    )]
    Rejected {
        /// The changeset.
        node: String,
        /// The status.
        status: u16,
        /// The remedy.
        advice: &'static str,
    },
    /// A message of Pulse does not have the form of its exchange.
    #[error("cannot decode the message of {exchange} with routing key {key}: {problem}")]
    MalformedMessage {
        /// The exchange.
        exchange: String,
        /// The routing key.
        key: String,
        /// The field and its problem.
        problem: String,
    },
    /// Some changesets of a push have no ping.
    #[error(
        "{failed} of {changesets} changesets of push {push} to {repository} are without a ping, changeset {node} first"
    )]
    IncompletePush {
        /// The number of the push.
        push: u64,
        /// The repository.
        repository: String,
        /// The number of its changesets.
        changesets: usize,
        /// The number of changesets that failed so far.
        failed: usize,
        /// Whether the servers answered for other changesets of the push.
        others_succeed: bool,
        /// The changeset that decides about the next try.
        node: Node,
        /// Its failure.
        #[source]
        source: Box<TelemetryError>,
    },
    /// The output of a dry run failed.
    #[error("cannot print the ping of changeset {node}")]
    PrintFailed {
        /// The changeset.
        node: Node,
        /// The failure of the output.
        #[source]
        source: std::io::Error,
    },
    /// The settings of the edge cannot be used.
    #[error("{problem}")]
    InvalidSettings {
        /// The problem and its remedy.
        problem: String,
    },
}

impl Retryable for TelemetryError {
    fn retry(&self) -> Retry {
        match self {
            // An outage counts as no attempt of the push.
            Self::Http { source, .. } => source.retry(),
            // A proxy may answer like this for a while, and a mirror of a repository may receive a push a moment after its
            // message.
            Self::UnexpectedStatus { .. }
            | Self::Undecodable { .. }
            | Self::Diff { .. }
            | Self::NoSuchChangeset { .. } => Retry::Backoff,
            Self::ForeignUrl { .. }
            | Self::SchemaViolation { .. }
            | Self::Rejected { .. }
            | Self::MalformedMessage { .. }
            | Self::PrintFailed { .. }
            | Self::InvalidSettings { .. } => Retry::Never,
            Self::Bugzilla(error) => error.retry(),
            // A changeset at which its server fails each time must not defer its push without end.
            Self::IncompletePush {
                source,
                others_succeed,
                ..
            } => match source.retry() {
                Retry::Defer(_) if *others_succeed => Retry::Backoff,
                retry => retry,
            },
        }
    }
}

/// The status for a ping that is larger than the ingestion accepts.
const PAYLOAD_TOO_LARGE: u16 = 413;

impl TelemetryError {
    /// Whether the message, the changeset or the ping itself is the cause, so that neither time nor other settings help.
    pub fn is_final(&self) -> bool {
        match self {
            Self::MalformedMessage { .. } | Self::SchemaViolation { .. } => true,
            Self::Http { source, .. } => matches!(source, HttpError::TooLarge { .. }),
            Self::Rejected { status, .. } => *status == PAYLOAD_TOO_LARGE,
            Self::Bugzilla(error) => error.is_final(),
            Self::IncompletePush { source, .. } => source.is_final(),
            _ => false,
        }
    }

    /// Whether the repository lacks the changeset: it has not arrived yet, or was stripped.
    pub fn is_missing_changeset(&self) -> bool {
        match self {
            Self::NoSuchChangeset { .. } => true,
            Self::IncompletePush { source, .. } => source.is_missing_changeset(),
            _ => false,
        }
    }

    /// The pause that a server requests.
    pub(crate) fn requested_pause(&self) -> Option<Duration> {
        match self {
            Self::Http {
                source: HttpError::Busy { retry_after, .. },
                ..
            } => *retry_after,
            Self::Bugzilla(error) => error.requested_pause(),
            Self::IncompletePush { source, .. } => source.requested_pause(),
            _ => None,
        }
    }

    /// The shortest wait before another attempt within a call. `None` if another one does not help, or the server requests a
    /// pause.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Http { source, .. } => source.pause(Duration::ZERO),
            _ => None,
        }
    }
}
