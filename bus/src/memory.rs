//! A bus within one process: the same states and semantics as on Redis, with an injected clock. Its messages end with the
//! process.

mod queue_admin;
mod records;
mod state;

use std::{
    collections::HashSet,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;

use self::{
    records::Records,
    state::{Queues, check_bounds, later, settle, store_all},
};
use crate::{
    Bus, BusError, CompareAndSet, Delivery, EnqueueOutcome, Isolation, Lease, Outgoing,
    POISON_SUSPECT_DELIVERIES, QueueSpec, Record, RecordStore, RecordUpdate, Reserve,
    SettleRequest, Settlement,
};
use runtime::Clock;

/// Queues and records in the memory of this process.
#[derive(Debug)]
pub struct MemoryBus {
    clock: Arc<dyn Clock>,
    queues: Mutex<Queues>,
    /// Locked after the queues, where both locks are taken.
    stores: Mutex<Records>,
    /// Wakes reservations that wait: a message may have become ready.
    changed: Arc<Notify>,
    /// The number of these reservations.
    waiting: AtomicUsize,
    isolation: Isolation,
}

impl MemoryBus {
    /// An empty bus.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            queues: Mutex::default(),
            stores: Mutex::default(),
            changed: Arc::default(),
            waiting: AtomicUsize::new(0),
            isolation: Isolation::default(),
        }
    }

    fn reserve_now(&self, queue: &QueueSpec, request: &Reserve, now: Timestamp) -> Vec<Delivery> {
        let mut queues = self.queues.lock();
        let state = queues.entry(queue.name).or_default();
        state.wake_due(now);
        if state.paused {
            return Vec::new();
        }
        let expires = later(now, queue.policy.lease);
        let mut partitions: HashSet<String> = request.skip_partitions.iter().cloned().collect();
        let mut deliveries = Vec::with_capacity(request.max.min(state.ready.len()));
        let mut expired = state.expired(now).into_iter().peekable();
        let mut at = 0;
        while deliveries.len() < request.max {
            let ready = state.ready.get(at);
            let expired_serial =
                expired.next_if(|serial| ready.is_none_or(|(ready, _)| serial < ready));
            let next = match expired_serial {
                Some(serial) => state
                    .in_flight
                    .get(&serial)
                    .map(|in_flight| &in_flight.stored),
                None => ready.map(|(_, stored)| stored),
            };
            let Some(stored) = next else { break };
            let partition = stored
                .envelope
                .partition
                .as_ref()
                .filter(|_| queue.partitions);
            let suspect = stored.unsettled_deliveries + u32::from(expired_serial.is_some())
                >= POISON_SUSPECT_DELIVERIES;
            if partition.is_some_and(|partition| partitions.contains(partition)) {
                at += usize::from(expired_serial.is_none());
                continue;
            }
            // A poison suspect is delivered alone, and before newer messages.
            if suspect && !deliveries.is_empty() {
                break;
            }
            partitions.extend(partition.cloned());
            deliveries.extend(match expired_serial {
                Some(serial) => state.take_over(serial, queue, expires),
                None => state.take(at, queue, expires),
            });
            if suspect {
                break;
            }
        }
        deliveries
    }

    /// The time until a delayed message is due, or until a lease runs out that had not at `last`.
    fn next_event(&self, queue: &QueueSpec, last: Timestamp) -> Option<Duration> {
        let now = self.clock.now();
        let queues = self.queues.lock();
        let state = queues.get(queue.name)?;
        let due = state.delayed.keys().next().map(|(due, _)| *due);
        let expiry = state
            .in_flight
            .values()
            .map(|in_flight| in_flight.expires)
            .filter(|expires| *expires > last)
            .min();
        let next = due.into_iter().chain(expiry).min()?;
        Some(Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO))
    }
}

