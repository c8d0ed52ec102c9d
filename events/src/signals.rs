//! SIGTERM and SIGINT: the first one is a request, the second an order. A process that stops by itself, because a part
//! of it failed, gets the same grace period.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use runtime::{Clock, Shutdown};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tracing::{info, warn};

/// Stops on the first signal, and gives up what is in flight `grace` after the process began to stop, or on the second
/// signal.
pub fn watch(shutdown: Shutdown, grace: Duration, clock: Arc<dyn Clock>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    tokio::spawn(async move {
        tokio::select! {
            _ = signals.next() => {
                info!("asked to stop: taking nothing new, {} s to finish what is in flight", grace.as_secs());
                shutdown.stop();
            }
            () = shutdown.stopping() => {}
        }
        tokio::select! {
            () = clock.sleep(grace) => warn!("the grace period is over: giving back what is in flight"),
            _ = signals.next() => warn!("asked again: giving back what is in flight now"),
        }
        shutdown.cancel();
    });
    Ok(())
}
