//! The shutdown of a process, in two stages.

use tokio_util::sync::CancellationToken;

/// The signal to shut down. Clones share it.
///
/// 1. *stopping*: take no new work, finish the work in flight;
/// 2. *cancelled*: the grace period is over; release the work in flight, kill and reap child processes.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    cancelled: CancellationToken,
}

impl Shutdown {
    /// A signal that is not given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the first stage.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// Begins the second stage, which implies the first.
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
