//! SIGTERM and SIGINT: the first one begins the shutdown, the second one ends its grace period. A process that stops by
//! itself, because a part of it failed, gets the same grace period.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use runtime::{Clock, Shutdown};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tracing::{info, warn};

/// Begins the shutdown on the first signal. Cancels the work in flight `grace` after the shutdown began, or on the second
/// signal.
pub fn watch(shutdown: Shutdown, grace: Duration, clock: Arc<dyn Clock>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    tokio::spawn(async move {
        tokio::select! {
            _ = signals.next() => {
                info!("shutting down: accepting no new work; work in flight has {} s", grace.as_secs());
                shutdown.stop();
            }
            () = shutdown.stopping() => {}
        }
        tokio::select! {
            () = clock.sleep(grace) => warn!("grace period over; cancelling the work in flight"),
            _ = signals.next() => warn!("second signal; cancelling the work in flight"),
        }
        shutdown.cancel();
    });
    Ok(())
}
