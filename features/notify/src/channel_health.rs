//! Logs once that a channel is unavailable, and once that it has recovered.
//!
//! A deferred notification counts no attempt, waits for up to a day and is logged nowhere else. From dead letters alone, an
//! operator would learn of a wrong password a day late.

use std::{
    collections::BTreeMap,
    mem::{Discriminant, discriminant},
    sync::Arc,
};

use parking_lot::Mutex;

use bus::{Retry, Retryable};
use tracing::{error, info, warn};

use crate::ChannelError;

/// The channels whose last notification was deferred, with the kind of error. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChannelHealth(Arc<Mutex<BTreeMap<&'static str, Discriminant<ChannelError>>>>);

impl ChannelHealth {
    /// Logs the outcome of a sending where it begins an outage, changes its kind, or ends it.
    pub(crate) fn log_change(&self, channel: &'static str, sent: &Result<(), ChannelError>) {
        let mut outages = self.0.lock();
        match sent {
            Ok(()) if outages.remove(channel).is_some() => {
                info!(channel, "channel recovered")
            }
            Err(problem) if matches!(problem.retry(), Retry::Defer(_)) => {
                let kind = discriminant(problem);
                if outages.insert(channel, kind) == Some(kind) {
                    return;
                }
                match problem {
                    ChannelError::Credentials { .. } => {
                        error!(channel, %problem, "channel is blocked until an operator intervenes; notifications are kept for 24 h");
                    }
                    _ => {
                        warn!(channel, %problem, "channel is unavailable; notifications are deferred for up to 24 h")
                    }
                }
            }
            // A peer that refuses one notification may accept the next.
            _ => {}
        }
    }
}
