//! What may happen to a bus, as proptest draws it. Numbers are small, and what they point to is found modulo what is
//! there: so every step means something in every state, and a failing sequence shrinks.

use std::{ops::Range, time::Duration};

use bus::{Policy, QueueSpec};
use proptest::{collection::vec, option, prelude::*, sample::select};

/// The lease ends between two whole hours, and so does the window of a key. Clocks move by whole hours; so the real
/// time that a sequence takes decides nothing.
const POLICY: Policy = Policy {
    lease: Duration::from_secs(5400),
    dedup_window: Duration::from_secs(9000),
    ..Policy::DEFAULT
};

pub const QUEUES: [QueueSpec; 3] = [
    QueueSpec {
        name: "plain",
        policy: POLICY,
        partitions: false,
    },
    QueueSpec {
        name: "bounded",
        policy: Policy {
            max_depth: Some(3),
            ..POLICY
        },
        partitions: false,
    },
    QueueSpec {
        name: "partitioned",
        policy: Policy {
            max_depth: Some(8),
            ..POLICY
        },
        partitions: true,
    },
];

pub const PARTITIONS: [&str; 3] = ["", "a", "b"];

pub const KEYS: [&str; 2] = ["k", "l"];

/// A message to send.
#[derive(Debug, Clone)]
pub struct Send {
    /// In [`QUEUES`].
    pub queue: usize,
    /// In [`PARTITIONS`]; for a queue that has them.
    pub partition: usize,
    /// It is ready somewhat more than this number of hours later; 0: at once.
    pub hours: u64,
    /// In [`KEYS`].
    pub key: Option<usize>,
}

/// How a delivery is settled.
#[derive(Debug, Clone)]
pub enum How {
    Done(Vec<Send>),
    Retry { hours: u64 },
    Defer { hours: u64 },
    Dead(Vec<Send>),
    Release,
}

/// Leases are counted from the newest, and those that are lost or settled are among them.
#[derive(Debug, Clone)]
pub enum Step {
    Push(Vec<Send>),
    Reserve {
        worker: usize,
        queue: usize,
        max: usize,
        skip: Vec<usize>,
    },
    Extend {
        lease: usize,
    },
    /// Those of other workers than the first are left out.
    Settle(Vec<(usize, How)>),
    Pass {
        hours: u64,
    },
    Crash {
        worker: usize,
    },
    Pause {
        queue: usize,
        paused: bool,
    },
    /// One of those that were ever sent, counted from the newest, or all.
    Requeue {
        queue: usize,
        one: Option<usize>,
    },
    DropWaiting {
        queue: usize,
        one: Option<usize>,
    },
    /// Dead letters are counted from the newest; a number that is too large names none.
    RequeueDead {
        queue: usize,
        letters: Vec<usize>,
    },
    DropDead {
        queue: usize,
        letters: Vec<usize>,
    },
    Inspect {
        queue: usize,
        max: usize,
    },
}

fn queue() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 2 => Just(1), 3 => Just(2)]
}

fn hours() -> impl Strategy<Value = u64> {
    select(vec![0, 0, 1, 2])
}

fn sends(count: Range<usize>) -> impl Strategy<Value = Vec<Send>> {
    let key = option::weighted(0.25, 0..KEYS.len());
    let send =
        (queue(), 0..PARTITIONS.len(), hours(), key).prop_map(|(queue, partition, hours, key)| {
            Send {
                queue,
                partition,
                hours,
                key,
            }
        });
    vec(send, count)
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        2 => Just(How::Done(Vec::new())),
        2 => sends(1..3).prop_map(How::Done),
        2 => hours().prop_map(|hours| How::Retry { hours }),
        1 => hours().prop_map(|hours| How::Defer { hours }),
        3 => sends(0..2).prop_map(How::Dead),
        3 => Just(How::Release),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let reserve = (
        0..2_usize,
        queue(),
        1..5_usize,
        vec(0..PARTITIONS.len(), 0..2),
    );
    let one = || option::of(0..8_usize);
    let letters = || vec(0..3_usize, 1..5);
    prop_oneof![
        5 => sends(1..2).prop_map(Step::Push),
        2 => sends(2..5).prop_map(Step::Push),
        10 => reserve.prop_map(|(worker, queue, max, skip)| Step::Reserve { worker, queue, max, skip }),
        2 => (0..8_usize).prop_map(|lease| Step::Extend { lease }),
        8 => vec((0..6_usize, how()), 1..2).prop_map(Step::Settle),
        3 => vec((0..6_usize, how()), 2..5).prop_map(Step::Settle),
        5 => (1..4_u64).prop_map(|hours| Step::Pass { hours }),
        1 => (0..2_usize).prop_map(|worker| Step::Crash { worker }),
        2 => (queue(), prop::bool::weighted(0.4)).prop_map(|(queue, paused)| Step::Pause { queue, paused }),
        1 => (queue(), one()).prop_map(|(queue, one)| Step::Requeue { queue, one }),
        1 => (queue(), one()).prop_map(|(queue, one)| Step::DropWaiting { queue, one }),
        3 => (queue(), letters()).prop_map(|(queue, letters)| Step::RequeueDead { queue, letters }),
        1 => (queue(), letters()).prop_map(|(queue, letters)| Step::DropDead { queue, letters }),
        2 => (queue(), 1..6_usize).prop_map(|(queue, max)| Step::Inspect { queue, max }),
    ]
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    vec(step(), 1..=40)
}
