//! The messages of queues in memory, and their changes of state.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rustc_hash::FxHashMap;

use super::queue_admin::Finished;
use crate::{
    Bound, BusError, DeadLetter, Delivery, EnqueueOutcome, Envelope, LATE, Lease, Outgoing,
    QueueSpec, Settlement,
};

/// By name. Names are constants of the program, so nobody can choose them to collide.
pub(super) type Queues = FxHashMap<&'static str, QueueState>;

/// A message gets a serial number when it becomes ready, and keeps it while it is in flight. So a message that is released, or
/// whose lease has run out, is delivered before newer ones.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    pub(super) serial: u64,
    /// By serial number.
    pub(super) ready: VecDeque<(u64, Stored)>,
    pub(super) in_flight: BTreeMap<u64, InFlight>,
    pub(super) delayed: BTreeMap<(Timestamp, u64), Stored>,
    /// The approximate size in bytes of all messages that are ready, in flight or delayed. Kept, so that a push need not
    /// count.
    pub(super) bytes: u64,
    pub(super) dead: VecDeque<(DeadLetter, Arc<Envelope>)>,
    pub(super) paused: bool,
    pub(super) finished: Finished,
    /// The time at which a delayed message last became ready late.
    pub(super) last_late: Option<Timestamp>,
    pub(super) keys: HashSet<String>,
    /// The deduplication keys by expiry: the window of a queue is constant, so they expire in order.
    pub(super) forget: VecDeque<(Timestamp, String)>,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) envelope: Arc<Envelope>,
    pub(super) attempts: u32,
    pub(super) unsettled_deliveries: u32,
    /// The time at which it became ready; has no meaning before.
    pub(super) since: Timestamp,
}

impl Stored {
    pub(super) fn new(envelope: Arc<Envelope>) -> Self {
        Self {
            envelope,
            attempts: 0,
            unsettled_deliveries: 0,
            since: Timestamp::UNIX_EPOCH,
        }
    }
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) stored: Stored,
    pub(super) delivery: u64,
    pub(super) expires: Timestamp,
}

impl QueueState {
    pub(super) fn waiting(&self) -> usize {
        self.ready.len() + self.in_flight.len() + self.delayed.len()
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Adds a message that the queue does not have.
    pub(super) fn store(&mut self, mut stored: Stored, after: Duration, now: Timestamp) {
        self.bytes += stored.envelope.size();
        let serial = self.next_serial();
        if after.is_zero() {
            // A plain push does not read the clock: its messages are as old as their envelopes.
            stored.since = now.max(stored.envelope.created_at);
            self.ready.push_back((serial, stored));
        } else {
            self.delayed.insert((later(now, after), serial), stored);
        }
    }

    pub(super) fn wake_due(&mut self, now: Timestamp) {
        while let Some(entry) = self
            .delayed
            .first_entry()
            .filter(|entry| entry.key().0 <= now)
        {
            if later(entry.key().0, LATE) <= now {
                self.last_late = Some(now);
            }
            let mut stored = entry.remove();
            stored.since = now;
            let serial = self.next_serial();
            self.ready.push_back((serial, stored));
        }
    }

    /// Makes a message ready at the place of its serial number.
    pub(super) fn put_back(&mut self, serial: u64, stored: Stored) {
        self.bytes += stored.envelope.size();
        let place = self.ready.partition_point(|(other, _)| *other < serial);
        self.ready.insert(place, (serial, stored));
    }

    /// The serial numbers of messages whose lease has run out. It stays valid until the message is delivered again.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<u64> {
        self.in_flight
            .iter()
            .filter(|(_, in_flight)| in_flight.expires <= now)
            .map(|(serial, _)| *serial)
            .collect()
    }

    pub(super) fn take_over(
        &mut self,
        serial: u64,
        queue: &QueueSpec,
        expires: Timestamp,
    ) -> Option<Delivery> {
        let InFlight { mut stored, .. } = self.in_flight.remove(&serial)?;
        stored.unsettled_deliveries += 1;
        Some(self.hold(serial, stored, queue, expires))
    }

    pub(super) fn take(
        &mut self,
        place: usize,
        queue: &QueueSpec,
        expires: Timestamp,
    ) -> Option<Delivery> {
        let (serial, stored) = self.ready.remove(place)?;
        Some(self.hold(serial, stored, queue, expires))
    }

    pub(super) fn hold(
        &mut self,
        serial: u64,
        mut stored: Stored,
        queue: &QueueSpec,
        expires: Timestamp,
    ) -> Delivery {
        stored.attempts += 1;
        let number = self.next_serial();
        let delivery = Delivery {
            lease: Lease {
                queue: queue.name,
                length: queue.policy.lease,
                partition: stored.envelope.partition.clone(),
                entry: (0, serial),
                delivery: number,
                spent: None,
            },
            envelope: stored.envelope.clone(),
            attempt: stored.attempts,
            unsettled_deliveries: stored.unsettled_deliveries,
        };
        self.in_flight.insert(
            serial,
            InFlight {
                stored,
                delivery: number,
                expires,
            },
        );
        delivery
    }

    pub(super) fn under_lease(&mut self, lease: &Lease) -> Result<(u64, &mut InFlight), BusError> {
        let serial = lease.entry.1;
        let in_flight = self
            .in_flight
            .get_mut(&serial)
            .filter(|in_flight| in_flight.delivery == lease.delivery);
        in_flight
            .map(|in_flight| (serial, in_flight))
            .ok_or(BusError::LeaseLost { queue: lease.queue })
    }

