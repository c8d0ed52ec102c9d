//! What is remembered of recipients: what they were sent, how much of late, and who cannot be reached.

use std::time::Duration;

use bus::{
    Bus, BusError, Claim, ClaimField, ClaimHandle, Context, DecodeError, Field, RecordStore,
    RecordUpdate,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How long the same is not sent again, and a recipient is left alone.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Who was sent what.
const SENT: RecordStore = RecordStore {
    name: "notify-sent",
    retention: DAY,
};
/// Who is left alone.
const MUTED: RecordStore = RecordStore {
    name: "notify-muted",
    retention: DAY,
};
/// The tag of all who are left alone.
const ALL_MUTED: &str = "muted";
/// The most of them that are listed.
const MAX_LISTED: usize = 1000;

/// Who sends it. It does not run out before the record is forgotten.
const CLAIM: ClaimField = ClaimField::new("claim", Duration::MAX);
const WHO: Field<Muted> = Field::new("who");

/// A recipient that is left alone, since nothing reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Muted {
    /// The channel on which it cannot be reached.
    pub channel: String,
    /// Who.
    pub recipient: String,
    /// Since when: it ends a day later.
    pub since: Timestamp,
    /// What the peer said.
    pub problem: String,
}

/// Everyone who is left alone at `now`, the newest first.
pub async fn muted(bus: &dyn Bus, now: Timestamp) -> Result<Vec<Muted>, BusError> {
    let ids: Vec<_> = bus
        .indexed(&MUTED, ALL_MUTED, 0..MAX_LISTED)
        .await?
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    let mut muted = Vec::new();
    for (record, id) in bus.records(&MUTED, &ids).await?.into_iter().zip(&ids) {
        let who: Option<Muted> = record.field(WHO).map_err(unreadable(id))?;
        muted.extend(who.filter(|who| who.lasts(now)));
    }
    Ok(muted)
}

/// Lets `recipient` be sent to again on `channel`; false where it was not left alone.
pub async fn unmute(
    bus: &dyn Bus,
    channel: &str,
    recipient: &str,
    now: Timestamp,
) -> Result<bool, BusError> {
    let id = name(&[channel, recipient]);
    let record = bus
        .records(&MUTED, std::slice::from_ref(&id))
        .await?
        .pop()
        .unwrap_or_default();
    let who: Option<Muted> = record.field(WHO).map_err(unreadable(&id))?;
    bus.push_with(
        Vec::new(),
        vec![MUTED.erase(&id), MUTED.remove_from_index(&id, ALL_MUTED)],
    )
    .await?;
    Ok(who.is_some_and(|who| who.lasts(now)))
}

impl Muted {
    /// What records it.
    pub(crate) fn updates(&self) -> Result<Vec<RecordUpdate>, BusError> {
        let id = name(&[&self.channel, &self.recipient]);
        Ok(vec![
            MUTED.set(&id, WHO, self)?,
            MUTED.add_to_index(&id, ALL_MUTED),
        ])
    }

    /// Whether nothing reaches this recipient now.
    pub(crate) async fn found(
        cx: &Context,
        channel: &str,
        recipient: &str,
    ) -> Result<Option<Self>, BusError> {
        let id = name(&[channel, recipient]);
        let who: Option<Self> = cx
            .recorded(&MUTED, &id)
            .await?
            .field(WHO)
            .map_err(unreadable(&id))?;
        Ok(who.filter(|who| who.lasts(cx.clock().now())))
    }

    fn lasts(&self, now: Timestamp) -> bool {
        now.duration_since(self.since).unsigned_abs() < DAY
    }
}

/// Claims the one sending of the notification with this key to a recipient. `None` when it was sent within a day, or is
/// another one's to send.
///
/// Several messages may ask for the same, since several identities may have one address. The first that claims it sends
/// it, however often it takes; the others leave it to that one.
pub(crate) async fn claim_sending(
    cx: &Context,
    key: &str,
    recipient: &str,
    claimant: &str,
) -> Result<Option<ClaimHandle>, BusError> {
    let id = name(&[key, recipient]);
    match cx.claim_as::<()>(claimant, &SENT, &id, CLAIM).await? {
        Claim::Acquired(claim) => Ok(Some(claim)),
        Claim::Held { .. } | Claim::Done(()) => Ok(None),
    }
}

/// The name of a record: short, whatever strangers put into its parts, and no address can be read from it.
pub(crate) fn name(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn unreadable(id: &str) -> impl Fn(DecodeError) -> BusError {
    move |source| BusError::Record {
        record: id.to_owned(),
        source,
    }
}
