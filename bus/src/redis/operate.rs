//! What operators do, on Redis. The scripts touch little at a time, since Redis serves nobody else meanwhile; the loops
//! over them are here.

use std::{sync::LazyLock, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Script;
use uuid::Uuid;

use super::RedisBus;
use crate::{
    Blob, BusError, DeadLetter, Depth, Envelope, MessageState, Operate, QueueSpec, QueueStatus, Remains, Waiting,
    Which, blob, operate::per_minute,
};

macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                include_str!("scripts/common.lua"),
                include_str!("scripts/operate/common.lua"),
                include_str!(concat!("scripts/operate/", $name, ".lua"))
            ))
        })
    };
}

static STATUS: LazyLock<Script> = script!("status");
static READY: LazyLock<Script> = script!("ready");
static DELAYED: LazyLock<Script> = script!("delayed");
static PAUSE: LazyLock<Script> = script!("pause");
static LETTERS: LazyLock<Script> = script!("letters");
static LETTER: LazyLock<Script> = script!("letter");
static TAKE_LETTERS: LazyLock<Script> = script!("take_letters");

/// `MOST` in `operate/common.lua`.
const CHUNK: usize = 200;

/// The most bytes of messages that are read to be shown: a queue may hold more than fits into memory.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Where a script ended: the place, and what tells apart what is in the same place. The place is empty at the end.
type Cursor = (String, String);

/// A message as the scripts that walk return it: where it is, since or until when (ms), attempts, envelope.
type Found = (String, i64, u32, Vec<u8>);

/// A walk over the messages of a queue.
struct Walk<'a> {
    doing: &'static str,
    how: &'static str,
    queue: &'a QueueSpec,
    which: Which,
    /// The most messages that are wanted: without an end, what arrives meanwhile could keep it going for ever.
    max: usize,
}

impl Walk<'_> {
    /// Runs `script` until it comes to its end or has what is wanted. Returns how many messages that was, and those
    /// that it read.
    async fn run(&self, bus: &RedisBus, script: &Script) -> Result<(usize, Vec<Waiting>), BusError> {
        let id: &[u8] = match &self.which {
            Which::All => &[],
            Which::One(id) => id.as_bytes(),
        };
        let (mut total, mut waiting, mut bytes) = (0, Vec::new(), 0);
        let (mut place, mut beside) = Cursor::default();
        while total < self.max && bytes < MOST_BYTES {
            let wanted = self.max - total;
            let (next_place, next_beside, count, found): (String, String, usize, Vec<Found>) = bus
                .run(self.doing, script, |invocation| {
                    invocation.arg(self.queue.name).arg(self.how).arg(id).arg(wanted).arg(&place).arg(&beside);
                })
                .await?;
            total += count;
            bytes += found.iter().map(|found| found.3.len()).sum::<usize>();
            // What is no envelope of ours becomes a dead letter when it is reserved.
            waiting.extend(found.into_iter().filter_map(waiting_message));
            if next_place.is_empty() {
                break;
            }
            (place, beside) = (next_place, next_beside);
        }
        Ok((total, waiting))
    }
}

fn waiting_message((place, at, attempts, bytes): Found) -> Option<Waiting> {
    let envelope = blob::decode(&bytes.into()).ok()?;
    let state = match place.as_str() {
        "held" => MessageState::InFlight { since: timestamp(at) },
        "ready" => MessageState::Ready { since: timestamp(at) },
        _ => MessageState::Delayed { due: timestamp(at) },
    };
    Some(Waiting { state, attempts, envelope })
}

/// A time of Redis.
fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn dead_letter(id: String, died_at: i64, record: &[u8]) -> DeadLetter {
    let (reason, attempts) = rmp_serde::from_slice(record).unwrap_or_else(|_| ("unreadable".to_owned(), 0));
    DeadLetter { id, reason, attempts, died_at: timestamp(died_at) }
}

impl RedisBus {
    async fn take_letters(
        &self,
        doing: &'static str,
        how: &str,
        queue: &QueueSpec,
        ids: &[String],
    ) -> Result<usize, BusError> {
        let mut total = 0;
        for chunk in ids.chunks(CHUNK) {
            let mut left = chunk;
            while !left.is_empty() {
                let (done, count): (usize, usize) = self
                    .run(doing, &TAKE_LETTERS, |invocation| {
                        invocation.arg(queue.name).arg(how).arg(left);
                    })
                    .await?;
                total += count;
                left = left.get(done.max(1)..).unwrap_or_default();
            }
        }
        Ok(total)
    }
}

