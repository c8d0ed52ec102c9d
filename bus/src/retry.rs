//! Whether a step that failed is tried again.

use std::{error::Error, time::Duration};

/// An error that knows whether another attempt helps.
pub trait Retryable: Error + Send + Sync + 'static {
    /// When the message is delivered again, if at all.
    fn retry(&self) -> Retry;
}

/// When a message is delivered again whose handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// After the queue's backoff, until the attempts are exhausted.
    Backoff,
    /// After this time, until the attempts are exhausted.
    After(Duration),
    /// After this time, and no attempt is counted: a peer is away, through no fault of the message.
    Defer(Duration),
    /// As [`Retry::Defer`], and until then this process takes nothing of the message's partition: what is away is away
    /// for all of them. The others go first then.
    Hold(Duration),
    /// Never: another attempt cannot help.
    Never,
}
