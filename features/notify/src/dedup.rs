//! Deduplication: each notification is sent to each recipient once a day at most.

use std::time::Duration;

use bus::{BusError, Claim, ClaimField, ClaimHandle, Context, RecordStore};

use crate::records::{DAY, hash_id};

/// The notifications that were sent, by key and recipient.
const SENT: RecordStore = RecordStore {
    name: "notify-sent",
    retention: DAY,
};

/// The claim of a sending. It expires with its record.
const CLAIM: ClaimField = ClaimField::new("claim", Duration::MAX);

/// Claims the sending of the notification with this key to a recipient. `None` when it was sent within a day, or another
/// message has claimed it.
///
/// Several messages may request the same sending, since several identities may have one address. The first claimant sends
/// it, in all its attempts; the others are dropped.
pub(crate) async fn claim_sending(
    cx: &Context,
    key: &str,
    recipient: &str,
    claimant: &str,
) -> Result<Option<ClaimHandle>, BusError> {
    let id = hash_id(&[key, recipient]);
    match cx.claim_as::<()>(claimant, &SENT, &id, CLAIM).await? {
        Claim::Acquired(claim) => Ok(Some(claim)),
        Claim::Held { .. } | Claim::Done(()) => Ok(None),
    }
}
