//! What waits between Pulse and the handlers. It is bounded: when it is full, the oldest makes room, since who watches
//! builds wants to know of the newest.

use std::collections::VecDeque;

use parking_lot::{Mutex, MutexGuard};

use tokio::sync::Notify;

/// A queue of at most `capacity` things, from one who puts to one who takes.
pub(super) struct Buffer<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    capacity: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Buffer<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
            capacity,
        }
    }

    /// Adds one. Returns what had to go for it.
    pub(super) fn put(&self, one: T) -> Option<T> {
        let mut state = self.state();
        let oldest = if state.waiting.len() >= self.capacity {
            state.waiting.pop_front()
        } else {
            None
        };
        state.waiting.push_back(one);
        drop(state);
        self.changed.notify_one();
        oldest
    }

    /// The oldest, as soon as there is one; `None` when nothing is there and nothing will come.
    pub(super) async fn take(&self) -> Option<T> {
        loop {
            {
                let mut state = self.state();
                if let Some(one) = state.waiting.pop_front() {
                    return Some(one);
                }
                if state.closed {
                    return None;
                }
            }
            // What was put since then has left a permit.
            self.changed.notified().await;
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn full_buffer_drops_oldest_and_closed_buffer_drains() {
        let buffer = Buffer::new(3);
        let gone: Vec<_> = (0..5).map(|number| buffer.put(number)).collect();
        assert_eq!(gone, [None, None, None, Some(0), Some(1)]);
        buffer.close();
        for expected in [Some(2), Some(3), Some(4), None, None] {
            assert_eq!(buffer.take().await, expected);
        }
    }

    #[tokio::test]
    async fn waiting_reader_is_woken() {
        let buffer = Arc::new(Buffer::new(3));
        let taking = Arc::clone(&buffer);
        let taken = tokio::spawn(async move {
            [
                taking.take().await,
                taking.take().await,
                taking.take().await,
            ]
        });
        tokio::task::yield_now().await;
        buffer.put(1);
        tokio::task::yield_now().await;
        buffer.put(2);
        buffer.close();
        assert_eq!(taken.await.unwrap(), [Some(1), Some(2), None]);
    }
}
