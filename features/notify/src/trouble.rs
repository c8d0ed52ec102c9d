//! Says once that a channel is in trouble, and once that it is out of it.
//!
//! What is deferred costs no attempt, waits for up to a day and is logged nowhere else: from dead letters alone, an operator
//! would learn of a wrong password a day too late.

use std::{
    collections::BTreeMap,
    mem::{Discriminant, discriminant},
    sync::Arc,
};

use parking_lot::Mutex;

use bus::{Retry, Retryable};
use tracing::{error, info, warn};

use crate::ChannelError;

/// The channels that deferred what they were to send last, and why. Clones know the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<BTreeMap<&'static str, Discriminant<ChannelError>>>>);

impl Troubles {
    /// Logs how a sending ended, where that is another trouble than before, or the end of one.
    pub(crate) fn tell(&self, channel: &'static str, sent: &Result<(), ChannelError>) {
        let mut troubles = self.0.lock();
        match sent {
            Ok(()) if troubles.remove(channel).is_some() => {
                info!(channel, "the channel sends again")
            }
            Err(problem) if matches!(problem.retry(), Retry::Defer(_)) => {
                let kind = discriminant(problem);
                if troubles.insert(channel, kind) == Some(kind) {
                    return;
                }
                match problem {
                    ChannelError::Credentials { .. } => {
                        error!(channel, %problem, "the channel sends nothing until somebody helps, for a day it is kept");
                    }
                    _ => {
                        warn!(channel, %problem, "the channel waits, what it is to send is kept for a day")
                    }
                }
            }
            // A peer that refuses one notification may take the next.
            _ => {}
        }
    }
}