/// A reservation that waits: counted until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn push_with(
        &self,
        messages: Vec<Outgoing>,
        updates: Vec<RecordUpdate>,
    ) -> Result<EnqueueOutcome, BusError> {
        let pushed = {
            let plain = messages
                .iter()
                .all(|message| message.key.is_none() && message.after.is_zero());
            let now = if plain && updates.is_empty() {
                Timestamp::UNIX_EPOCH
            } else {
                self.clock.now()
            };
            let mut queues = self.queues.lock();
            if !messages.is_empty()
                && !updates.is_empty()
                && self.stores.lock().is_open(&updates, now)
            {
                return Ok(EnqueueOutcome {
                    inserted: 0,
                    duplicates: messages.len(),
                });
            }
            if messages
                .iter()
                .any(|message| message.queue.policy.is_bounded())
            {
                check_bounds(&mut queues, &messages, now)?;
            }
            let pushed = store_all(&mut queues, messages, now);
            if !updates.is_empty() && (pushed.inserted > 0 || pushed.duplicates == 0) {
                self.stores.lock().write(&updates, now);
            }
            pushed
        };
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // In a task of its own: the caller goes on first, so that its log line of the push (the web's "accepted") comes
            // before those of the consumer.
            let changed = Arc::clone(&self.changed);
            tokio::spawn(async move { changed.notify_waiters() });
        }
        Ok(pushed)
    }

    async fn compare_and_set(
        &self,
        change: CompareAndSet,
        updates: Vec<RecordUpdate>,
    ) -> Result<bool, BusError> {
        let (now, mut stores) = (self.clock.now(), self.stores.lock());
        let is_met = stores.finds_expected(&change, now);
        if is_met {
            stores.write(&[&[change.into()], &updates[..]].concat(), now);
        }
        Ok(is_met)
    }

    async fn reserve(
        &self,
        queue: &QueueSpec,
        request: Reserve,
    ) -> Result<Vec<Delivery>, BusError> {
        let deliveries = self.reserve_now(queue, &request, self.clock.now());
        if !deliveries.is_empty() || request.wait.is_zero() {
            return Ok(deliveries);
        }
        let deadline = later(self.clock.now(), request.wait);
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = self.clock.now();
            let deliveries = self.reserve_now(queue, &request, now);
            let left = Duration::try_from(deadline.duration_since(self.clock.now()))
                .unwrap_or(Duration::ZERO);
            if !deliveries.is_empty() || left.is_zero() {
                return Ok(deliveries);
            }
            let pause = self
                .next_event(queue, now)
                .map_or(left, |next| next.min(left));
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep(pause) => {}
                () = request.interrupt.notified() => return Ok(self.reserve_now(queue, &request, self.clock.now())),
            }
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<(), BusError> {
        let expires = later(self.clock.now(), lease.length);
        let mut queues = self.queues.lock();
        let (_, in_flight) = queues.entry(lease.queue).or_default().under_lease(lease)?;
        in_flight.expires = expires;
        Ok(())
    }

    async fn settle_all(
        &self,
        ended: &[SettleRequest<'_>],
    ) -> Result<Vec<Result<(), BusError>>, BusError> {
        let now = self.clock.now();
        let mut results = Vec::with_capacity(ended.len());
        // Settled messages are freed after the lock is released.
        let mut done = Vec::with_capacity(ended.len());
        {
            let mut queues = self.queues.lock();
            for SettleRequest {
                lease,
                how,
                updates,
            } in ended
            {
                let is_valid = settle(&mut queues, lease, how, now, &mut done);
                if is_valid && !updates.is_empty() && !matches!(how, Settlement::Release) {
                    self.stores.lock().write(updates, now);
                }
                results.push(match is_valid {
                    true => Ok(()),
                    false => Err(BusError::LeaseLost { queue: lease.queue }),
                });
            }
        }
        self.changed.notify_waiters();
        Ok(results)
    }

    async fn records(&self, store: &RecordStore, ids: &[String]) -> Result<Vec<Record>, BusError> {
        Ok(self.stores.lock().read(store, ids, self.clock.now()))
    }

    async fn indexed(
        &self,
        store: &RecordStore,
        index: &str,
        part: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError> {
        Ok(self
            .stores
            .lock()
            .indexed(store, index, part, self.clock.now()))
    }

    fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn probe_write(&self) -> Result<(), BusError> {
        Ok(())
    }
}
