//! The operator's operations in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    MemoryBus,
    state::{QueueState, Stored},
};
use crate::{
    BusError, DeadLetter, DeadLetterPayload, Depth, Envelope, MessageSelector, MessageState,
    QueueAdmin, QueueSpec, QueueStatus, QueuedMessage, queue_admin::per_minute,
};

/// The numbers of messages that were done or became dead letters in the current minute and in the one before.
#[derive(Debug, Default)]
pub(super) struct Finished {
    minute: i64,
    current: u64,
    last: u64,
}

impl Finished {
    pub(super) fn count(&mut self, now: Timestamp) {
        self.turn(now);
        self.current += 1;
    }

    fn per_minute(&mut self, now: Timestamp) -> f64 {
        self.turn(now);
        per_minute(
            self.last,
            self.current,
            now.as_second().rem_euclid(60).unsigned_abs(),
        )
    }

    fn turn(&mut self, now: Timestamp) {
        let minute = now.as_second().div_euclid(60);
        if minute != self.minute {
            self.last = if minute == self.minute + 1 {
                self.current
            } else {
                0
            };
            self.current = 0;
            self.minute = minute;
        }
    }
}

impl Stored {
    fn queued(&self, state: MessageState) -> QueuedMessage {
        QueuedMessage {
            state,
            attempts: self.attempts,
            envelope: Envelope::clone(&self.envelope),
        }
    }
}

impl QueueState {
    /// All messages that are not settled, in the order of [`QueueAdmin::peek`].
    fn unsettled_in_order(&self) -> impl Iterator<Item = (MessageState, &Stored)> {
        let ready = self.ready.iter().map(|(serial, stored)| {
            let state = MessageState::Ready {
                since: stored.since,
            };
            (*serial, state, stored)
        });
        let in_flight = self.in_flight.iter().map(|(serial, in_flight)| {
            let state = MessageState::InFlight {
                since: in_flight.stored.since,
            };
            (*serial, state, &in_flight.stored)
        });
        let mut present: Vec<_> = ready.chain(in_flight).collect();
        present.sort_by_key(|(serial, ..)| *serial);
        let delayed = self
            .delayed
            .iter()
            .map(|((due, _), stored)| (MessageState::Delayed { due: *due }, stored));
        present
            .into_iter()
            .map(|(_, state, stored)| (state, stored))
            .chain(delayed)
    }

    /// Removes dead letters, in the order of `ids`. One that is named twice has its first place.
    fn remove_dead(&mut self, ids: &[String]) -> Vec<Arc<Envelope>> {
        let places: HashMap<&str, usize> = ids
            .iter()
            .enumerate()
            .rev()
            .map(|(at, id)| (id.as_str(), at))
            .collect();
        let mut removed = BTreeMap::new();
        self.dead
            .retain(|(letter, envelope)| match places.get(letter.id.as_str()) {
                Some(place) => {
                    removed.insert(*place, Arc::clone(envelope));
                    false
                }
                None => true,
            });
        removed.into_values().collect()
    }
}

fn is_meant(which: MessageSelector, stored: &Stored) -> bool {
    match which {
        MessageSelector::All => true,
        MessageSelector::One(id) => stored.envelope.id == id,
    }
}

impl MemoryBus {
    /// Changes a queue, and then wakes reservations that wait.
    fn change<T>(
        &self,
        queue: &QueueSpec,
        change: impl FnOnce(&mut QueueState, Timestamp) -> T,
    ) -> T {
        let changed = change(
            self.queues.lock().entry(queue.name).or_default(),
            self.clock.now(),
        );
        self.changed.notify_waiters();
        changed
    }

    /// Reads a queue.
    fn read<T>(&self, queue: &QueueSpec, read: impl FnOnce(&mut QueueState, Timestamp) -> T) -> T {
        read(
            self.queues.lock().entry(queue.name).or_default(),
            self.clock.now(),
        )
    }
}

#[async_trait]
impl QueueAdmin for MemoryBus {
    async fn status(&self, queue: &QueueSpec) -> Result<QueueStatus, BusError> {
        Ok(self.read(queue, |state, now| {
            let in_flight = state
                .in_flight
                .values()
                .map(|in_flight| in_flight.stored.since);
            let oldest = state
                .ready
                .iter()
                .map(|(_, stored)| stored.since)
                .chain(in_flight)
                .min();
            let ago = |since: Timestamp| {
                Duration::try_from(now.duration_since(since)).unwrap_or_default()
            };
            QueueStatus {
                depth: Depth {
                    ready: state.ready.len(),
                    in_flight: state.in_flight.len(),
                    delayed: state.delayed.len(),
                    dead: state.dead.len(),
                },
                paused: state.paused,
                oldest: oldest.map(ago),
                last_late: state.last_late.map(ago),
                settled_per_minute: state.finished.per_minute(now),
                bytes: state.bytes,
            }
        }))
    }

    async fn peek(&self, queue: &QueueSpec, max: usize) -> Result<Vec<QueuedMessage>, BusError> {
        Ok(self.read(queue, |state, _| {
            state
                .unsettled_in_order()
                .take(max)
                .map(|(state, stored)| stored.queued(state))
                .collect()
        }))
    }

    async fn message(
        &self,
        queue: &QueueSpec,
        id: Uuid,
    ) -> Result<Option<QueuedMessage>, BusError> {
        Ok(self.read(queue, |state, _| {
            let found = state
                .unsettled_in_order()
                .find(|(_, stored)| stored.envelope.id == id);
            found.map(|(state, stored)| stored.queued(state))
        }))
    }

    async fn requeue(&self, queue: &QueueSpec, which: MessageSelector) -> Result<usize, BusError> {
        Ok(self.change(queue, |state, now| {
            let meant = state.remove_delayed(|stored| is_meant(which, stored));
            let count = meant.len();
            for stored in meant {
                state.store(stored, Duration::ZERO, now);
            }
            count
        }))
    }

    async fn drop_waiting(
        &self,
        queue: &QueueSpec,
        which: MessageSelector,
    ) -> Result<usize, BusError> {
        Ok(self.change(queue, |state, _| {
            let meant = |stored: &Stored| is_meant(which, stored);
            state.remove_ready(meant) + state.remove_delayed(meant).len()
        }))
    }

    async fn set_paused(&self, queue: &QueueSpec, paused: bool) -> Result<(), BusError> {
        self.change(queue, |state, _| state.paused = paused);
        Ok(())
    }

    async fn dead(
        &self,
        queue: &QueueSpec,
        reason: &str,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BusError> {
        Ok(self.read(queue, |state, _| {
            let letters = state.dead.iter().map(|(letter, _)| letter);
            letters
                .filter(|letter| letter.reason.contains(reason))
                .take(max)
                .cloned()
                .collect()
        }))
    }

    async fn dead_letter(
        &self,
        queue: &QueueSpec,
        id: &str,
    ) -> Result<Option<(DeadLetter, DeadLetterPayload)>, BusError> {
        Ok(self.read(queue, |state, _| {
            let found = state.dead.iter().find(|(letter, _)| letter.id == id);
            found.map(|(letter, envelope)| {
                (
                    letter.clone(),
                    DeadLetterPayload::Message(Envelope::clone(envelope)),
                )
            })
        }))
    }

    async fn requeue_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError> {
        Ok(self.change(queue, |state, now| {
            let removed = state.remove_dead(ids);
            let count = removed.len();
            for envelope in removed {
                state.store(Stored::new(envelope), Duration::ZERO, now);
            }
            count
        }))
    }

    async fn drop_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError> {
        Ok(self.change(queue, |state, _| state.remove_dead(ids).len()))
    }
}
