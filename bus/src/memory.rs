//! The bus of one process: the same states and semantics as on Redis, under one lock and an injected clock. Nothing
//! survives the process.

mod ledger;
mod operate;

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
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
use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use self::{ledger::Ledgers, operate::Finished};
use crate::policy::LARGE;
use crate::{
    Bound, Bus, BusError, CompareAndSet, DeadLetter, Ending, Envelope, Fact, LATE, Lease, Leased,
    Ledger, Outgoing, Pushed, Quarantine, QueueSpec, Record, Reserve, SUSPECT, Settlement,
};
use runtime::Clock;

/// Their names come from the program, so nobody can choose them to collide.
type Queues = FxHashMap<&'static str, QueueState>;

/// Queues in the memory of this process.
#[derive(Debug)]
pub struct MemoryBus {
    clock: Arc<dyn Clock>,
    queues: Mutex<Queues>,
    /// Locked after the queues, if both are.
    ledgers: Mutex<Ledgers>,
    /// A hint that something may have become ready; whoever waits looks again.
    changed: Arc<Notify>,
    /// How many wait for it.
    waiting: AtomicUsize,
    quarantine: Quarantine,
}

/// Everything is ordered by a serial number that a message gets when it becomes ready and keeps while it is held, so
/// what is released or taken over goes before newer messages.
#[derive(Debug, Default)]
struct QueueState {
    serial: u64,
    /// In the order of their serial numbers.
    ready: VecDeque<(u64, Stored)>,
    held: BTreeMap<u64, Held>,
    delayed: BTreeMap<(Timestamp, u64), Stored>,
    dead: VecDeque<(DeadLetter, Arc<Envelope>)>,
    paused: bool,
    finished: Finished,
    /// When a delayed message was last made ready late.
    last_late: Option<Timestamp>,
    keys: HashSet<String>,
    /// The keys in the order in which they are forgotten: the window of a queue is a constant.
    forget: VecDeque<(Timestamp, String)>,
}

#[derive(Debug)]
struct Stored {
    envelope: Arc<Envelope>,
    attempts: u32,
    deaths: u32,
    /// When it became ready; means nothing before that.
    since: Timestamp,
}

impl Stored {
    fn new(envelope: Arc<Envelope>) -> Self {
        Self {
            envelope,
            attempts: 0,
            deaths: 0,
            since: Timestamp::UNIX_EPOCH,
        }
    }
}

#[derive(Debug)]
struct Held {
    stored: Stored,
    delivery: u64,
    expires: Timestamp,
}

impl MemoryBus {
    /// An empty bus.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            queues: Mutex::default(),
            ledgers: Mutex::default(),
            changed: Arc::default(),
            waiting: AtomicUsize::new(0),
            quarantine: Quarantine::default(),
        }
    }

    fn take(&self, queue: &QueueSpec, request: &Reserve, now: Timestamp) -> Vec<Leased> {
        let mut queues = self.queues.lock();
        let state = queues.entry(queue.name).or_default();
        state.wake_due(now);
        if state.paused {
            return Vec::new();
        }
        let expires = later(now, queue.policy.lease);
        let mut lanes: HashSet<String> = request.skip_lanes.iter().cloned().collect();
        let mut taken = Vec::with_capacity(request.max.min(state.ready.len()));
        let mut expired = state.expired(now).into_iter().peekable();
        let mut at = 0;
        while taken.len() < request.max {
            let ready = state.ready.get(at);
            let lapsed = expired.next_if(|serial| ready.is_none_or(|(ready, _)| serial < ready));
            let next = match lapsed {
                Some(serial) => state.held.get(&serial).map(|held| &held.stored),
                None => ready.map(|(_, stored)| stored),
            };
            let Some(stored) = next else { break };
            let lane = stored.envelope.lane.as_ref().filter(|_| queue.lanes);
            let suspect = stored.deaths + u32::from(lapsed.is_some()) >= SUSPECT;
            if lane.is_some_and(|lane| lanes.contains(lane)) {
                at += usize::from(lapsed.is_none());
                continue;
            }
            // A suspect goes alone, and before what came after it.
            if suspect && !taken.is_empty() {
                break;
            }
            lanes.extend(lane.cloned());
            taken.extend(match lapsed {
                Some(serial) => state.take_over(serial, queue, expires),
                None => state.take(at, queue, expires),
            });
            if suspect {
                break;
            }
        }
        taken
    }

    /// How long until a delayed message is due, or a lease runs out that had not at the `last` look.
    fn next_event(&self, queue: &QueueSpec, last: Timestamp) -> Option<Duration> {
        let now = self.clock.now();
        let queues = self.queues.lock();
        let state = queues.get(queue.name)?;
        let due = state.delayed.keys().next().map(|(due, _)| *due);
        let expiry = state
            .held
            .values()
            .map(|held| held.expires)
            .filter(|expires| *expires > last)
            .min();
        let next = due.into_iter().chain(expiry).min()?;
        Some(Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO))
    }
}

