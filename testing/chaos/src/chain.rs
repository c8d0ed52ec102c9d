//! What goes through the campaign: three queues in a row, and the messages in them.

use std::{convert::Infallible, fmt, time::Duration};

use bus::{Backoff, Cause, Message, Policy, Queue, RedisOptions};
use serde::{Deserialize, Serialize};

/// Short, so that a campaign meets many leases that run out.
pub const LEASE: Duration = Duration::from_secs(2);
/// More than [`DEATHS`]: what only ever lost its workers becomes a dead letter for that, not for its attempts.
pub const ATTEMPTS: u32 = 6;
/// How many workers a message may take with it.
pub const DEATHS: u32 = 5;

const PARTITIONS: u32 = 8;
const POLICY: Policy = Policy {
    lease: LEASE,
    attempts: ATTEMPTS,
    max_unsettled_deliveries: DEATHS,
    backoff: Backoff {
        first: Duration::from_millis(50),
        factor: 2,
        cap: Duration::from_millis(500),
    },
    concurrency: 16,
    partition_concurrency: 4,
    ..Policy::DEFAULT
};

/// What the handler of a dead letter sends.
pub const DEAD_LETTER_NOTES: Queue<DeadLetterNote> = Queue::new("dead-letter-notes", POLICY);

/// Where a message is. Each step has a queue of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Step {
    /// Fed by the producer.
    First,
    /// Has partitions.
    Second,
    /// The end of the chain.
    Third,
}

impl Step {
    /// All steps, in the order of the chain.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    /// The queue that is read in this step.
    pub fn queue(self) -> Queue<TestMessage> {
        match self {
            Self::First => Queue::new("first", POLICY),
            Self::Second => Queue::with_partitions("second", POLICY, |message| {
                format!("partition{}", message.number % PARTITIONS)
            }),
            Self::Third => Queue::new("third", POLICY),
        }
    }

    /// The step after this one.
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.queue().spec().name)
    }
}

/// A message of the campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestMessage {
    /// Names it through the whole chain.
    pub number: u32,
    /// Who sent it: a new number each time that a step, or the producer, packs it. Two tags of one message in one
    /// step mean that the bus took it from two senders.
    pub tag: u64,
    /// How long each step takes (ms).
    pub work: [u16; 3],
    /// What is wrong with it.
    pub trouble: Option<Trouble>,
}

impl Message for TestMessage {
    const VERSION: u16 = 1;
}

/// Poison: what must end in the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trouble {
    /// The handler of this step panics.
    Panic(Step),
    /// The handler of this step aborts its process.
    Abort(Step),
    /// The body is not a message.
    Undecodable,
    /// The body has a version that nobody reads.
    Version,
}

impl Trouble {
    /// The step that it ends at.
    pub fn step(self) -> Step {
        match self {
            Self::Panic(step) | Self::Abort(step) => step,
            Self::Undecodable | Self::Version => Step::First,
        }
    }

    /// Whether a handler can read it, and so sends a note on its dead letter.
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Panic(_) | Self::Abort(_))
    }

    /// Whether `reason` is what its dead letter should say.
    pub fn explains(self, reason: &str) -> bool {
        match self {
            // The workers of its last attempts may have been killed, or its dead letter could not be written at once.
            Self::Panic(_) => {
                type OfPanic = Cause<'static, Infallible>;
                let exhausted = OfPanic::AttemptsExhausted {
                    attempts: ATTEMPTS,
                    last: None,
                };
                let killed = |times| OfPanic::WorkerDied { times }.to_string();
                reason.starts_with("panicked: poison")
                    || reason == exhausted.to_string()
                    || (1..=DEATHS).any(|times| reason == killed(times))
            }
            Self::Abort(_) => reason.contains("worker died"),
            Self::Undecodable => reason.starts_with("undecodable message body"),
            Self::Version => reason.starts_with("unknown message version"),
        }
    }

    /// The fewest attempts after which it may be a dead letter.
    pub fn attempts(self) -> u32 {
        match self {
            Self::Panic(_) => ATTEMPTS,
            Self::Abort(_) => DEATHS,
            Self::Undecodable | Self::Version => 1,
        }
    }
}

/// A message's name for people and for idempotence keys.
pub fn key(number: u32) -> String {
    format!("m{number}")
}

/// Sent in the same step as a message becomes a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterNote {
    /// The message.
    pub number: u32,
    /// Where it failed.
    pub step: Step,
    /// The dead letter's reason.
    pub reason: String,
}

impl Message for DeadLetterNote {
    const VERSION: u16 = 1;
}

/// Options for a bus of the campaign at `url`.
pub fn options(url: &str) -> RedisOptions {
    RedisOptions {
        url: url.into(),
        namespace: "chaos".to_owned(),
        ca: None,
        waiters: 4,
    }
}
