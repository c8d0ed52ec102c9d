//! One step of the work.

use std::time::Duration;

use async_trait::async_trait;

use crate::{Context, Message};

/// Does one step: takes a message, sends others through the context.
///
/// It may run more than once for the same message (a crash repeats it), so what it does outside the bus must be
/// idempotent by key.
#[async_trait]
pub trait Handler<M: Message>: Send + Sync + 'static {
    /// Its failures; their type decides whether the step is tried again.
    type Error: Classify;

    /// Handles one message. What it sends through `cx` is stored together with the acknowledgement, or not at all.
    ///
    /// After [`Context::cancelled`] it has about two seconds to end its child processes and return.
    async fn handle(&self, message: M, cx: &Context) -> Result<(), Self::Error>;

    /// Called when the message is about to become a dead letter, whether this process failed it or others died of
    /// it: the chance to send a last word, which is stored in the same step as the dead letter.
    async fn exhausted(
        &self,
        _message: M,
        _reason: &str,
        _cx: &Context,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called when the message is about to come back: the chance to record that, in the same step.
    async fn postponed(
        &self,
        _message: M,
        _postponed: &Postponed<'_>,
        _cx: &Context,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Called once when the consumer has settled its last message: end what outlives a message, such as child
    /// processes.
    async fn close(&self) {}
}

/// Why and until when a message comes back.
#[derive(Debug, Clone, Copy)]
pub struct Postponed<'a> {
    /// Why, with the chain of causes.
    pub reason: &'a str,
    /// How long it is held back.
    pub after: Duration,
    /// Whether that counts as a failed attempt; else its time had not come.
    pub counted: bool,
}

/// An error that knows whether trying again helps.
pub trait Classify: std::error::Error + Send + Sync + 'static {
    /// How the message is settled.
    fn disposition(&self) -> Disposition;
}

/// How a message is settled whose handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Try again after the queue's backoff, until the attempts are used up.
    Retry,
    /// Try again after this time, until the attempts are used up.
    RetryAfter(Duration),
    /// Its time has not come: look again after this time, without counting an attempt.
    Defer(Duration),
    /// Trying again cannot help.
    Dead,
}
