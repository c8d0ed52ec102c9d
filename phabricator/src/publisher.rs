//! Publishes the outcome of a build on its target.
//!
//! # One answer, sent once
//!
//! A link is made once, since its key is unique on its target, and the first message that ends a target is the one that
//! counts. Units have no such guard: the server appends them each time. The server stores a unit and its message in one
//! step, and no call lists units. So a delivery claims the unit in the record of the build before it sends it (see
//! [`bus::Claim`]). A delivery that finds the claim of another one waits until that claim expires, and then:
//!
//! * If the message ends the target, the target's status shows whether it arrived: the server acts some seconds after it
//!   took a message. While the target still waits, the delivery sends the answer again.
//! * If the message ends nothing, as for a push, no call shows whether it arrived. The delivery leaves the unit out: the
//!   link is the answer, and a unit that is shown twice would be worse than one that may be missing.
//!
//! A call that certainly had no effect on the server releases the claim.
//!
//! # Links
//!
//! A link's key is unique on its target. Harbormaster shows the keys, but not the addresses of links. So the publisher
//! records the address before it creates a link. A target that has the key already without such a record has the link of
//! another service: the publisher logs and records this conflict.
//!
//! An end without a push gets a link as well, before the message that ends the target: Phorge shows links on the revision
//! page, and hides units that passed or were skipped.

mod answer;
mod call;
mod remarkup;
mod test_result;
mod text;

pub use answer::answer;
pub(crate) use call::PUSHED_KEY;
pub use test_result::TestResultPublisher;

use std::time::Duration;

use async_trait::async_trait;
use bus::{
    BusError, Cause, Claim, ClaimHandle, Context, Handler, Outcome, Queue, Requeue, Retry,
    Retryable,
};
use thiserror::Error;
use tracing::{debug, error, info, warn};
use url::Url;

use self::call::{Link, PublishCall, calls_for};
use crate::{
    Conduit, ConduitError,
    api::{MessageType, Unit},
    lando::{self, LandoWarning},
};
use build::{
    Answer, BuildEventKind, BuildLog, BuildRecord, BuildUpdate, BuildUpdateMessage, Phid, Skip,
    SkipReason,
};

/// The reason for deferring an answer that another delivery has claimed.
const UNDER_WAY: &str =
    "another delivery claimed this answer: waiting for harbormaster to act on it, if it arrived";

/// Handles `build:publish`.
pub struct Publisher {
    conduit: Conduit,
    publish: bool,
    log: BuildLog,
    docs_url: Option<Url>,
    lando: Option<LandoWarnings>,
}

/// The warnings that go to Lando.
#[derive(Debug, Clone, Copy)]
pub struct LandoWarnings {
    /// The queue that the sender of warnings reads.
    pub queue: Queue<LandoWarning>,
    /// Whether a build that ends as `infra_failed` gets a warning, too.
    pub failures: bool,
}

/// The cause for which an update could not be published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// A call to Phabricator failed.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// Harbormaster shows our user no such target.
    #[error(
        "cannot publish on build target {0}: it does not exist or is not visible; \
         check the request, and what the api token may see"
    )]
    UnknownTarget(Phid),
    /// The build's record cannot be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Retryable for PublishError {
    fn retry(&self) -> Retry {
        match self {
            Self::Conduit(error) => error.retry(),
            Self::Bus(error) => error.retry(),
            Self::UnknownTarget(_) => Retry::Never,
        }
    }
}

/// The result of publishing a final update.
enum EndPublication {
    /// Nothing is left to do. The event that closes the build.
    Closed(BuildEventKind),
    /// Another delivery may have sent the answer. The time until its claim expires.
    ClaimedElsewhere(Duration),
}

/// The result of creating a link.
enum Linked {
    /// The target has our link.
    Ours,
    /// The target has another link with this key. The event to record.
    Conflict(BuildEventKind),
    /// Harbormaster shows our user no such target.
    UnknownTarget,
}

impl Publisher {
    /// A publisher that calls `conduit`. Without `publish` it only logs the updates.
    pub fn new(conduit: Conduit, publish: bool, log: BuildLog) -> Self {
        Self {
            conduit,
            publish,
            log,
            docs_url: None,
            lando: None,
        }
    }

    /// Adds a link to `docs_url`, a page that explains how builds end, to builds that were not pushed.
    #[must_use]
    pub fn with_docs_url(self, docs_url: Option<Url>) -> Self {
        Self { docs_url, ..self }
    }

    /// Sends warnings to Lando as well, if given.
    #[must_use]
    pub fn with_lando(self, lando: Option<LandoWarnings>) -> Self {
        Self { lando, ..self }
    }

