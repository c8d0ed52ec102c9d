//! The messages of queues, and what happens to them.

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

/// Their names come from the program, so nobody can choose them to collide.
pub(super) type Queues = FxHashMap<&'static str, QueueState>;

/// Everything is ordered by a serial number that a message gets when it becomes ready and keeps while it is held, so
/// what is released or taken over goes before newer messages.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    pub(super) serial: u64,
    /// In the order of their serial numbers.
    pub(super) ready: VecDeque<(u64, Stored)>,
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) delayed: BTreeMap<(Timestamp, u64), Stored>,
    /// The bytes, about, of all messages that are ready, held or delayed. A push must not count them again.
    pub(super) bytes: u64,
    pub(super) dead: VecDeque<(DeadLetter, Arc<Envelope>)>,
    pub(super) paused: bool,
    pub(super) finished: Finished,
    /// When a delayed message was last made ready late.
    pub(super) last_late: Option<Timestamp>,
    pub(super) keys: HashSet<String>,
    /// The keys in the order in which they are forgotten: the window of a queue is a constant.
    pub(super) forget: VecDeque<(Timestamp, String)>,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) envelope: Arc<Envelope>,
    pub(super) attempts: u32,
    pub(super) unsettled_deliveries: u32,
    /// When it became ready; means nothing before that.
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
pub(super) struct Held {
    pub(super) stored: Stored,
    pub(super) delivery: u64,
    pub(super) expires: Timestamp,
}

impl QueueState {
    pub(super) fn waiting(&self) -> usize {
        self.ready.len() + self.held.len() + self.delayed.len()
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
            // A plain push does not ask for the time: its messages are as old as their envelopes.
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

    /// Adds a message at the place that its serial number gives it.
    pub(super) fn put_back(&mut self, serial: u64, stored: Stored) {
        self.bytes += stored.envelope.size();
        let place = self.ready.partition_point(|(other, _)| *other < serial);
        self.ready.insert(place, (serial, stored));
    }

    /// Whose lease ran out. It still holds, until somebody takes the message.
    pub(super) fn expired(&self, now: Timestamp) -> Vec<u64> {
        self.held
            .iter()
            .filter(|(_, held)| held.expires <= now)
            .map(|(serial, _)| *serial)
            .collect()
    }

    pub(super) fn take_over(
        &mut self,
        serial: u64,
        queue: &QueueSpec,
        expires: Timestamp,
    ) -> Option<Delivery> {
        let Held { mut stored, .. } = self.held.remove(&serial)?;
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
        self.held.insert(
            serial,
            Held {
                stored,
                delivery: number,
                expires,
            },
        );
        delivery
    }

    pub(super) fn held(&mut self, lease: &Lease) -> Result<(u64, &mut Held), BusError> {
        let serial = lease.entry.1;
        let held = self
            .held
            .get_mut(&serial)
            .filter(|held| held.delivery == lease.delivery);
        held.map(|held| (serial, held))
            .ok_or(BusError::LeaseLost { queue: lease.queue })
    }

    /// Takes a held message out of the queue, if the lease still holds.
    fn end(&mut self, lease: &Lease) -> Option<Stored> {
        let (serial, _) = self.held(lease).ok()?;
        let Held { stored, .. } = self.held.remove(&serial)?;
        self.bytes -= stored.envelope.size();
        Some(stored)
    }

    /// Takes all delayed messages out of the queue for which `meant` holds.
    pub(super) fn remove_delayed(&mut self, meant: impl Fn(&Stored) -> bool) -> Vec<Stored> {
        let removed = self.delayed.extract_if(.., |_, stored| meant(stored));
        let removed: Vec<_> = removed.map(|(_, stored)| stored).collect();
        self.bytes -= total_size(&removed);
        removed
    }

    /// Takes all ready messages out of the queue for which `meant` holds.
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

    /// Whether `key` was seen within the window.
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

    /// Remembers `key` until `until`.
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

/// Whether the lease still held; else nothing is done. A message that is done is put into `done`.
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

/// Whether there is room for all of `messages`; those that are repeated need none.
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
