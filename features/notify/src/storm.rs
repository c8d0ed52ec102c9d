//! Too much at once for one recipient becomes one digest.
//!
//! # How nothing is lost between the two
//!
//! Each recipient has a window: how many notifications it was sent within the current minute. A notification that finds
//! the window full is *held*: in one atomic step its line is added to the list of that recipient and minute, the message
//! ends, and a [`Digest`] of that list is sent, once by its key however many are held. When the minute is over the digest
//! sends whatever the list holds, and notes how much that was.
//!
//! A line may come late: its minute was chosen by a process that was stopped before its step was written. So the digest
//! stays for [`WATCH`] and looks once more. What it finds beyond what it noted becomes a second digest.
//!
//! The window counts before the sending, and a sending that fails gives its place back, so that it counts what was sent. A
//! process that dies between the two has used a place for nothing: that errs towards a digest, never towards a storm.

use std::time::Duration;

use bus::{BusError, Context, Field, Message, RecordStore, RecordUpdate};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    DigestLine, Notification,
    memory::{name, unreadable},
};

/// How much each recipient was sent of late.
const WINDOWS: RecordStore = RecordStore {
    name: "notify-windows",
    retention: Duration::from_secs(600),
};
/// The notifications of digests. A digest that became a dead letter holds only their names, so they are kept for the time
/// in which an operator may requeue it.
const HELD: RecordStore = RecordStore {
    name: "notify-held",
    retention: Duration::from_secs(7 * 24 * 3600),
};

const WINDOW: Field<Window> = Field::new("window");
const TOLD: Field<usize> = Field::new("told");

/// How often a place in a window is tried for, while others try for it too.
const TRIES: usize = 20;
/// How long after its minute a digest is sent: clocks differ.
const GRACE: i64 = 2;
/// How long a digest looks for lines that come late.
const WATCH: i64 = 600;
/// The length of a window, in seconds.
const MINUTE: i64 = 60;

/// What a recipient was sent within a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    minute: i64,
    count: u32,
}

/// What was held back from one recipient within one minute, to be sent as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The first that was held back: what it says of channel, recipient and task group is the digest's.
    pub first: Notification,
    /// The recipient.
    pub recipient: String,
    /// Which minute since 1970.
    pub minute: i64,
}

impl Message for Digest {
    const VERSION: u16 = 1;
}

/// A place in a recipient's window.
pub(crate) struct Admission {
    id: String,
    minute: i64,
}

/// Takes a place in the recipient's window of this minute, if one of `limit` is left.
pub(crate) async fn admit(
    cx: &Context,
    channel: &str,
    recipient: &str,
    limit: u32,
) -> Result<Option<Admission>, BusError> {
    let id = name(&[channel, recipient]);
    let minute = cx.clock().now().as_second().div_euclid(MINUTE);
    let counted = |before: Option<&Window>| {
        let count = before
            .filter(|window| window.minute == minute)
            .map_or(0, |window| window.count);
        (count < limit).then_some(count + 1)
    };
    // When too many are counted at once for a place to be taken, that is a storm too.
    let is_admitted = count(cx, &id, minute, counted).await?;
    Ok(is_admitted.then_some(Admission { id, minute }))
}

impl Admission {
    /// Gives the place back: nothing was sent.
    pub(crate) async fn give_back(self, cx: &Context) -> Result<(), BusError> {
        let Self { id, minute } = self;
        let counted = |before: Option<&Window>| {
            before
                .filter(|window| window.minute == minute)?
                .count
                .checked_sub(1)
        };
        count(cx, &id, minute, counted).await.map(drop)
    }
}

/// Counts in a window; false where `counted` gives no new count, or others count at once again and again.
async fn count(
    cx: &Context,
    id: &str,
    minute: i64,
    counted: impl Fn(Option<&Window>) -> Option<u32>,
) -> Result<bool, BusError> {
    for _ in 0..TRIES {
        let before: Option<Window> = cx
            .recorded(&WINDOWS, id)
            .await?
            .field(WINDOW)
            .map_err(unreadable(id))?;
        let Some(count) = counted(before.as_ref()) else {
            return Ok(false);
        };
        let after = Window { minute, count };
        let change = WINDOWS.compare_and_set(id, WINDOW, before.as_ref(), Some(&after))?;
        if cx.compare_and_set(change, Vec::new()).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Digest {
    /// The digest of this minute, that `notification` belongs to.
    pub(crate) fn begun_by(notification: &Notification, recipient: &str, now: Timestamp) -> Self {
        let minute = now.as_second().div_euclid(MINUTE);
        Self {
            first: notification.clone(),
            recipient: recipient.to_owned(),
            minute,
        }
    }

    /// The same for all that is held from one recipient within one minute.
    pub(crate) fn key(&self) -> String {
        name(&[
            &self.first.channel,
            &self.recipient,
            &self.minute.to_string(),
        ])
    }

    /// That `notification` is held back.
    pub(crate) fn holds(&self, notification: &Notification) -> Result<RecordUpdate, BusError> {
        let line = DigestLine {
            status: notification.status,
            subject: notification.subject.clone(),
            link: notification.links.task.clone(),
        };
        HELD.add(&self.key(), &line)
    }

    /// How long it is until it is sent; zero when that is now, or was before.
    pub(crate) fn due_in(&self, now: Timestamp) -> Duration {
        seconds(self.due() - now.as_second())
    }

    /// How long it is until nothing more can be held.
    pub(crate) fn over_in(&self, now: Timestamp) -> Duration {
        seconds(self.due() + WATCH - now.as_second())
    }

    fn due(&self) -> i64 {
        self.minute
            .saturating_add(1)
            .saturating_mul(MINUTE)
            .saturating_add(GRACE)
    }

    /// What is held and was not told yet, and what is to be recorded once it is. `None` when that is forgotten.
    pub(crate) async fn untold(
        &self,
        cx: &Context,
    ) -> Result<Option<(Vec<DigestLine>, RecordUpdate)>, BusError> {
        let id = self.key();
        let record = cx.recorded(&HELD, &id).await?;
        if record.is_empty() {
            return Ok(None);
        }
        let mut lines: Vec<DigestLine> = record.events().map_err(unreadable(&id))?;
        let told: usize = record.field(TOLD).map_err(unreadable(&id))?.unwrap_or(0);
        let update = HELD.set(&id, TOLD, &lines.len())?;
        lines.drain(..told.min(lines.len()));
        Ok(Some((lines, update)))
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
