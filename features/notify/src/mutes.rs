//! Mutes: a recipient that does not exist is sent nothing for a day.

use bus::{Bus, BusError, Context, Field, RecordStore, RecordUpdate};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::records::{DAY, hash_id, unreadable};

/// The muted recipients.
const MUTED: RecordStore = RecordStore {
    name: "notify-muted",
    retention: DAY,
};
/// The index of all muted recipients.
const ALL_MUTED: &str = "muted";
/// The most mutes in a list.
const MAX_LISTED: usize = 1000;

const MUTE: Field<Muted> = Field::new("mute");

/// A muted recipient: the peer reported that it does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Muted {
    /// The channel on which it cannot be reached.
    pub channel: String,
    /// Its address there.
    pub recipient: String,
    /// The begin of the mute, which ends a day later.
    pub since: Timestamp,
    /// The answer of the peer.
    pub problem: String,
}

/// The recipients that are muted at `now`, the newest first.
pub async fn muted(bus: &dyn Bus, now: Timestamp) -> Result<Vec<Muted>, BusError> {
    let ids: Vec<_> = bus
        .indexed(&MUTED, ALL_MUTED, 0..MAX_LISTED)
        .await?
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let mut muted = Vec::new();
    for (record, id) in bus.records(&MUTED, &ids).await?.into_iter().zip(&ids) {
        let mute: Option<Muted> = record.field(MUTE).map_err(unreadable(id))?;
        muted.extend(mute.filter(|mute| mute.is_active(now)));
    }
    Ok(muted)
}

/// Unmutes `recipient` on `channel`; false where it was not muted.
pub async fn unmute(
    bus: &dyn Bus,
    channel: &str,
    recipient: &str,
    now: Timestamp,
) -> Result<bool, BusError> {
    let id = hash_id(&[channel, recipient]);
    let record = bus
        .records(&MUTED, std::slice::from_ref(&id))
        .await?
        .pop()
        .unwrap_or_default();
    let mute: Option<Muted> = record.field(MUTE).map_err(unreadable(&id))?;
    bus.push_with(
        Vec::new(),
        vec![MUTED.erase(&id), MUTED.remove_from_index(&id, ALL_MUTED)],
    )
    .await?;
    Ok(mute.is_some_and(|mute| mute.is_active(now)))
}

impl Muted {
    /// The updates that record the mute.
    pub(crate) fn updates(&self) -> Result<Vec<RecordUpdate>, BusError> {
        let id = hash_id(&[&self.channel, &self.recipient]);
        Ok(vec![
            MUTED.set(&id, MUTE, self)?,
            MUTED.add_to_index(&id, ALL_MUTED),
        ])
    }

    /// The active mute of a recipient.
    pub(crate) async fn lookup(
        cx: &Context,
        channel: &str,
        recipient: &str,
    ) -> Result<Option<Self>, BusError> {
        let id = hash_id(&[channel, recipient]);
        let mute: Option<Self> = cx
            .recorded(&MUTED, &id)
            .await?
            .field(MUTE)
            .map_err(unreadable(&id))?;
        Ok(mute.filter(|mute| mute.is_active(cx.clock().now())))
    }

    fn is_active(&self, now: Timestamp) -> bool {
        now.duration_since(self.since).unsigned_abs() < DAY
    }
}
