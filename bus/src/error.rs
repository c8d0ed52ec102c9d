//! What can go wrong on the bus, and whether trying again helps.

use std::time::Duration;

use thiserror::Error;

use crate::{Bound, DecodeError, Retry, Retryable};

/// How long a step is deferred when the backend did not answer.
const AWAY: Duration = Duration::from_secs(2);

/// A failure of the bus.
#[derive(Debug, Error)]
pub enum BusError {
    /// The message has gone to another worker; nothing was written.
    #[error("lease lost: another worker has taken the message of queue {queue}")]
    LeaseLost {
        /// The message's queue.
        queue: &'static str,
    },
    /// The queue is at its bound.
    #[error("queue {queue} is full: {bound} wait, try again when some are done")]
    Full {
        /// The queue.
        queue: &'static str,
        /// Its bound.
        bound: Bound,
    },
    /// The message cannot be encoded: a fault of the program.
    #[error("cannot encode a message for queue {queue}")]
    Encode {
        /// The queue.
        queue: &'static str,
        /// What the encoder says.
        #[source]
        source: rmp_serde::encode::Error,
    },
    /// Redis did not do what was asked.
    #[error("redis failed while {doing}")]
    Redis {
        /// What was tried.
        doing: &'static str,
        /// What the client says.
        #[source]
        source: Box<redis::RedisError>,
    },
    /// Redis has no memory left. Nothing was written.
    #[error(
        "redis has reached its maxmemory while {doing}: give it more, or have workers take what waits"
    )]
    Memory {
        /// What was tried.
        doing: &'static str,
        /// What the client says.
        #[source]
        source: Box<redis::RedisError>,
    },
    /// No connection to Redis was to be had in time.
    #[error("no redis connection for {doing}")]
    Connection {
        /// What was tried.
        doing: &'static str,
        /// What the pool says.
        #[source]
        source: Box<deadpool::managed::PoolError<redis::RedisError>>,
    },
    /// A record is not as this release writes it.
    #[error("cannot read the record {record}: was it written by another release?")]
    Record {
        /// The record.
        record: String,
        /// What does not fit.
        #[source]
        source: DecodeError,
    },
    /// Redis refused one change, most likely since a key holds something that is not the bus's. Nothing of it was written.
    #[error("redis refused {doing}: {reason}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// The key, and what to do about it.
        reason: String,
    },
    /// The Redis server or its settings do not do for a bus.
    #[error("this redis cannot carry the bus: {reason}")]
    Unfit {
        /// What is wrong and what to do.
        reason: String,
    },
}

impl Retryable for BusError {
    fn retry(&self) -> Retry {
        match self {
            Self::Encode { .. } | Self::Unfit { .. } => Retry::Never,
            Self::LeaseLost { .. }
            | Self::Full { .. }
            | Self::Record { .. }
            | Self::Refused { .. } => Retry::Backoff,
            // A handler that met it failed through no fault of its message's: that costs no attempt.
            Self::Redis { .. } | Self::Memory { .. } | Self::Connection { .. } => {
                Retry::Defer(AWAY)
            }
        }
    }
}
