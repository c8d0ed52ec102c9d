//! The operator's operations on Redis. A script blocks Redis, so each call touches few messages; the loops over the calls are
//! here.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    RedisBus,
    scripts::{
        Cursor, Description, Do, Found, GetLetter, GetStatus, ListLetters, Over, SetPaused,
        TakeLetters, Walk,
    },
};
use crate::{
    Blob, BusError, DeadLetter, DeadLetterPayload, Depth, Envelope, MessageSelector, MessageState,
    QueueAdmin, QueueSpec, QueueStatus, QueuedMessage, blob, queue_admin::per_minute,
};

/// The maximum number of dead letters of a call; `MAX_MESSAGES` in `queue_admin/common.lua`.
const CHUNK: usize = 200;

/// The approximate maximum size in bytes of the messages that a peek reads: a queue may have more than fits into memory.
const MAX_BYTES: usize = 32 * 1024 * 1024;

fn queued_message((place, at, attempts, bytes): Found) -> Option<QueuedMessage> {
    let envelope = blob::decode(&bytes.into()).ok()?;
    let state = match place.as_str() {
        "in flight" => MessageState::InFlight {
            since: timestamp(at),
        },
        "ready" => MessageState::Ready {
            since: timestamp(at),
        },
        _ => MessageState::Delayed { due: timestamp(at) },
    };
    Some(QueuedMessage {
        state,
        attempts,
        envelope,
    })
}

/// A time of Redis, in ms since 1970.
fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn dead_letter(id: String, died_at: i64, description: &[u8]) -> DeadLetter {
    let description: Result<Description, _> = rmp_serde::from_slice(description);
    let (reason, attempts, unreadable) =
        description.unwrap_or_else(|_| ("unreadable".to_owned(), 0, false));
    DeadLetter {
        id,
        reason,
        attempts,
        died_at: timestamp(died_at),
        unreadable,
    }
}

impl RedisBus {
    /// Walks over messages until it has seen all, or has read or changed `max`. Without a maximum, messages that arrive
    /// meanwhile could keep it going without end. Returns the number of messages that it read or changed, and those
    /// that it read.
    async fn walk(
        &self,
        doing: &'static str,
        (over, what): (Over, Do),
        queue: &QueueSpec,
        which: MessageSelector,
        max: usize,
    ) -> Result<(usize, Vec<QueuedMessage>), BusError> {
        let (mut total, mut messages, mut bytes) = (0, Vec::new(), 0);
        let mut from = Cursor::default();
        while total < max && bytes < MAX_BYTES {
            let step = Walk {
                over,
                queue,
                what,
                which,
                wanted: max - total,
                from: &from,
            };
            let (place, beside, count, found) = self.run(doing, &step).await?;
            total += count;
            bytes += found.iter().map(|found| found.3.len()).sum::<usize>();
            // An entry that is not an envelope becomes a dead letter when it is reserved.
            messages.extend(found.into_iter().filter_map(queued_message));
            if place.is_empty() {
                break;
            }
            from = (place, beside);
        }
        Ok((total, messages))
    }

    async fn take_letters(
        &self,
        doing: &'static str,
        requeue: bool,
        queue: &QueueSpec,
        ids: &[String],
    ) -> Result<usize, BusError> {
        let mut total = 0;
        for chunk in ids.chunks(CHUNK) {
            let mut left = chunk;
            while !left.is_empty() {
                let (done, count) = self
                    .run(
                        doing,
                        &TakeLetters {
                            queue,
                            requeue,
                            ids: left,
                        },
                    )
                    .await?;
                total += count;
                left = left.get(done.max(1)..).unwrap_or_default();
            }
        }
        Ok(total)
    }
}

#[async_trait]
impl QueueAdmin for RedisBus {
    async fn status(&self, queue: &QueueSpec) -> Result<QueueStatus, BusError> {
        let (depth, (paused, oldest, last_late), (last, current, seconds), bytes) = self
            .run("reading the state of a queue", &GetStatus { queue })
            .await?;
        let (ready, in_flight, delayed, dead) = depth;
        let ago = |age: i64| u64::try_from(age).ok().map(Duration::from_millis);
        Ok(QueueStatus {
            depth: Depth {
                ready,
                in_flight,
                delayed,
                dead,
            },
            paused,
            oldest: ago(oldest),
            last_late: ago(last_late),
            settled_per_minute: per_minute(last, current, seconds),
            bytes,
        })
    }

