//! Logs once that a channel is unavailable, and once that it has recovered.
//!
//! A deferred notification counts no attempt, waits for up to a day and is logged nowhere else. From dead letters alone, an
//! operator would learn of a wrong password a day late.

use std::mem::{Discriminant, discriminant};

use bus::{Retry, Retryable};
use runtime::FailureLog;
use tracing::{error, info, warn};

use crate::ChannelError;

/// The kinds of error for which notifications of a channel were deferred.
#[derive(Debug, Default)]
pub(crate) struct ChannelHealth(FailureLog<Discriminant<ChannelError>>);

impl ChannelHealth {
    /// Logs the outcome of a sending where it begins an outage, is a new kind of error within one, or ends it.
    pub(crate) fn log_change(&self, channel: &'static str, sent: &Result<(), ChannelError>) {
        match sent {
            Ok(()) if self.0.recovered() => info!(channel, "channel recovered"),
            // A peer that refuses one notification may accept the next.
            Err(problem)
                if matches!(problem.retry(), Retry::Defer(_))
                    && self.0.should_log(discriminant(problem)) =>
            {
                match problem {
                    ChannelError::Credentials { .. } => {
                        error!(channel, %problem, "channel is blocked until an operator intervenes; notifications are kept for 24 h");
                    }
                    _ => {
                        warn!(channel, %problem, "channel is unavailable; notifications are deferred for up to 24 h")
                    }
                }
            }
            _ => {}
        }
    }
}
