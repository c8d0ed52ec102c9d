//! A bounded queue to an output that may be slow.

use metrics::Counter;
use parking_lot::Mutex;
use runtime::{Clock, LogRateLimiter, SystemClock};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tracing::warn;

/// The most items that wait.
const CAPACITY: usize = 1_000;

/// The sending end of the queue. [`DropSink::send`] never waits for the reader: when the queue is full, it drops the item.
pub(super) struct DropSink<T> {
    sender: Sender<T>,
    dropped: Counter,
    drops: Mutex<LogRateLimiter>,
    slow: &'static str,
}

impl<T> DropSink<T> {
    /// `dropped` is the counter of dropped items; `slow` names the slow reader in the log.
    pub(super) fn new(dropped: &'static str, slow: &'static str) -> (Self, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        (
            Self {
                sender,
                dropped: metrics::counter!(dropped),
                drops: Mutex::default(),
                slow,
            },
            receiver,
        )
    }

    /// Adds an item. `key` is that of its event, for the log.
    pub(super) fn send(&self, item: T, key: &str) {
        // Without a reader, the process is about to end.
        let Err(TrySendError::Full(_)) = self.sender.try_send(item) else {
            return;
        };
        self.dropped.increment(1);
        let logged = self.drops.lock().count(SystemClock.now());
        if let Some(count) = logged {
            warn!(
                count,
                key, "{}: the queue is full; dropping events", self.slow
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_dropped_without_delaying_others() {
        observe::metrics::install();
        let (drop_sink, mut receiver) =
            DropSink::new("drop_sink_test_dropped_total", "the test is too slow");
        for number in 0..CAPACITY + 5 {
            drop_sink.send(number, "key");
        }
        assert!(
            observe::metrics::render().contains("drop_sink_test_dropped_total 5\n"),
            "{}",
            observe::metrics::render()
        );
        let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(received, (0..CAPACITY).collect::<Vec<_>>());
        drop_sink.send(7, "key");
        assert_eq!(receiver.try_recv(), Ok(7));
        drop(receiver);
        drop_sink.send(8, "key");
        assert!(
            observe::metrics::render().contains("drop_sink_test_dropped_total 5\n"),
            "without a reader nothing is dropped"
        );
    }
}
