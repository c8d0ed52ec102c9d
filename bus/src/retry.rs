//! The decision of an error whether its message is retried.

use std::{error::Error, time::Duration};

/// An error of a handler that decides whether another attempt helps.
pub trait Retryable: Error + Send + Sync + 'static {
    /// The time of the next delivery, if there is one.
    fn retry(&self) -> Retry;
}

/// The time of the next delivery of a message whose handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// After the queue's backoff, until the attempts are exhausted.
    Backoff,
    /// After this time, until the attempts are exhausted.
    After(Duration),
    /// After this time; no attempt is counted. For the outage of a peer, which is no fault of the message.
    Defer(Duration),
    /// As [`Retry::Defer`], and until then this process reserves nothing of the message's partition: the outage concerns
    /// all of them. Afterwards its other messages go first.
    Hold(Duration),
    /// Never: no attempt helps.
    Never,
}