    /// Removes a message in flight from the queue, if its lease is valid.
    fn end(&mut self, lease: &Lease) -> Option<Stored> {
        let (serial, _) = self.under_lease(lease).ok()?;
        let InFlight { stored, .. } = self.in_flight.remove(&serial)?;
        self.bytes -= stored.envelope.size();
        Some(stored)
    }

    /// Removes all delayed messages that match `meant`.
    pub(super) fn remove_delayed(&mut self, meant: impl Fn(&Stored) -> bool) -> Vec<Stored> {
        let removed = self.delayed.extract_if(.., |_, stored| meant(stored));
        let removed: Vec<_> = removed.map(|(_, stored)| stored).collect();
        self.bytes -= total_size(&removed);
        removed
    }

    /// Removes all ready messages that match `meant`. Returns their number.
    pub(super) fn remove_ready(&mut self, meant: impl Fn(&Stored) -> bool) -> usize {
        let before = self.ready.len();
        let bytes = &mut self.bytes;
        self.ready.retain(|(_, stored)| {
            let removed = meant(stored);
            if removed {
                *bytes -= stored.envelope.size();
            }
            !removed
        });
        before - self.ready.len()
    }

    /// Whether a message with this deduplication key was stored within the window.
    pub(super) fn remembers(&mut self, key: Option<&str>, now: Timestamp) -> bool {
        if key.is_none() {
            return false;
        }
        while self
            .forget
            .front()
            .is_some_and(|(expiry, _)| *expiry <= now)
        {
            if let Some((_, key)) = self.forget.pop_front() {
                self.keys.remove(&key);
            }
        }
        key.is_some_and(|key| self.keys.contains(key))
    }

    /// Keeps a deduplication key until it expires.
    pub(super) fn remember(&mut self, key: String, until: Timestamp) {
        self.keys.insert(key.clone());
        self.forget.push_back((until, key));
    }
}

fn total_size(messages: &[Stored]) -> u64 {
    messages.iter().map(|stored| stored.envelope.size()).sum()
}

pub(super) fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

pub(super) fn store_all(
    queues: &mut Queues,
    messages: Vec<Outgoing>,
    now: Timestamp,
) -> EnqueueOutcome {
    let mut pushed = EnqueueOutcome::default();
    for Outgoing {
        queue,
        envelope,
        after,
        key,
    } in messages
    {
        let state = queues.entry(queue.name).or_default();
        if state.remembers(key.as_deref(), now) {
            pushed.duplicates += 1;
            continue;
        }
        if let Some(key) = key {
            state.remember(key, later(now, queue.policy.dedup_window));
        }
        state.store(Stored::new(Arc::new(envelope)), after, now);
        pushed.inserted += 1;
    }
    pushed
}

/// Settles a delivery. Returns whether its lease was valid; otherwise nothing changes. A done message is moved to `done`.
pub(super) fn settle(
    queues: &mut Queues,
    lease: &Lease,
    how: &Settlement,
    now: Timestamp,
    done: &mut Vec<Stored>,
) -> bool {
    let state = queues.entry(lease.queue).or_default();
    let Some(mut stored) = state.end(lease) else {
        return false;
    };
    match how {
        Settlement::Done { emit } => {
            state.finished.count(now);
            done.push(stored);
            if !emit.is_empty() {
                store_all(queues, emit.clone(), now);
            }
        }
        Settlement::Retry { after } => {
            stored.unsettled_deliveries = 0;
            state.store(stored, *after, now);
        }
        Settlement::Defer { after } => {
            stored.attempts -= 1;
            stored.unsettled_deliveries = 0;
            state.store(stored, *after, now);
        }
        Settlement::Dead {
            id,
            reason,
            attempts,
            emit,
        } => {
            state.finished.count(now);
            let (id, reason) = (id.to_string(), reason.clone());
            let letter = DeadLetter {
                id,
                reason,
                attempts: *attempts,
                died_at: now,
                unreadable: false,
            };
            state.dead.push_front((letter, stored.envelope));
            store_all(queues, emit.clone(), now);
        }
        Settlement::Release => {
            stored.attempts -= 1;
            state.put_back(lease.entry.1, stored);
        }
    }
    true
}

/// [`BusError::Full`] when a queue has no room for all of `messages`. Duplicates need none.
pub(super) fn check_bounds(
    queues: &mut Queues,
    messages: &[Outgoing],
    now: Timestamp,
) -> Result<(), BusError> {
    let (mut counts, mut seen) = (FxHashMap::default(), HashSet::new());
    for Outgoing {
        queue,
        key,
        envelope,
        ..
    } in messages
    {
        let policy = queue.policy;
        if !policy.is_bounded() {
            continue;
        }
        let state = queues.entry(queue.name).or_default();
        let key = key.as_deref();
        if state.remembers(key, now) || key.is_some_and(|key| !seen.insert((queue.name, key))) {
            continue;
        }
        let (waiting, bytes) = counts
            .entry(queue.name)
            .or_insert_with(|| (state.waiting(), state.bytes));
        *waiting += 1;
        let reached = policy
            .max_depth
            .filter(|bound| *waiting > *bound)
            .map(Bound::Messages)
            .or(policy
                .max_bytes
                .filter(|bound| *bytes >= *bound)
                .map(Bound::Bytes));
        *bytes += envelope.size();
        if let Some(bound) = reached {
            return Err(BusError::Full {
                queue: queue.name,
                bound,
            });
        }
    }
    Ok(())
}