    fn warn(
        &self,
        BuildUpdateMessage { request, update }: &BuildUpdateMessage,
        cx: &Context,
    ) -> Result<(), BusError> {
        let Some(LandoWarnings { queue, failures }) = &self.lando else {
            return Ok(());
        };
        let Some(text) = lando::warning_for(update, *failures) else {
            return Ok(());
        };
        let (revision_id, diff_id) = (request.revision_id, request.diff_id);
        cx.send(
            queue,
            &LandoWarning {
                revision_id,
                diff_id,
                text: text.to_owned(),
            },
        )
    }

    /// Publishes a final update.
    async fn publish_end(
        &self,
        message: &BuildUpdateMessage,
        record: &BuildRecord,
        cx: &Context,
    ) -> Result<EndPublication, PublishError> {
        let (target, what) = (&message.request.target, name(&message.update));
        let published = BuildEventKind::Published {
            what: what.to_owned(),
        };
        if let BuildUpdate::Skipped(Skip {
            reason: SkipReason::EndedElsewhere,
            text,
        }) = &message.update
        {
            return Ok(EndPublication::Closed(not_published(text)));
        }
        let status = match self
            .conduit
            .targets(std::slice::from_ref(target))
            .await?
            .pop()
        {
            Some(found) => found.status,
            // The target of a private revision is as private as the revision.
            None if message.update == BuildUpdate::Private => {
                return Ok(EndPublication::Closed(not_published(
                    "the target is private, too",
                )));
            }
            None => return Err(PublishError::UnknownTarget(target.clone())),
        };
        let page = self.docs_url.as_ref().map(Url::as_str);
        let calls = calls_for(target, &message.update, page);
        if status.has_ended() {
            if record.claimed_at.is_some() && !matches!(message.update, BuildUpdate::Pushed(_)) {
                for call in calls {
                    self.record_sent(target, call, record, cx)?;
                }
                return Ok(EndPublication::Closed(published));
            }
            let status = status.name();
            info!("skipping publication: the target is {status} already: {what}");
            return Ok(EndPublication::Closed(not_published(&format!(
                "the target was {status} already"
            ))));
        }
        for call in calls {
            match &call {
                PublishCall::Link(link) => match self.link(target, *link, cx).await? {
                    Linked::Ours => {}
                    Linked::UnknownTarget => {
                        return Err(PublishError::UnknownTarget(target.clone()));
                    }
                    Linked::Conflict(conflict) if link.key == PUSHED_KEY => {
                        return Ok(EndPublication::Closed(conflict));
                    }
                    Linked::Conflict(conflict) => {
                        self.log.record_conflict(cx, target, conflict)?;
                        continue;
                    }
                },
                PublishCall::Message(kind, unit) => {
                    match self.log.claim_answer(cx, target).await? {
                        Claim::Held { look_again, .. } => {
                            return Ok(EndPublication::ClaimedElsewhere(look_again));
                        }
                        Claim::Acquired(claim)
                            if *kind == MessageType::Work && claim.is_takeover() =>
                        {
                            warn!("skipping the unit of a push: another delivery may have sent it");
                            return Ok(EndPublication::Closed(BuildEventKind::Published {
                                what: format!(
                                    "{what}; the unit that says what was applied may be missing"
                                ),
                            }));
                        }
                        Claim::Acquired(claim) => {
                            let sent = self.send(target, *kind, unit.as_slice(), claim, cx);
                            if !sent.await? {
                                return Err(PublishError::UnknownTarget(target.clone()));
                            }
                        }
                        Claim::Done(()) => {}
                    }
                }
            }
            self.record_sent(target, call, record, cx)?;
        }
        info!(state = "published", "published on the build target: {what}");
        Ok(EndPublication::Closed(published))
    }

    /// Records that the target has this answer, once for each answer.
    fn record_sent(
        &self,
        target: &Phid,
        call: PublishCall<'_>,
        record: &BuildRecord,
        cx: &Context,
    ) -> Result<(), BusError> {
        let answer = Answer::from(call);
        if record.sent().any(|(_, before)| *before == answer) {
            return Ok(());
        }
        self.log.record_sent(cx, target, answer)
    }

