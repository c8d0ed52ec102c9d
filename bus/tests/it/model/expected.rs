//! The model: what a bus must answer, in the plainest way that says it. One list holds every message that was ever
//! stored, also those that are done. Whatever becomes ready goes to its end, so those that are ready or in flight stand in
//! their order.

use bus::{Depth, EnqueueOutcome, POISON_SUSPECT_DELIVERIES};
use proptest::{prelude::*, test_runner::TestCaseError};

use super::steps::{How, PARTITIONS, QUEUES, Send};

pub type Checked<T = ()> = Result<T, TestCaseError>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Ready,
    InFlight { lease: usize, until: u64 },
    Delayed { due: u64 },
    Dead { reason: String, attempts: u32 },
    Done,
    Dropped,
}

#[derive(Debug, Clone)]
pub struct Message {
    pub id: u128,
    pub queue: usize,
    pub partition: Option<&'static str>,
    pub attempts: u32,
    pub unsettled_deliveries: u32,
    pub state: State,
}

/// A message that a bus handed out.
#[derive(Debug, Clone, Copy)]
pub struct Reserved {
    pub id: u128,
    pub attempt: u32,
    pub unsettled_deliveries: u32,
}

#[derive(Debug, Default)]
pub struct Model {
    /// In seconds.
    now: u64,
    pub messages: Vec<Message>,
    /// Queue, key, until when it is remembered.
    keys: Vec<(usize, usize, u64)>,
    pub paused: [bool; QUEUES.len()],
}

/// How long a message is delayed, in seconds. No two messages become ready at the same moment (`number` tells them
/// apart), and none within a quarter of an hour of a moment at which the test looks: the real time that passes on Redis
/// changes nothing.
pub fn after(hours: u64, number: u128) -> u64 {
    if hours == 0 {
        0
    } else {
        hours * 3600 + 900 + u64::try_from(number).unwrap()
    }
}

impl Model {
    pub fn pass(&mut self, seconds: u64) {
        self.now += seconds;
    }

    fn remembers(&self, queue: usize, key: usize) -> bool {
        self.keys
            .iter()
            .any(|&(of, other, until)| (of, other) == (queue, key) && until > self.now)
    }

    /// What was pushed, or the queue that is full.
    pub fn push(&mut self, sends: &[(u128, Send)]) -> Result<EnqueueOutcome, usize> {
        let mut waiting: Vec<usize> = (0..QUEUES.len())
            .map(|queue| self.depth(queue).unfinished())
            .collect();
        let mut seen = Vec::new();
        for (_, send) in sends {
            let Some(bound) = QUEUES[send.queue].policy.max_depth else {
                continue;
            };
            if let Some(key) = send.key {
                if self.remembers(send.queue, key) || seen.contains(&(send.queue, key)) {
                    continue;
                }
                seen.push((send.queue, key));
            }
            waiting[send.queue] += 1;
            if waiting[send.queue] > bound {
                return Err(send.queue);
            }
        }
        Ok(self.store(sends))
    }

    fn store(&mut self, sends: &[(u128, Send)]) -> EnqueueOutcome {
        let mut pushed = EnqueueOutcome::default();
        for (id, send) in sends {
            if let Some(key) = send.key {
                if self.remembers(send.queue, key) {
                    pushed.duplicates += 1;
                    continue;
                }
                let window = QUEUES[send.queue].policy.dedup_window.as_secs();
                self.keys.push((send.queue, key, self.now + window));
            }
            pushed.inserted += 1;
            let partition = QUEUES[send.queue]
                .partitions
                .then(|| PARTITIONS[send.partition]);
            let state = self.ready_after(after(send.hours, *id));
            self.messages.push(Message {
                id: *id,
                queue: send.queue,
                partition,
                attempts: 0,
                unsettled_deliveries: 0,
                state,
            });
        }
        pushed
    }

    fn ready_after(&self, seconds: u64) -> State {
        if seconds == 0 {
            State::Ready
        } else {
            State::Delayed {
                due: self.now + seconds,
            }
        }
    }

    fn is_reservable(&self, message: &Message) -> bool {
        match message.state {
            State::Ready => true,
            State::InFlight { until, .. } => until <= self.now,
            _ => false,
        }
    }

