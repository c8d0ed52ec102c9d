//! Commands, several at once: what is slow here holds up nobody else.

use std::time::Duration;

use anyhow::anyhow;
use futures::{StreamExt, stream};
use pulse::monitor::Event;
use runtime::error_chain;
use tokio::{sync::mpsc::Receiver, time::timeout};
use tracing::error;

use super::{exec, outlet::Outlet};

/// How many run at once at most.
const AT_ONCE: usize = 16;

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(600);

/// The way of events to their commands.
pub(super) fn outlet() -> (Outlet<Event>, Receiver<Event>) {
    Outlet::new(
        "monitor_commands_dropped_total",
        "commands of the build monitor are too slow",
    )
}

/// Runs `command` for each event, until the outlet is dropped and all commands have ended. When this is dropped before,
/// those that run are killed.
pub(super) async fn run(command: &str, mut events: Receiver<Event>) {
    let failed = metrics::counter!("monitor_commands_failed_total");
    let events = stream::poll_fn(|context| events.poll_recv(context));
    let run = |event: Event| {
        let failed = &failed;
        async move {
            let ended = timeout(LIMIT, exec::run(command, &event)).await;
            if let Err(error) =
                ended.unwrap_or_else(|_| Err(anyhow!("the command took too long, and was killed")))
            {
                failed.increment(1);
                error!(
                    key = event.key(),
                    error = error_chain(error.as_ref()),
                    "the build monitor's command went wrong"
                );
            }
        }
    };
    events.for_each_concurrent(AT_ONCE, run).await;
}