impl QueueState {
    fn waiting(&self) -> usize {
        self.ready.len() + self.held.len() + self.delayed.len()
    }

    /// What the messages that wait take, about, in bytes.
    fn bytes(&self) -> u64 {
        let ready = self.ready.iter().map(|(_, stored)| stored);
        let held = self.held.values().map(|held| &held.stored);
        let all = ready.chain(held).chain(self.delayed.values());
        all.map(|stored| stored.envelope.size()).sum()
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn store(&mut self, mut stored: Stored, after: Duration, now: Timestamp) {
        let serial = self.next_serial();
        if after.is_zero() {
            // A plain push does not ask for the time: its messages are as old as their envelopes.
            stored.since = now.max(stored.envelope.created_at);
            self.ready.push_back((serial, stored));
        } else {
            self.delayed.insert((later(now, after), serial), stored);
        }
    }

    fn wake_due(&mut self, now: Timestamp) {
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

    /// Puts a message back to its place.
    fn put_back(&mut self, serial: u64, stored: Stored) {
        let place = self.ready.partition_point(|(other, _)| *other < serial);
        self.ready.insert(place, (serial, stored));
    }

    /// Whose lease ran out. It still holds, until somebody takes the message.
    fn expired(&self, now: Timestamp) -> Vec<u64> {
        self.held
            .iter()
            .filter(|(_, held)| held.expires <= now)
            .map(|(serial, _)| *serial)
            .collect()
    }

    fn take_over(&mut self, serial: u64, queue: &QueueSpec, expires: Timestamp) -> Option<Leased> {
        let Held { mut stored, .. } = self.held.remove(&serial)?;
        stored.deaths += 1;
        Some(self.hold(serial, stored, queue, expires))
    }

    fn take(&mut self, place: usize, queue: &QueueSpec, expires: Timestamp) -> Option<Leased> {
        let (serial, stored) = self.ready.remove(place)?;
        Some(self.hold(serial, stored, queue, expires))
    }

    fn hold(
        &mut self,
        serial: u64,
        mut stored: Stored,
        queue: &QueueSpec,
        expires: Timestamp,
    ) -> Leased {
        stored.attempts += 1;
        let delivery = self.next_serial();
        let leased = Leased {
            lease: Lease {
                queue: queue.name,
                length: queue.policy.lease,
                lane: stored.envelope.lane.clone(),
                entry: (0, serial),
                delivery,
                spent: None,
            },
            envelope: stored.envelope.clone(),
            attempt: stored.attempts,
            deaths: stored.deaths,
        };
        self.held.insert(
            serial,
            Held {
                stored,
                delivery,
                expires,
            },
        );
        leased
    }

    fn held(&mut self, lease: &Lease) -> Result<(u64, &mut Held), BusError> {
        let serial = lease.entry.1;
        let held = self
            .held
            .get_mut(&serial)
            .filter(|held| held.delivery == lease.delivery);
        held.map(|held| (serial, held))
            .ok_or(BusError::LeaseLost { queue: lease.queue })
    }

    /// Whether `key` was seen within the window.
    fn remembers(&mut self, key: Option<&str>, now: Timestamp) -> bool {
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
    fn remember(&mut self, key: String, until: Timestamp) {
        self.keys.insert(key.clone());
        self.forget.push_back((until, key));
    }
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn store_all(queues: &mut Queues, messages: Vec<Outgoing>, now: Timestamp) -> Pushed {
    let mut pushed = Pushed::default();
    for Outgoing {
        queue,
        envelope,
        after,
        key,
    } in messages
    {
        let state = queues.entry(queue.name).or_default();
        if state.remembers(key.as_deref(), now) {
            pushed.repeated += 1;
            continue;
        }
        if let Some(key) = key {
            state.remember(key, later(now, queue.policy.key_window));
        }
        state.store(Stored::new(Arc::new(envelope)), after, now);
        pushed.stored += 1;
    }
    pushed
}

/// Whether the lease still held; else nothing is done. A message that is done is put into `done`.
fn settle(
    queues: &mut Queues,
    lease: &Lease,
    how: &Settlement,
    now: Timestamp,
    done: &mut Vec<Stored>,
) -> bool {
    let state = queues.entry(lease.queue).or_default();
    let Ok((serial, _)) = state.held(lease) else {
        return false;
    };
    let Some(Held { mut stored, .. }) = state.held.remove(&serial) else {
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
            stored.deaths = 0;
            state.store(stored, *after, now);
        }
        Settlement::Defer { after } => {
            stored.attempts -= 1;
            stored.deaths = 0;
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
            state.put_back(serial, stored);
        }
    }
    true
}

/// Whether there is room for all of `messages`; those that are repeated need none.
fn check_bounds(
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
        let (waiting, bytes) = counts.entry(queue.name).or_insert_with(|| {
            let waiting = state.waiting();
            let few = u64::try_from(waiting)
                .unwrap_or(u64::MAX)
                .saturating_mul(LARGE);
            let asked = policy
                .bound_bytes
                .is_some_and(|bound| few >= bound || envelope.size() > LARGE);
            (waiting, if asked { state.bytes() } else { 0 })
        });
        *waiting += 1;
        let reached = policy
            .bound
            .filter(|bound| *waiting > *bound)
            .map(Bound::Messages)
            .or(policy
                .bound_bytes
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

/// Counts one who waits.
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
        facts: Vec<Fact>,
    ) -> Result<Pushed, BusError> {
        let pushed = {
            let plain = messages
                .iter()
                .all(|message| message.key.is_none() && message.after.is_zero());
            let now = if plain && facts.is_empty() {
                Timestamp::UNIX_EPOCH
            } else {
                self.clock.now()
            };
            let mut queues = self.queues.lock();
            if !messages.is_empty() && !facts.is_empty() && self.ledgers.lock().is_open(&facts, now)
            {
                return Ok(Pushed {
                    stored: 0,
                    repeated: messages.len(),
                });
            }
            if messages
                .iter()
                .any(|message| message.queue.policy.is_bounded())
            {
                check_bounds(&mut queues, &messages, now)?;
            }
            let pushed = store_all(&mut queues, messages, now);
            if !facts.is_empty() && (pushed.stored > 0 || pushed.repeated == 0) {
                self.ledgers.lock().write(&facts, now);
            }
            pushed
        };
        if self.waiting.load(Ordering::SeqCst) > 0 {
            // In a task of its own: whoever pushed goes on first, so that what it has to say of the push (the web's
            // "accepted") does not come after what a consumer says of the message.
            let changed = Arc::clone(&self.changed);
            tokio::spawn(async move { changed.notify_waiters() });
        }
        Ok(pushed)
    }

    async fn compare_and_set(
        &self,
        change: CompareAndSet,
        facts: Vec<Fact>,
    ) -> Result<bool, BusError> {
        let (now, mut ledgers) = (self.clock.now(), self.ledgers.lock());
        let is_met = ledgers.finds_expected(&change, now);
        if is_met {
            ledgers.write(&[&[change.into()], &facts[..]].concat(), now);
        }
        Ok(is_met)
    }

    async fn reserve(&self, queue: &QueueSpec, request: Reserve) -> Result<Vec<Leased>, BusError> {
        let taken = self.take(queue, &request, self.clock.now());
        if !taken.is_empty() || request.wait.is_zero() {
            return Ok(taken);
        }
        let deadline = later(self.clock.now(), request.wait);
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = self.clock.now();
            let taken = self.take(queue, &request, now);
            let left = Duration::try_from(deadline.duration_since(self.clock.now()))
                .unwrap_or(Duration::ZERO);
            if !taken.is_empty() || left.is_zero() {
                return Ok(taken);
            }
            let pause = self
                .next_event(queue, now)
                .map_or(left, |next| next.min(left));
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep(pause) => {}
                () = request.interrupt.notified() => return Ok(self.take(queue, &request, self.clock.now())),
            }
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<(), BusError> {
        let expires = later(self.clock.now(), lease.length);
        let mut queues = self.queues.lock();
        let (_, held) = queues.entry(lease.queue).or_default().held(lease)?;
        held.expires = expires;
        Ok(())
    }

    async fn settle_all(
        &self,
        ended: &[Ending<'_>],
    ) -> Result<Vec<Result<(), BusError>>, BusError> {
        let now = self.clock.now();
        let mut results = Vec::with_capacity(ended.len());
        // What is done is freed when the others can go on.
        let mut done = Vec::with_capacity(ended.len());
        {
            let mut queues = self.queues.lock();
            for Ending { lease, how, facts } in ended {
                let held = settle(&mut queues, lease, how, now, &mut done);
                if held && !facts.is_empty() && !matches!(how, Settlement::Release) {
                    self.ledgers.lock().write(facts, now);
                }
                results.push(match held {
                    true => Ok(()),
                    false => Err(BusError::LeaseLost { queue: lease.queue }),
                });
            }
        }
        self.changed.notify_waiters();
        Ok(results)
    }

    async fn records(&self, ledger: &Ledger, ids: &[String]) -> Result<Vec<Record>, BusError> {
        Ok(self.ledgers.lock().read(ledger, ids, self.clock.now()))
    }

    async fn tagged(
        &self,
        ledger: &Ledger,
        tag: &str,
        part: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError> {
        Ok(self
            .ledgers
            .lock()
            .tagged(ledger, tag, part, self.clock.now()))
    }

    fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    async fn ping(&self) -> Result<(), BusError> {
        Ok(())
    }

    async fn probe_write(&self) -> Result<(), BusError> {
        Ok(())
    }
}