    /// Places of the delayed messages by the time at which they are due.
    fn delayed(&self, queue: usize) -> Vec<(u64, usize)> {
        let of_queue = self
            .messages
            .iter()
            .enumerate()
            .filter(|(_, message)| message.queue == queue);
        let mut delayed: Vec<_> = of_queue
            .filter_map(|(at, message)| match message.state {
                State::Delayed { due } => Some((due, at)),
                _ => None,
            })
            .collect();
        delayed.sort_unstable();
        delayed
    }

    /// Makes delayed messages ready, behind all that are.
    fn make_ready(&mut self, ids: &[u128]) {
        for id in ids {
            let at = self.place(*id);
            let message = self.messages.remove(at);
            self.messages.push(Message {
                state: State::Ready,
                ..message
            });
        }
    }

    fn place(&self, id: u128) -> usize {
        self.messages
            .iter()
            .position(|message| message.id == id)
            .expect("it was stored")
    }

    /// Compares what a reservation returned with what it had to, and notes it. The leases have numbers from `lease` on.
    pub fn reserve(
        &mut self,
        queue: usize,
        max: usize,
        skip: &[&str],
        reserved: &[Reserved],
        lease: usize,
    ) -> Checked {
        let due = self
            .delayed(queue)
            .into_iter()
            .filter(|(due, _)| *due <= self.now);
        let due: Vec<u128> = due.map(|(_, at)| self.messages[at].id).collect();
        self.make_ready(&due);

        let mut open: Vec<&Message> = self
            .messages
            .iter()
            .filter(|message| message.queue == queue)
            .collect();
        open.retain(|message| !self.paused[queue] && self.is_reservable(message));
        let ids: Vec<u128> = reserved.iter().map(|reserved| reserved.id).collect();
        let is_suspect =
            |message: &Message| unsettled_deliveries(message) >= POISON_SUSPECT_DELIVERIES;
        if QUEUES[queue].partitions {
            // The first of each partition; which partitions go first is not promised.
            let mut partitions = skip.to_vec();
            open.retain(|message| {
                let partition = message.partition.unwrap();
                let first = !partitions.contains(&partition);
                partitions.push(partition);
                first
            });
            let expected: Vec<u128> = open.iter().map(|message| message.id).collect();
            let suspects: Vec<u128> = open
                .iter()
                .filter(|message| is_suspect(message))
                .map(|message| message.id)
                .collect();
            prop_assert!(
                ids.iter().all(|id| expected.contains(id)),
                "{ids:?} of {expected:?}"
            );
            prop_assert!(
                (1..ids.len()).all(|at| !ids[..at].contains(&ids[at])),
                "twice: {ids:?}"
            );
            let complete = ids.len() == max.min(expected.len());
            let has_suspect = ids.iter().any(|id| suspects.contains(id));
            let fits = match ids.len() {
                1 => has_suspect || complete || !suspects.is_empty(),
                2.. => !has_suspect && (complete || ids.len() < max && !suspects.is_empty()),
                0 => complete,
            };
            prop_assert!(
                fits,
                "{ids:?} of {expected:?}, suspects {suspects:?}, at most {max}"
            );
        } else {
            let mut expected = Vec::new();
            for message in open.iter().take(max) {
                if is_suspect(message) && !expected.is_empty() {
                    break;
                }
                expected.push(message.id);
                if is_suspect(message) {
                    break;
                }
            }
            prop_assert_eq!(&ids, &expected);
        }

        for (number, reserved) in reserved.iter().enumerate() {
            let at = self.place(reserved.id);
            let message = &mut self.messages[at];
            message.unsettled_deliveries = unsettled_deliveries(message);
            message.attempts += 1;
            prop_assert_eq!(
                (reserved.attempt, reserved.unsettled_deliveries),
                (message.attempts, message.unsettled_deliveries),
                "of {}",
                reserved.id
            );
            let until = self.now + QUEUES[queue].policy.lease.as_secs();
            message.state = State::InFlight {
                lease: lease + number,
                until,
            };
        }
        Ok(())
    }

    fn in_flight_under(&self, lease: usize) -> Option<usize> {
        self.messages.iter().position(
            |message| matches!(message.state, State::InFlight { lease: of, .. } if of == lease),
        )
    }

    /// Whether the lease is still valid.
    pub fn extend(&mut self, lease: usize) -> bool {
        let Some(at) = self.in_flight_under(lease) else {
            return false;
        };
        let until = self.now + QUEUES[self.messages[at].queue].policy.lease.as_secs();
        self.messages[at].state = State::InFlight { lease, until };
        true
    }

