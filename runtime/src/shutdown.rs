//! Stopping in two stages.

use tokio_util::sync::CancellationToken;

/// Tells everyone when to stop, first kindly, then not.
///
/// 1. *stopping*: take no new work, finish what is in flight;
/// 2. *cancelled*: the grace period is over; give back what is in flight, kill and reap child processes.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    cancelled: CancellationToken,
}

impl Shutdown {
    /// A switch that nobody has pressed.
    pub fn new() -> Self {
        Self::default()
    }

    /// First stage: no new work.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Second stage: give up what is in flight. Implies the first.
    pub fn cancel(&self) {
        self.stopping.cancel();
        self.cancelled.cancel();
    }

    /// Resolves at the first stage.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Resolves at the second stage.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether the first stage has begun.
    pub fn is_stopping(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// Whether the second stage has begun.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
}
