//! The throttle: notifications beyond a recipient's rate limit become one digest.
//!
//! # No notification is lost between throttle and digest
//!
//! Each recipient has a window: the number of notifications that it was sent within the current minute. A notification that
//! finds the window full is *held*: one atomic step adds its line to the list of that recipient and minute, settles the
//! message, and sends a [`Digest`] of that list, deduplicated by its key. When the minute is over, the digest sends the lines
//! of the list, and records their number.
//!
//! A line may be added late: a process chose the minute, and was suspended before its step was written. So the digest is
//! deferred for [`LATE_LINES`] and then reads the list once more. Lines beyond the recorded number become a second digest.
//!
//! The window counts before the sending, and a sending that fails releases its count. A process that dies between the two
//! has used up a count: the recipient then gets a digest too early, and never more than the limit.

use std::time::Duration;

use bus::{BusError, Context, Field, Message, RecordStore, RecordUpdate};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    DigestLine, Notification,
    records::{hash_id, unreadable},
};

/// The windows, by recipient.
const WINDOWS: RecordStore = RecordStore {
    name: "notify-windows",
    retention: Duration::from_secs(600),
};
/// The lines of digests. A digest that became a dead letter holds only their key, so they are kept while an operator may
/// requeue it.
const HELD: RecordStore = RecordStore {
    name: "notify-held",
    retention: Duration::from_secs(7 * 24 * 3600),
};

const WINDOW: Field<Window> = Field::new("window");
const SENT: Field<usize> = Field::new("sent");

/// The attempts to count in a window, while others count in it too.
const TRIES: usize = 20;
/// The seconds between the end of a minute and its digest: clocks differ.
const GRACE: i64 = 2;
/// The seconds for which a digest accepts lines that are added late.
const LATE_LINES: i64 = 600;
/// The length of a window, in seconds.
const MINUTE: i64 = 60;

/// The number of notifications that a recipient was sent within a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    minute: i64,
    count: u32,
}

/// The digest of the notifications to one recipient that were held within one minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The first notification that was held. The digest has its channel, recipient and task group.
    pub first: Notification,
    /// The recipient's address on the channel.
    pub recipient: String,
    /// The minute, counted since 1970.
    pub minute: i64,
}

impl Message for Digest {
    const VERSION: u16 = 1;
}

/// A count in a recipient's window.
pub(crate) struct Admission {
    id: String,
    minute: i64,
}

/// Counts a notification in the recipient's window of this minute; `None` where `limit` is reached.
pub(crate) async fn admit(
    cx: &Context,
    channel: &str,
    recipient: &str,
    limit: u32,
) -> Result<Option<Admission>, BusError> {
    let id = hash_id(&[channel, recipient]);
    let minute = cx.clock().now().as_second().div_euclid(MINUTE);
    let counted = |before: Option<&Window>| {
        let count = before
            .filter(|window| window.minute == minute)
            .map_or(0, |window| window.count);
        (count < limit).then_some(count + 1)
    };
    // So much contention means that the limit is exceeded too.
    let is_admitted = count(cx, &id, minute, counted).await?;
    Ok(is_admitted.then_some(Admission { id, minute }))
}

impl Admission {
    /// Releases the count: nothing was sent.
    pub(crate) async fn release(self, cx: &Context) -> Result<(), BusError> {
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

/// Counts in a window; false where `counted` returns no new count, or after [`TRIES`] conflicts with others.
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
    /// The digest of this minute, with `notification` as its first.
    pub(crate) fn new(notification: &Notification, recipient: &str, now: Timestamp) -> Self {
        let minute = now.as_second().div_euclid(MINUTE);
        Self {
            first: notification.clone(),
            recipient: recipient.to_owned(),
            minute,
        }
    }

    /// The deduplication key: the same for all notifications of a recipient and minute.
    pub(crate) fn key(&self) -> String {
        hash_id(&[
            &self.first.channel,
            &self.recipient,
            &self.minute.to_string(),
        ])
    }

    /// The update that adds the line of `notification`.
    pub(crate) fn line(&self, notification: &Notification) -> Result<RecordUpdate, BusError> {
        let line = DigestLine {
            status: notification.status,
            subject: notification.subject.clone(),
            link: notification.links.task.clone(),
        };
        HELD.add(&self.key(), &line)
    }

    /// The time until it is sent; zero when it is due.
    pub(crate) fn due_in(&self, now: Timestamp) -> Duration {
        seconds(self.due() - now.as_second())
    }

    /// The time until it accepts no more lines.
    pub(crate) fn closes_in(&self, now: Timestamp) -> Duration {
        seconds(self.due() + LATE_LINES - now.as_second())
    }

    fn due(&self) -> i64 {
        self.minute
            .saturating_add(1)
            .saturating_mul(MINUTE)
            .saturating_add(GRACE)
    }

    /// The lines that were not sent yet, and the update that records them as sent. `None` when the list has expired.
    pub(crate) async fn unsent(
        &self,
        cx: &Context,
    ) -> Result<Option<(Vec<DigestLine>, RecordUpdate)>, BusError> {
        let id = self.key();
        let record = cx.recorded(&HELD, &id).await?;
        if record.is_empty() {
            return Ok(None);
        }
        let mut lines: Vec<DigestLine> = record.events().map_err(unreadable(&id))?;
        let sent: usize = record.field(SENT).map_err(unreadable(&id))?.unwrap_or(0);
        let update = HELD.set(&id, SENT, &lines.len())?;
        lines.drain(..sent.min(lines.len()));
        Ok(Some((lines, update)))
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