    /// Whether the lease was still valid. `number` is as for [`after`].
    pub fn settle(&mut self, lease: usize, how: &How, number: u128, emit: &[(u128, Send)]) -> bool {
        let Some(at) = self.in_flight_under(lease) else {
            return false;
        };
        if matches!(how, How::Release) {
            self.messages[at].state = State::Ready;
            self.messages[at].attempts -= 1;
            return true;
        }
        let mut message = self.messages.remove(at);
        match how {
            How::Done(_) => message.state = State::Done,
            How::Dead(_) => {
                message.state = State::Dead {
                    reason: reason(lease),
                    attempts: message.attempts,
                }
            }
            How::Retry { hours } | How::Defer { hours } => {
                message.state = self.ready_after(after(*hours, number));
                message.unsettled_deliveries = 0;
                message.attempts -= u32::from(matches!(how, How::Defer { .. }));
            }
            How::Release => {}
        }
        self.messages.push(message);
        self.store(emit);
        true
    }

    pub fn requeue(&mut self, queue: usize, one: Option<u128>) -> usize {
        let delayed = self
            .delayed(queue)
            .into_iter()
            .map(|(_, at)| self.messages[at].id);
        let meant: Vec<u128> = delayed
            .filter(|id| one.is_none_or(|one| one == *id))
            .collect();
        self.make_ready(&meant);
        meant.len()
    }

    pub fn drop_waiting(&mut self, queue: usize, one: Option<u128>) -> usize {
        let waiting = self
            .messages
            .iter_mut()
            .filter(|message| message.queue == queue);
        let waiting =
            waiting.filter(|message| matches!(message.state, State::Ready | State::Delayed { .. }));
        waiting
            .filter(|message| one.is_none_or(|one| one == message.id))
            .map(|message| message.state = State::Dropped)
            .count()
    }

    /// Dead letters, the newest first.
    pub fn dead(&self, queue: usize) -> Vec<(u128, &str, u32)> {
        let of_queue = self
            .messages
            .iter()
            .rev()
            .filter(|message| message.queue == queue);
        of_queue
            .filter_map(|message| match &message.state {
                State::Dead { reason, attempts } => Some((message.id, &reason[..], *attempts)),
                _ => None,
            })
            .collect()
    }

    /// Requeues or drops the dead letters with these ids. Returns how many there were.
    pub fn take_dead_letters(&mut self, queue: usize, ids: &[u128], requeue: bool) -> usize {
        let mut count = 0;
        for id in ids {
            if self.dead(queue).iter().any(|(dead, ..)| dead == id) {
                let at = self.place(*id);
                let state = if requeue {
                    State::Ready
                } else {
                    State::Dropped
                };
                let message = Message {
                    attempts: 0,
                    unsettled_deliveries: 0,
                    state,
                    ..self.messages.remove(at)
                };
                self.messages.push(message);
                count += 1;
            }
        }
        count
    }

    pub fn depth(&self, queue: usize) -> Depth {
        let mut depth = Depth::default();
        for message in self
            .messages
            .iter()
            .filter(|message| message.queue == queue)
        {
            match message.state {
                State::Ready => depth.ready += 1,
                State::InFlight { .. } => depth.in_flight += 1,
                State::Delayed { .. } => depth.delayed += 1,
                State::Dead { .. } => depth.dead += 1,
                State::Done | State::Dropped => {}
            }
        }
        depth
    }

    /// Those that are ready or in flight in their order, then the delayed ones by the time at which they are due.
    pub fn peek(&self, queue: usize) -> Vec<&Message> {
        let of_queue = self
            .messages
            .iter()
            .filter(|message| message.queue == queue);
        let present = of_queue
            .filter(|message| matches!(message.state, State::Ready | State::InFlight { .. }));
        present
            .chain(
                self.delayed(queue)
                    .into_iter()
                    .map(|(_, at)| &self.messages[at]),
            )
            .collect()
    }
}

/// A message that is reserved while it is in flight counts one more unsettled delivery.
fn unsettled_deliveries(message: &Message) -> u32 {
    message.unsettled_deliveries + u32::from(matches!(message.state, State::InFlight { .. }))
}

/// The reason of a dead letter.
pub fn reason(lease: usize) -> String {
    format!("reservation {lease} failed")
}
