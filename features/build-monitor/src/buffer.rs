//! The bounded buffer between Pulse and the handlers. When it is full, it drops the oldest, since the newest builds matter
//! most.

use std::collections::VecDeque;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// A queue of at most `capacity` items, with one writer and one reader.
pub(crate) struct Buffer<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    capacity: usize,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Buffer<T> {
    pub(crate) fn new(capacity: usize) -> Self {
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

    /// Adds an item. Returns the oldest when it had to make room.
    pub(crate) fn put(&self, item: T) -> Option<T> {
        let mut state = self.state();
        let oldest = if state.waiting.len() >= self.capacity {
            state.waiting.pop_front()
        } else {
            None
        };
        state.waiting.push_back(item);
        drop(state);
        self.changed.notify_one();
        oldest
    }

    /// Waits for the oldest item; `None` when the buffer is closed and empty.
    pub(crate) async fn take(&self) -> Option<T> {
        loop {
            {
                let mut state = self.state();
                if let Some(item) = state.waiting.pop_front() {
                    return Some(item);
                }
                if state.closed {
                    return None;
                }
            }
            // An item that was added since then has left a permit.
            self.changed.notified().await;
        }
    }

    /// Ends the buffer: the reader gets what is in it, and then `None`.
    pub(crate) fn close(&self) {
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
