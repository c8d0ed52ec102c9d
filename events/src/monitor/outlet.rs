//! The way to somebody who may be slow.

use metrics::Counter;
use parking_lot::Mutex;
use pulse::monitor::Seldom;
use runtime::{Clock, SystemClock};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tracing::warn;

/// How many wait at most.
const WAITING: usize = 1_000;

/// A bounded queue to a reader. [`Outlet::offer`] never waits for the reader: when the queue is full, the event is dropped.
pub(super) struct Outlet<T> {
    sender: Sender<T>,
    dropped: Counter,
    said: Mutex<Seldom>,
    slow: &'static str,
}

impl<T> Outlet<T> {
    /// `dropped` is the counter of what was dropped, `slow` says in the log who is too slow.
    pub(super) fn new(dropped: &'static str, slow: &'static str) -> (Self, Receiver<T>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (
            Self {
                sender,
                dropped: metrics::counter!(dropped),
                said: Mutex::default(),
                slow,
            },
            receiver,
        )
    }

    /// Hands it over. `key` is that of the event, for the log.
    pub(super) fn offer(&self, one: T, key: &str) {
        // Where the other end is gone, the process is about to end.
        let Err(TrySendError::Full(_)) = self.sender.try_send(one) else {
            return;
        };
        self.dropped.increment(1);
        let said = self.said.lock().happens(SystemClock.now());
        if let Some(count) = said {
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
        let (outlet, mut receiver) =
            Outlet::new("outlet_test_dropped_total", "the test is too slow");
        for number in 0..WAITING + 5 {
            outlet.offer(number, "key");
        }
        assert!(
            observe::metrics::render().contains("outlet_test_dropped_total 5\n"),
            "{}",
            observe::metrics::render()
        );
        let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        assert_eq!(received, (0..WAITING).collect::<Vec<_>>());
        outlet.offer(7, "key");
        assert_eq!(receiver.try_recv(), Ok(7));
        drop(receiver);
        outlet.offer(8, "key");
        assert!(
            observe::metrics::render().contains("outlet_test_dropped_total 5\n"),
            "no room is not nobody there"
        );
    }
}
