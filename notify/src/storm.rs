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
//! The window counts before the sending, and counts each try: one that fails has used its place. Two who count at once
//! may use a place for nothing. Either errs towards a digest, never towards a storm.

use std::time::Duration;

use bus::{BusError, Context, Fact, Ledger, Message};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    DigestLine, Notification,
    memory::{name, unreadable},
};

/// How much each recipient was sent of late.
const WINDOWS: Ledger = Ledger { name: "notify-windows", retention: Duration::from_secs(600) };
/// What was held back. A digest that became a dead letter names it only, so it is kept for as long as somebody may take to
/// look at that letter and release it.
const HELD: Ledger = Ledger { name: "notify-held", retention: Duration::from_secs(7 * 24 * 3600) };

const WINDOW: &str = "window";
const TOLD: &str = "told";

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
    /// Sets those apart who count at once.
    by: u64,
}

/// What was held back from one recipient within one minute, to be sent as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The first that was held back: what it says of channel, recipient and task group is the digest's.
    pub first: Notification,
    /// Whom it is for.
    pub recipient: String,
    /// Which minute since 1970.
    pub minute: i64,
}

impl Message for Digest {
    const VERSION: u16 = 1;
}

/// Takes a place in the recipient's window of this minute, if one of `limit` is left.
pub(crate) async fn admit(cx: &Context, channel: &str, recipient: &str, limit: u32) -> Result<bool, BusError> {
    let id = name(&[channel, recipient]);
    for _ in 0..TRIES {
        let minute = cx.clock().now().as_second().div_euclid(MINUTE);
        let before: Option<Window> = cx.recorded(&WINDOWS, &id).await?.slot(WINDOW).map_err(unreadable(&id))?;
        let count = before.as_ref().filter(|window| window.minute == minute).map_or(0, |window| window.count);
        if count >= limit {
            return Ok(false);
        }
        let after = Window { minute, count: count + 1, by: cx.clock().random() };
        cx.record_now(vec![WINDOWS.swap(&id, WINDOW, before.as_ref(), Some(&after))?]).await?;
        let found: Option<Window> = cx.recorded(&WINDOWS, &id).await?.slot(WINDOW).map_err(unreadable(&id))?;
        if found.as_ref() == Some(&after) {
            return Ok(true);
        }
    }
    // So many at once are a storm.
    Ok(false)
}

impl Digest {
    /// The digest of this minute, that `notification` belongs to.
    pub(crate) fn begun_by(notification: &Notification, recipient: &str, now: Timestamp) -> Self {
        let minute = now.as_second().div_euclid(MINUTE);
        Self { first: notification.clone(), recipient: recipient.to_owned(), minute }
    }

    /// The same for all that is held from one recipient within one minute.
    pub(crate) fn key(&self) -> String {
        name(&[&self.first.channel, &self.recipient, &self.minute.to_string()])
    }

    /// That `notification` is held back.
    pub(crate) fn holds(&self, notification: &Notification) -> Result<Fact, BusError> {
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
        self.minute.saturating_add(1).saturating_mul(MINUTE).saturating_add(GRACE)
    }

    /// What is held and was not told yet, and what is to be recorded once it is. `None` when that is forgotten.
    pub(crate) async fn untold(&self, cx: &Context) -> Result<Option<(Vec<DigestLine>, Fact)>, BusError> {
        let id = self.key();
        let record = cx.recorded(&HELD, &id).await?;
        if record.is_empty() {
            return Ok(None);
        }
        let mut lines: Vec<DigestLine> = record.entries().map_err(unreadable(&id))?;
        let told: usize = record.slot(TOLD).map_err(unreadable(&id))?.unwrap_or(0);
        let fact = HELD.set(&id, TOLD, &lines.len())?;
        lines.drain(..told.min(lines.len()));
        Ok(Some((lines, fact)))
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