    async fn link(
        &self,
        target: &Phid,
        link: Link<'_>,
        cx: &Context,
    ) -> Result<Linked, PublishError> {
        let Link { key, name, url } = link;
        if self
            .conduit
            .artifact_keys(target)
            .await?
            .iter()
            .any(|known| known == key)
        {
            // A publisher records the address before it creates the link. So read the record after the link is seen.
            let recorded = self.log.read(cx, target).await?.link;
            if recorded.as_deref() == Some(url) {
                return Ok(Linked::Ours);
            }
            let theirs = recorded
                .as_deref()
                .unwrap_or("an address that harbormaster does not show");
            error!(
                key,
                ours = url,
                theirs,
                "cannot publish our link: the target has another link with this key already"
            );
            return Ok(Linked::Conflict(BuildEventKind::Conflict {
                key: key.to_owned(),
                ours: url.to_owned(),
                theirs: recorded,
            }));
        }
        self.log.record_link(cx, target, url).await?;
        let known = self.conduit.create_link(target, key, name, url).await?;
        Ok(if known {
            Linked::Ours
        } else {
            Linked::UnknownTarget
        })
    }

    /// Sends a message under `claim`. Returns `false` when Harbormaster shows no such target.
    async fn send(
        &self,
        target: &Phid,
        kind: MessageType,
        units: &[Unit],
        claim: ClaimHandle,
        cx: &Context,
    ) -> Result<bool, ConduitError> {
        let sent = self.conduit.send_message(target, kind, units).await;
        if sent.as_ref().is_err_and(ConduitError::had_no_effect) {
            claim.release(cx);
        }
        sent
    }
}

impl Publisher {
    /// Closes a build whose final update was published, or needs no publishing.
    fn close(
        &self,
        message: &BuildUpdateMessage,
        kind: BuildEventKind,
        cx: &Context,
    ) -> Result<(), BusError> {
        if let Some(outcome) = message.update.outcome() {
            metrics::counter!("builds_total", "outcome" => outcome.name()).increment(1);
        }
        self.log.close(cx, &message.request.target, kind)
    }
}

fn not_published(reason: &str) -> BuildEventKind {
    BuildEventKind::NotPublished {
        reason: reason.to_owned(),
    }
}

#[async_trait]
impl Handler<BuildUpdateMessage> for Publisher {
    type Error = PublishError;

    async fn handle(
        &self,
        message: BuildUpdateMessage,
        cx: &Context,
    ) -> Result<Outcome, PublishError> {
        let (target, what) = (&message.request.target, name(&message.update));
        let record = self.log.read(cx, target).await?;
        if record.overrules(&message.update) {
            debug!(
                "skipping publication: the build has another end, or was published before: {what}"
            );
            return Ok(Outcome::Done);
        }
        self.warn(&message, cx)?;
        if !self.publish {
            info!("skipping publication: PHABRICATOR.publish is false: {what}");
            if message.update.is_end() {
                self.close(&message, not_published("publish is false"), cx)?;
            }
            return Ok(Outcome::Done);
        }
        if message.update.is_end() {
            match self.publish_end(&message, &record, cx).await? {
                EndPublication::Closed(kind) => self.close(&message, kind, cx)?,
                EndPublication::ClaimedElsewhere(look_again) => {
                    return Ok(Outcome::defer(look_again, UNDER_WAY));
                }
            }
        } else if self
            .conduit
            .send_message(target, MessageType::Work, &[])
            .await?
        {
            info!("published on the build target: {what}");
            self.log.record_working(cx, target, what)?;
        } else {
            return Err(PublishError::UnknownTarget(target.clone()));
        }
        Ok(Outcome::Done)
    }

    async fn on_dead_letter(
        &self,
        message: BuildUpdateMessage,
        cause: Cause<'_, PublishError>,
        cx: &Context,
    ) -> Result<(), PublishError> {
        if message.update.is_end() {
            let target = &message.request.target;
            self.log
                .give_up_publishing(cx, target, &cause.to_string())?;
        }
        Ok(())
    }

    async fn on_requeue(
        &self,
        message: BuildUpdateMessage,
        requeue: Requeue<'_, PublishError>,
        cx: &Context,
    ) -> Result<(), PublishError> {
        let (target, queue) = (
            &message.request.target,
            self.log.queues().publish.spec().name,
        );
        if message.update.is_end() {
            self.log
                .record_requeue(cx, target, queue, &requeue, None)
                .await?;
        }
        Ok(())
    }
}

/// The name of an update in logs.
fn name(update: &BuildUpdate) -> &'static str {
    match update {
        BuildUpdate::Working => "the work goes on",
        BuildUpdate::Pushed(_) => "pushed, with the link to its jobs",
        BuildUpdate::PatchFailed(_) => "failed, the patch",
        BuildUpdate::InfraFailed(_) => "failed, the infrastructure",
        BuildUpdate::Skipped(_) => "skipped",
        BuildUpdate::Private => "private revision",
    }
}