#[async_trait]
impl Operate for RedisBus {
    async fn status(&self, queue: &QueueSpec) -> Result<QueueStatus, BusError> {
        let (depth, (paused, oldest, last_late), (last, current, seconds)): (
            (usize, usize, usize, usize),
            (bool, i64, i64),
            (u64, u64, u64),
        ) = self
            .run("asking how a queue is doing", &STATUS, |invocation| {
                invocation.arg(queue.name);
            })
            .await?;
        let (ready, in_flight, delayed, dead) = depth;
        let ago = |age: i64| u64::try_from(age).ok().map(Duration::from_millis);
        Ok(QueueStatus {
            depth: Depth { ready, in_flight, delayed, dead },
            paused,
            oldest: ago(oldest),
            last_late: ago(last_late),
            finished_per_minute: per_minute(last, current, seconds),
        })
    }

    async fn peek(&self, queue: &QueueSpec, max: usize) -> Result<Vec<Waiting>, BusError> {
        let walk = Walk { doing: "looking into a queue", how: "read", queue, which: Which::All, max };
        let (count, mut found) = walk.run(self, &READY).await?;
        found.extend(Walk { max: max - count, ..walk }.run(self, &DELAYED).await?.1);
        Ok(found)
    }

    async fn message(&self, queue: &QueueSpec, id: Uuid) -> Result<Option<Waiting>, BusError> {
        let walk = Walk { doing: "looking for a message", how: "read", queue, which: Which::One(id), max: 1 };
        let (count, mut found) = walk.run(self, &READY).await?;
        if count == 0 {
            found = walk.run(self, &DELAYED).await?.1;
        }
        Ok(found.pop().filter(|waiting| waiting.envelope.id == id))
    }

    async fn requeue(&self, queue: &QueueSpec, which: Which) -> Result<usize, BusError> {
        let max = match which {
            Which::All => self.depth(queue).await?.delayed,
            Which::One(_) => 1,
        };
        let walk = Walk { doing: "making delayed messages ready", how: "requeue", queue, which, max };
        Ok(walk.run(self, &DELAYED).await?.0)
    }

    async fn drop_waiting(&self, queue: &QueueSpec, which: Which) -> Result<usize, BusError> {
        let (ready, delayed) = match which {
            Which::All => {
                let depth = self.depth(queue).await?;
                (depth.ready, depth.delayed)
            }
            Which::One(_) => (1, 1),
        };
        let walk = Walk { doing: "throwing messages away", how: "drop", queue, which, max: ready };
        let dropped = walk.run(self, &READY).await?.0;
        Ok(dropped + Walk { max: delayed, ..walk }.run(self, &DELAYED).await?.0)
    }

    async fn set_paused(&self, queue: &QueueSpec, paused: bool) -> Result<(), BusError> {
        self.run("pausing or resuming a queue", &PAUSE, |invocation| {
            invocation.arg(queue.name).arg(if paused { "1" } else { "0" });
        })
        .await
    }

    async fn dead(&self, queue: &QueueSpec, reason: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        let mut letters = Vec::new();
        let (mut from, mut passed) = Cursor::default();
        while letters.len() < max {
            let (next, beside, found): (String, String, Vec<(String, i64, Vec<u8>)>) = self
                .run("listing dead letters", &LETTERS, |invocation| {
                    invocation.arg(queue.name).arg(&from).arg(&passed);
                })
                .await?;
            let found = found.into_iter().map(|(id, died_at, record)| dead_letter(id, died_at, &record));
            letters.extend(found.filter(|letter| letter.reason.contains(reason)));
            if next.is_empty() {
                break;
            }
            (from, passed) = (next, beside);
        }
        letters.truncate(max);
        Ok(letters)
    }

    async fn dead_letter(&self, queue: &QueueSpec, id: &str) -> Result<Option<(DeadLetter, Remains)>, BusError> {
        let found: Option<(i64, Vec<u8>, Vec<u8>)> = self
            .run("looking for a dead letter", &LETTER, |invocation| {
                invocation.arg(queue.name).arg(id);
            })
            .await?;
        Ok(found.map(|(died_at, record, bytes)| {
            let bytes = Blob::from(bytes);
            let remains = blob::decode::<Envelope>(&bytes).map(Remains::Message);
            (dead_letter(id.to_owned(), died_at, &record), remains.unwrap_or(Remains::Unreadable(bytes.to_vec())))
        }))
    }

    async fn requeue_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError> {
        self.take_letters("requeueing dead letters", "requeue", queue, ids).await
    }

    async fn drop_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError> {
        self.take_letters("throwing dead letters away", "drop", queue, ids).await
    }
}