    async fn peek(&self, queue: &QueueSpec, max: usize) -> Result<Vec<QueuedMessage>, BusError> {
        let doing = "peeking into a queue";
        let (count, mut found) = self
            .walk(
                doing,
                (Over::Ready, Do::Read),
                queue,
                MessageSelector::All,
                max,
            )
            .await?;
        found.extend(
            self.walk(
                doing,
                (Over::Delayed, Do::Read),
                queue,
                MessageSelector::All,
                max - count,
            )
            .await?
            .1,
        );
        Ok(found)
    }

    async fn message(
        &self,
        queue: &QueueSpec,
        id: Uuid,
    ) -> Result<Option<QueuedMessage>, BusError> {
        let (doing, which) = ("finding a message", MessageSelector::One(id));
        let (count, mut found) = self
            .walk(doing, (Over::Ready, Do::Read), queue, which, 1)
            .await?;
        if count == 0 {
            found = self
                .walk(doing, (Over::Delayed, Do::Read), queue, which, 1)
                .await?
                .1;
        }
        Ok(found.pop().filter(|message| message.envelope.id == id))
    }

    async fn requeue(&self, queue: &QueueSpec, which: MessageSelector) -> Result<usize, BusError> {
        let max = match which {
            MessageSelector::All => self.depth(queue).await?.delayed,
            MessageSelector::One(_) => 1,
        };
        let walk = self.walk(
            "making delayed messages ready",
            (Over::Delayed, Do::Requeue),
            queue,
            which,
            max,
        );
        Ok(walk.await?.0)
    }

    async fn drop_waiting(
        &self,
        queue: &QueueSpec,
        which: MessageSelector,
    ) -> Result<usize, BusError> {
        let (ready, delayed) = match which {
            MessageSelector::All => {
                let depth = self.depth(queue).await?;
                (depth.ready, depth.delayed)
            }
            MessageSelector::One(_) => (1, 1),
        };
        let doing = "dropping messages";
        let dropped = self
            .walk(doing, (Over::Ready, Do::Drop), queue, which, ready)
            .await?
            .0;
        Ok(dropped
            + self
                .walk(doing, (Over::Delayed, Do::Drop), queue, which, delayed)
                .await?
                .0)
    }

    async fn set_paused(&self, queue: &QueueSpec, paused: bool) -> Result<(), BusError> {
        self.run("pausing or resuming a queue", &SetPaused { queue, paused })
            .await
    }

    async fn dead(
        &self,
        queue: &QueueSpec,
        reason: &str,
        max: usize,
    ) -> Result<Vec<DeadLetter>, BusError> {
        let mut letters = Vec::new();
        let mut from = Cursor::default();
        while letters.len() < max {
            let (place, beside, found) = self
                .run("listing dead letters", &ListLetters { queue, from: &from })
                .await?;
            let found = found
                .into_iter()
                .map(|(id, died_at, description)| dead_letter(id, died_at, &description));
            letters.extend(found.filter(|letter| letter.reason.contains(reason)));
            if place.is_empty() {
                break;
            }
            from = (place, beside);
        }
        letters.truncate(max);
        Ok(letters)
    }

    async fn dead_letter(
        &self,
        queue: &QueueSpec,
        id: &str,
    ) -> Result<Option<(DeadLetter, DeadLetterPayload)>, BusError> {
        let found = self
            .run("finding a dead letter", &GetLetter { queue, id })
            .await?;
        Ok(found.map(|(died_at, description, bytes)| {
            let bytes = Blob::from(bytes);
            let payload = blob::decode::<Envelope>(&bytes).map(DeadLetterPayload::Message);
            let letter = dead_letter(id.to_owned(), died_at, &description);
            (
                letter,
                payload.unwrap_or(DeadLetterPayload::Unreadable(bytes.to_vec())),
            )
        }))
    }

    async fn requeue_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError> {
        self.take_letters("requeueing dead letters", true, queue, ids)
            .await
    }

    async fn drop_dead(&self, queue: &QueueSpec, ids: &[String]) -> Result<usize, BusError> {
        self.take_letters("dropping dead letters", false, queue, ids)
            .await
    }
}
