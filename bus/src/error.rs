//! Failures of the bus, and whether a retry helps.

use std::time::Duration;

use thiserror::Error;

use crate::{Bound, DecodeError, Retry, Retryable};

/// The deferral of a message whose handler met a backend that did not answer.
const AWAY: Duration = Duration::from_secs(2);

/// A failure of the bus.
#[derive(Debug, Error)]
pub enum BusError {
    /// Another delivery of the message has begun; nothing was written.
    #[error("lease lost: a message of queue {queue} was delivered again")]
    LeaseLost {
        /// The name of the message's queue.
        queue: &'static str,
    },
    /// The queue is at its bound; nothing of the push was stored.
    #[error("queue {queue} is full: {bound} wait; retry when some are done")]
    Full {
        /// The name of the queue.
        queue: &'static str,
        /// The bound that the push would exceed.
        bound: Bound,
    },
    /// A message or a value of a record cannot be encoded: a fault of the program.
    #[error("cannot encode a value for {queue}")]
    Encode {
        /// The name of the queue or the record store.
        queue: &'static str,
        /// The encoder's error.
        #[source]
        source: rmp_serde::encode::Error,
    },
    /// Redis did not answer, or answered with an error.
    #[error("redis failed while {doing}")]
    Redis {
        /// The operation that failed.
        doing: &'static str,
        /// The error of the client.
        #[source]
        source: Box<redis::RedisError>,
    },
    /// Redis has no memory left. Nothing was written.
    #[error(
        "redis has reached its maxmemory while {doing}: raise maxmemory, or let workers handle the messages that wait"
    )]
    Memory {
        /// The operation that failed.
        doing: &'static str,
        /// The error of the client.
        #[source]
        source: Box<redis::RedisError>,
    },
    /// No connection to Redis was free or made in time.
    #[error("cannot get a redis connection for {doing}")]
    Connection {
        /// The operation that failed.
        doing: &'static str,
        /// The error of the pool.
        #[source]
        source: Box<deadpool::managed::PoolError<redis::RedisError>>,
    },
    /// A record does not have the form in which this release writes it.
    #[error("cannot read the record {record}: was it written by another release?")]
    Record {
        /// The id of the record.
        record: String,
        /// The error of the decoder.
        #[source]
        source: DecodeError,
    },
    /// Redis refused one change, most likely since a key has a type that is not the bus's. Nothing of it was written.
    #[error("redis refused {doing}: {reason}")]
    Refused {
        /// The operation that failed.
        doing: &'static str,
        /// The key and the remedy.
        reason: String,
    },
    /// The bus cannot use the Redis server, because of its kind, version or settings.
    #[error("this redis cannot be used: {reason}")]
    Unfit {
        /// The cause and the remedy.
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
            // A handler that fails with one of these failed for no fault of its message: no attempt is counted.
            Self::Redis { .. } | Self::Memory { .. } | Self::Connection { .. } => {
                Retry::Defer(AWAY)
            }
        }
    }
}
