//! Runs commands, several at once. A slow command delays no other output.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use runtime::error_chain;
use tokio::{sync::mpsc::Receiver, time::timeout};
use tracing::error;

use super::{
    Command,
    drop_sink::DropSink,
    exec::{self, CommandError},
};
use crate::Event;

/// The most commands that run at once.
const CONCURRENCY: usize = 16;

/// The time limit of a command.
const LIMIT: Duration = Duration::from_secs(600);

/// The queue of events for commands.
pub(super) fn sink() -> (DropSink<Event>, Receiver<Event>) {
    DropSink::new(
        "build_monitor_commands_dropped_total",
        "commands of the build monitor are too slow",
    )
}

/// Runs `command` for each event, until the sink is dropped and all commands have ended. Dropping the future kills the
/// running ones.
pub(super) async fn run(command: Command, mut events: Receiver<Event>) {
    let command = Arc::new(command);
    // Registered before the first failure, so that a rate sees it rise from 0.
    let failed = metrics::counter!("build_monitor_commands_failed_total");
    let events = stream::poll_fn(move |context| events.poll_recv(context));
    let run = |event: Event| {
        let command = Arc::clone(&command);
        let failed = &failed;
        async move {
            let ended = timeout(LIMIT, exec::run(&command, &event)).await;
            if let Err(error) = ended.unwrap_or(Err(CommandError::TimedOut)) {
                failed.increment(1);
                error!(
                    key = event.key(),
                    error = error_chain(&error),
                    "the command of the build monitor failed"
                );
            }
        }
    };
    events.for_each_concurrent(CONCURRENCY, run).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_are_counted_from_zero() {
        observe::metrics::install();
        let (sink, events) = sink();
        drop(sink);
        let command = Command {
            shell: "true".to_owned(),
            hidden: &[],
        };
        run(command, events).await;
        let metrics = observe::metrics::render();
        assert!(
            metrics.contains("\nbuild_monitor_commands_failed_total "),
            "{metrics}"
        );
    }
}
