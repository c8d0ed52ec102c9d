//! Why there is no ping, or why it was not sent.

use std::{sync::Arc, time::Duration};

use bus::{BusError, Retry, Retryable};
use thiserror::Error;

use crate::{DiffFault, Node};

/// How long a push is deferred while a service does not answer.
const OUTAGE_PAUSE: Duration = Duration::from_secs(30);
/// The bounds of the pause that a service asks for.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// See [`SHORTEST_PAUSE`].
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Why there is no ping, or why it was not sent.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The repository has no changeset of this name (404).
    #[error("no such changeset: {revision} is not in {repository}")]
    NoSuchChangeset {
        /// What was asked for.
        revision: String,
        /// The address of the repository.
        repository: String,
    },
    /// There was no whole answer, several times.
    #[error("cannot reach the server for {call}")]
    Unreachable {
        /// The request and its server.
        call: String,
        /// The last failure.
        #[source]
        source: reqwest::Error,
    },
    /// There was no sign of life for too long while an answer was awaited, several times.
    #[error("the server was silent for {} s at {call}", after.as_secs())]
    Silent {
        /// The request and its server.
        call: String,
        /// For how long.
        after: Duration,
    },
    /// The server failed (5xx) or has too much to do (429), several times.
    #[error("the server failed with http status {status} at {call}")]
    Server {
        /// The request and its server.
        call: String,
        /// The last status.
        status: u16,
        /// How long it wants to be left alone, where it says so.
        retry_after: Option<Duration>,
    },
    /// The answer has a status that means nothing here.
    #[error(
        "{call} was answered with http status {status}: is that the address of the right server?"
    )]
    Status {
        /// The request and its server.
        call: String,
        /// The status.
        status: u16,
    },
    /// The answer is longer than anything that could be used.
    #[error("the answer to {call} is longer than {limit} bytes")]
    TooLarge {
        /// The request and its server.
        call: String,
        /// The longest that is read, in bytes.
        limit: u64,
    },
    /// The answer is not what is known to be given.
    #[error("the answer to {call} cannot be read: {problem}")]
    Undecodable {
        /// The request and its server.
        call: String,
        /// The field, and what is wrong with it.
        problem: String,
    },
    /// A diff that cannot be counted.
    #[error("the diff of changeset {node} cannot be counted")]
    Diff {
        /// The changeset.
        node: Node,
        /// What is wrong with it.
        #[source]
        source: DiffFault,
    },
    /// An address that is not asked.
    #[error("{url} is not asked: it is not below {below}")]
    Elsewhere {
        /// The address.
        url: String,
        /// What it would have to be below.
        below: String,
    },
    /// Bugzilla could not be asked, by somebody who asked the same at the same time perhaps.
    #[error(transparent)]
    Bugzilla(Arc<TelemetryError>),
    /// The ping is not what the ingestion takes: it would be dropped there, and nobody told.
    #[error("the ping of changeset {node} does not fit the schema {schema}, at {place}: {problem}")]
    Unfit {
        /// The changeset.
        node: String,
        /// The schema.
        schema: &'static str,
        /// Where in the ping, as a JSON pointer.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The ingestion does not take the ping, and never will.
    #[error(
        "the telemetry edge does not take the ping of changeset {node} (http status {status}): {advice}"
    )]
    Refused {
        /// The changeset.
        node: String,
        /// The status.
        status: u16,
        /// What to do.
        advice: &'static str,
    },
    /// A message of Pulse is not what those of its exchange are.
    #[error("the message of {exchange} with routing key {key} is no use: {problem}")]
    Useless {
        /// Its exchange.
        exchange: String,
        /// Its routing key.
        key: String,
        /// The field, and what is wrong with it.
        problem: String,
    },
    /// A push is not through.
    #[error(
        "{failed} of {changesets} changesets of push {push} to {repository} are without a ping, changeset {node} first"
    )]
    Push {
        /// The number of the push.
        push: u64,
        /// The repository.
        repository: String,
        /// How many changesets it has.
        changesets: usize,
        /// How many of them failed so far.
        failed: usize,
        /// Whether its servers answered for other changesets meanwhile.
        others_are_well: bool,
        /// The changeset whose failure this is.
        node: Node,
        /// Its failure.
        #[source]
        source: Box<TelemetryError>,
    },
    /// A ping that was only to be shown.
    #[error("cannot show the ping of changeset {node}")]
    Unshown {
        /// The changeset.
        node: Node,
        /// What the output says.
        #[source]
        source: std::io::Error,
    },
    /// The program cannot be set up.
    #[error("{problem}")]
    Setup {
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Something cannot be sent or recorded.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for TelemetryError {
    fn retry(&self) -> Retry {
        match self {
            // No push is to blame for an outage.
            Self::Unreachable { source, .. } if source.is_builder() => Retry::Never,
            Self::Unreachable { .. } | Self::Silent { .. } => Retry::Defer(OUTAGE_PAUSE),
            Self::Server { retry_after, .. } => Retry::Defer(
                retry_after
                    .unwrap_or(OUTAGE_PAUSE)
                    .clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            ),
            // Whatever stands between here and the server may say such things for a while, and a mirror of a repository may
            // be told of a push a moment before it has it.
            Self::Status { .. }
            | Self::Undecodable { .. }
            | Self::Diff { .. }
            | Self::NoSuchChangeset { .. } => Retry::Backoff,
            Self::TooLarge { .. }
            | Self::Elsewhere { .. }
            | Self::Unfit { .. }
            | Self::Refused { .. }
            | Self::Useless { .. }
            | Self::Unshown { .. }
            | Self::Setup { .. } => Retry::Never,
            Self::Bugzilla(error) => error.retry(),
            // A changeset at which its server fails each time must not hold its push without end.
            Self::Push {
                source,
                others_are_well,
                ..
            } => match source.retry() {
                Retry::Defer(_) if *others_are_well => Retry::Backoff,
                disposition => disposition,
            },
            Self::Bus(error) => error.retry(),
        }
    }
}

/// The ping is larger than the ingestion takes.
const TOO_LARGE: u16 = 413;

impl TelemetryError {
    /// Whether it is about the message, the changeset or the ping alone, so that neither time nor another setting helps.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Useless { .. } | Self::Unfit { .. } | Self::TooLarge { .. } => true,
            Self::Refused { status, .. } => *status == TOO_LARGE,
            Self::Bugzilla(error) => error.is_final(),
            Self::Push { source, .. } => source.is_final(),
            _ => false,
        }
    }

    /// Whether the repository does not have the changeset: not yet, or not any more.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::NoSuchChangeset { .. } => true,
            Self::Push { source, .. } => source.is_missing(),
            _ => false,
        }
    }

    /// How long a server wants to be left alone, if it said so.
    pub(crate) fn asked_pause(&self) -> Option<Duration> {
        match self {
            Self::Server { retry_after, .. } => *retry_after,
            Self::Bugzilla(error) => error.asked_pause(),
            Self::Push { source, .. } => source.asked_pause(),
            _ => None,
        }
    }

    /// Whether the same call may succeed a second later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => !source.is_builder(),
            Self::Silent { .. }
            | Self::Server {
                retry_after: None, ..
            } => true,
            _ => false,
        }
    }
}
