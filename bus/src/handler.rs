//! Handlers: what one does with a message, and how that ends.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use async_trait::async_trait;
use runtime::error_chain;

use crate::{Context, Message, Retryable};

/// Handles the messages of a queue, and sends others through the context.
///
/// A crash repeats a message, so effects outside the bus must be idempotent by key, or claimed before. A panic is caught
/// and counts as a failed attempt.
#[async_trait]
pub trait Handler<M: Message>: Send + Sync + 'static {
    /// The failures of the handler; their type decides whether the message is retried.
    type Error: Retryable;

    /// Handles one message. The bus stores the messages that it sends through `cx` in the step that settles the delivery,
    /// or not at all.
    ///
    /// A message whose time has not come is deferred ([`Outcome::Defer`]); that is not an error. After
    /// [`Context::cancelled`] the handler has about two seconds to end its child processes and return.
    async fn handle(&self, message: M, cx: &Context) -> Result<Outcome, Self::Error>;

    /// Called before the message becomes a dead letter, whether its handler failed or its workers died. The bus stores
    /// the messages and records of this call in the same step as the dead letter.
    ///
    /// After a failure, a later delivery calls it again, at most as often as the policy has attempts.
    async fn on_dead_letter(
        &self,
        _message: M,
        _cause: Cause<'_, Self::Error>,
        _cx: &Context,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called before the message is retried or deferred. The bus writes the records of this call in the same step. A
    /// failure is logged and changes nothing.
    async fn on_requeue(
        &self,
        _message: M,
        _requeue: Requeue<'_, Self::Error>,
        _cx: &Context,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called once after the consumer has settled its last message: ends whatever outlives a message, such as child
    /// processes.
    async fn close(&self) {}
}

/// The outcome of a handler that returned no error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a deferral that is dropped acknowledges the message"]
pub enum Outcome {
    /// The message is handled. The bus removes it, and stores the messages that the handler sent.
    Done,
    /// The message waits for something. It is delivered again later, and no attempt is counted. Sent messages are
    /// dropped, records are written.
    Defer {
        /// The time until the next delivery.
        after: Duration,
        /// The thing that the message waits for.
        reason: Cow<'static, str>,
    },
    /// The whole partition of the message waits for something. The message stays the first of its partition, and this
    /// process reserves nothing of it for a while; the messages there are not written again. No attempt is counted. In a
    /// queue without partitions this is [`Outcome::Defer`].
    Hold {
        /// The time for which the partition is held.
        after: Duration,
        /// The thing that the partition waits for.
        reason: Cow<'static, str>,
    },
}

impl Outcome {
    /// [`Outcome::Hold`] with a reason.
    pub fn hold(after: Duration, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Hold {
            after,
            reason: reason.into(),
        }
    }

    /// [`Outcome::Defer`] with a reason.
    pub fn defer(after: Duration, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Defer {
            after,
            reason: reason.into(),
        }
    }
}

/// The cause of a dead letter. As text it is the dead letter's reason.
#[derive(Debug)]
pub enum Cause<'a, E> {
    /// The handler failed with an error for which no attempt helps ([`crate::Retry::Never`]).
    Failed(&'a E),
    /// All attempts failed.
    AttemptsExhausted {
        /// The number that the policy allows.
        attempts: u32,
        /// The error of the last attempt. `None` when it is no longer known: the last delivery was never settled, or
        /// [`Handler::on_dead_letter`] failed in an earlier delivery.
        last: Option<&'a E>,
    },
    /// Several deliveries in a row were never settled: their workers died, or lost their leases.
    WorkerDied {
        /// The number of these deliveries.
        times: u32,
    },
    /// The last attempt panicked, with this message.
    Panicked(&'a str),
}

impl<'a, E> Cause<'a, E> {
    /// The error of the last attempt, if it is known.
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

/// The reason and the time of another delivery.
#[derive(Debug)]
pub struct Requeue<'a, E> {
    /// The reason, which decides whether an attempt is counted.
    pub why: RequeueReason<'a, E>,
    /// The time until the next delivery.
    pub after: Duration,
}

/// The reason for another delivery. As text it has the chain of causes.
#[derive(Debug)]
pub enum RequeueReason<'a, E> {
    /// An attempt failed.
    Failed(&'a E),
    /// An attempt panicked, with this message.
    Panicked(&'a str),
    /// A peer is down ([`crate::Retry::Defer`], [`crate::Retry::Hold`]); no attempt is counted.
    Outage(&'a E),
    /// The message waits for something ([`Outcome::Defer`], [`Outcome::Hold`]); no attempt is counted.
    Deferred(&'a str),
}

impl<'a, E> RequeueReason<'a, E> {
    /// Whether an attempt is counted.
    pub fn is_attempt(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Panicked(_))
    }

    /// The error of the handler, if there is one.
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
