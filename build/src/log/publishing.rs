//! The publication of a build's updates on its target.

use bus::{BusError, Claim, Context};

use super::{BuildLog, OPEN, end::not_published};
use crate::{
    Answer, Phid,
    record::{BuildEventKind, field},
};

impl BuildLog {
    /// Claims the right to send the build's answer, which must not be sent twice.
    pub async fn claim_answer(&self, cx: &Context, target: &Phid) -> Result<Claim<()>, BusError> {
        cx.claim(&self.store, target.as_str(), field::CLAIM).await
    }

    /// Records an answer that the publisher sent to the target.
    pub fn record_sent(&self, cx: &Context, target: &Phid, answer: Answer) -> Result<(), BusError> {
        self.note(cx, target, BuildEventKind::Sent(answer))
    }

    /// Records that the publisher sent `work` to the target.
    pub fn record_working(&self, cx: &Context, target: &Phid, what: &str) -> Result<(), BusError> {
        let what = what.to_owned();
        self.note(cx, target, BuildEventKind::Published { what })
    }

    /// Records at once the address of a link that is about to be created. A link that the target has later is then known
    /// to be ours.
    pub async fn record_link(
        &self,
        cx: &Context,
        target: &Phid,
        url: &str,
    ) -> Result<(), BusError> {
        cx.record_now(vec![self.store.set(
            target.as_str(),
            field::LINK,
            &url.to_owned(),
        )?])
        .await
    }

    /// Records a link on the target that is not ours, as [`BuildEventKind::Conflict`].
    pub fn record_conflict(
        &self,
        cx: &Context,
        target: &Phid,
        conflict: BuildEventKind,
    ) -> Result<(), BusError> {
        self.note(cx, target, conflict)
    }

    /// Closes a build whose final update was published, or needs no publishing, as `kind` tells.
    pub fn close(&self, cx: &Context, target: &Phid, kind: BuildEventKind) -> Result<(), BusError> {
        for change in self.closed(target, kind, cx.clock().now())? {
            cx.record(change);
        }
        Ok(())
    }

    /// Records that the publisher gave up on the build's answer, for this reason. An operator can still requeue its dead
    /// letter.
    pub fn give_up_publishing(
        &self,
        cx: &Context,
        target: &Phid,
        reason: &str,
    ) -> Result<(), BusError> {
        self.note(cx, target, not_published(reason))?;
        cx.record(self.store.remove_from_index(target.as_str(), OPEN));
        Ok(())
    }
}
