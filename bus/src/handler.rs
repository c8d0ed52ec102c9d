//! One step of the work.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use async_trait::async_trait;
use runtime::error_chain;

use crate::{Context, Message, Retryable};

/// Handles the messages of a queue; sends others through the context.
///
/// A crash repeats a message, so effects outside the bus must be idempotent by key, or claimed before. A panic is caught
/// and counts as a failed attempt.
#[async_trait]
pub trait Handler<M: Message>: Send + Sync + 'static {
    /// Its failures; their type decides whether the message is retried.
    type Error: Retryable;

    /// Handles one message. What it sends through `cx` is stored together with the acknowledgement, or not at all.
    ///
    /// A message whose time has not come is deferred ([`Outcome::Defer`]); that is no error. After
    /// [`Context::cancelled`] the handler has about two seconds to end its child processes and return.
    async fn handle(&self, message: M, cx: &Context) -> Result<Outcome, Self::Error>;

    /// Called when the message is about to become a dead letter, whether this process failed it or others died of it.
    /// What it sends and records is stored in the same step as the dead letter.
    ///
    /// When it fails, it is called again with a later delivery, at most as often again as the policy has attempts.
    async fn on_dead_letter(
        &self,
        _message: M,
        _cause: Cause<'_, Self::Error>,
        _cx: &Context,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called when the message is about to be retried or deferred. What it records is stored in the same step. A failure
    /// here is logged and changes nothing.
    async fn on_requeue(
        &self,
        _message: M,
        _requeue: Requeue<'_, Self::Error>,
        _cx: &Context,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called once when the consumer has settled its last message: end what outlives a message, such as child
    /// processes.
    async fn close(&self) {}
}

/// How a handler ended without an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a deferral that is dropped acknowledges the message"]
pub enum Outcome {
    /// The message is handled and gone; what was sent is stored with that.
    Done,
    /// The message's time has not come. It is delivered again after a while, and no attempt is counted. What was sent is
    /// dropped; what was recorded is stored.
    Defer {
        /// How long it is held back.
        after: Duration,
        /// What it waits for.
        reason: Cow<'static, str>,
    },
    /// The time of its whole partition has not come. The message stays the first of its partition, and this process
    /// takes nothing of that partition for a while; what waits there is not touched. No attempt is counted. Otherwise
    /// as [`Outcome::Defer`], which it is in a queue without partitions.
    Hold {
        /// How long the partition is held.
        after: Duration,
        /// What it waits for.
        reason: Cow<'static, str>,
    },
}

impl Outcome {
    /// Holds the partition of the message.
    pub fn hold(after: Duration, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Hold {
            after,
            reason: reason.into(),
        }
    }

    /// Defers the message.
    pub fn defer(after: Duration, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Defer {
            after,
            reason: reason.into(),
        }
    }
}

/// Why a message becomes a dead letter. As text it is the dead letter's reason.
#[derive(Debug)]
pub enum Cause<'a, E> {
    /// The handler failed with an error that another attempt cannot mend.
    Failed(&'a E),
    /// All attempts failed.
    AttemptsExhausted {
        /// How many the policy allows.
        attempts: u32,
        /// The error of the last one. `None` when it is not known any more: the last delivery was never settled, or an
        /// earlier delivery failed in [`Handler::on_dead_letter`].
        last: Option<&'a E>,
    },
    /// The message was delivered so many times in a row and never settled: its worker died, or lost its lease.
    WorkerDied {
        /// How many times.
        times: u32,
    },
    /// The last attempt panicked with this text.
    Panicked(&'a str),
}

impl<'a, E> Cause<'a, E> {
    /// The error of the last attempt, where it is known.
    pub fn error(&self) -> Option<&'a E> {
        match *self {
            Self::Failed(error) => Some(error),
            Self::AttemptsExhausted { last, .. } => last,
            Self::WorkerDied { .. } | Self::Panicked(_) => None,
        }
    }

    pub(crate) fn map<F>(self, typed: impl FnOnce(&'a E) -> Option<&'a F>) -> Cause<'a, F> {
        match self {
            // A handler gets its own errors only, so there is always one.
            Self::Failed(error) => typed(error).map_or(
                Cause::AttemptsExhausted {
                    attempts: 1,
                    last: None,
                },
                Cause::Failed,
            ),
            Self::AttemptsExhausted { attempts, last } => Cause::AttemptsExhausted {
                attempts,
                last: last.and_then(typed),
            },
            Self::WorkerDied { times } => Cause::WorkerDied { times },
            Self::Panicked(text) => Cause::Panicked(text),
        }
    }
}

impl<E: Error> fmt::Display for Cause<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Failed(error)
            | Self::AttemptsExhausted {
                last: Some(error), ..
            } => f.write_str(&error_chain(error)),
            Self::AttemptsExhausted {
                attempts,
                last: None,
            } => write!(
                f,
                "all {attempts} attempts failed, and so did the dead-letter handler"
            ),
            Self::WorkerDied { times: 1 } => f.write_str(
                "the last attempt was never settled: its worker died, or lost its lease",
            ),
            Self::WorkerDied { times } => write!(
                f,
                "delivered {times} times in a row and never settled: its worker died, or lost its lease"
            ),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
        }
    }
}

/// Why and until when a message comes back.
#[derive(Debug)]
pub struct Requeue<'a, E> {
    /// Why it comes back, and whether that counts as an attempt.
    pub why: RequeueReason<'a, E>,
    /// How long it is held back.
    pub after: Duration,
}

/// Why a message comes back. As text it has the chain of causes.
#[derive(Debug)]
pub enum RequeueReason<'a, E> {
    /// An attempt failed.
    Failed(&'a E),
    /// An attempt panicked with this text.
    Panicked(&'a str),
    /// A peer is away ([`crate::Retry::Defer`], [`crate::Retry::Hold`]): no attempt is counted.
    Outage(&'a E),
    /// Its time has not come ([`Outcome::Defer`], [`Outcome::Hold`]): no attempt is counted.
    Deferred(&'a str),
}

impl<'a, E> RequeueReason<'a, E> {
    /// Whether it counts as a failed attempt.
    pub fn is_attempt(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_))
    }

    /// The error, where there is one.
    pub fn error(&self) -> Option<&'a E> {
        match *self {
            Self::Failed(error) | Self::Outage(error) => Some(error),
            Self::Panicked(_) | Self::Deferred(_) => None,
        }
    }
}

impl<'a, E> Requeue<'a, E> {
    pub(crate) fn map<F>(
        self,
        typed: impl FnOnce(&'a E) -> Option<&'a F>,
    ) -> Option<Requeue<'a, F>> {
        let why = match self.why {
            RequeueReason::Failed(error) => RequeueReason::Failed(typed(error)?),
            RequeueReason::Outage(error) => RequeueReason::Outage(typed(error)?),
            RequeueReason::Panicked(text) => RequeueReason::Panicked(text),
            RequeueReason::Deferred(reason) => RequeueReason::Deferred(reason),
        };
        let after = self.after;
        Some(Requeue { why, after })
    }
}

impl<E: Error> fmt::Display for RequeueReason<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Failed(error) | Self::Outage(error) => f.write_str(&error_chain(error)),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Deferred(reason) => f.write_str(reason),
        }
    }
}
