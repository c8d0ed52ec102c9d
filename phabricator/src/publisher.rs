//! Reports the outcome of a build on its target.
//!
//! # Said once
//!
//! A link is made once, since its key is unique on its target, and the first message that ends a target is the one that
//! counts. Units have neither: the server appends them each time. A unit and the message that it comes with are stored by
//! the server in one step, and no call lists units. So a unit is claimed in the record of the build before it is sent,
//! as [`bus::Claim`] has it. A delivery that finds another one's claim waits until the claim's time is over, and then:
//!
//! * If the message ends the target, the target has told, since the server acts some seconds after it took a message. If
//!   the target still waits, it is said again.
//! * If it does not, as for a push, nothing tells, and the unit is left: the link is the answer, and a unit that is shown
//!   twice would be worse than one that may be missing.
//!
//! A call that the server surely did not act on releases the claim.
//!
//! # Links
//!
//! A link's key is unique on its target, and Harbormaster shows the keys, but not where a link leads. So the record says
//! beforehand which address is about to be given to the link. A target that has the key already, while the record does
//! not say so, has the link of somebody else: that is a conflict, which is logged and recorded.
//!
//! Each end without a push gives its target a link as well, before the message that ends it: Phorge shows links on the
//! revision page, and hides units that passed or were skipped.

mod answer;
mod remarkup;
mod test_result;
mod text;

pub use answer::answer;
pub use test_result::TestResultPublisher;

use std::time::Duration;

use async_trait::async_trait;
use bus::{
    BusError, Cause, Claim, ClaimHandle, Context, Handler, Outcome, Queue, Requeue, Retry,
    Retryable,
};
use thiserror::Error;
use tracing::{debug, error, info, warn};

use crate::{
    BuildPages, Conduit, ConduitError,
    api::{MessageType, Unit},
    lando::{self, LandoWarning},
};
use build::{Answer, BuildLog, BuildRecord, Neutral, NeutralReason, Phid, Report, Update, What};

/// The key of the link to the jobs on Try. A target that has it was pushed.
pub(crate) const PUSHED_KEY: &str = "treeherder";
/// Its name, as it is shown.
const PUSHED_NAME: &str = "CI (Treeherder) Jobs";
/// The key of the link of a build that was not pushed.
const WHY_KEY: &str = "code-review-why";
/// Its name, as it is shown.
const WHY_NAME: &str = "Why this was not built";

/// What is waited for while another delivery has the claim.
const UNDER_WAY: &str = "another delivery was about to send this answer: waiting for harbormaster to act on it, if it came";

/// Handles `build:publish`.
pub struct Publisher {
    conduit: Conduit,
    publish: bool,
    log: BuildLog,
    pages: BuildPages,
    lando: Option<LandoWarnings>,
}

/// Which warnings go to Lando.
#[derive(Debug, Clone, Copy)]
pub struct LandoWarnings {
    /// Where they are sent from.
    pub queue: Queue<LandoWarning>,
    /// Whether there is one for a build that we failed, too.
    pub failures: bool,
}

/// Why something could not be said.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Phabricator gave no answer.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
    /// There is no such target for us.
    #[error(
        "build target {0} does not exist or is not visible, so its answer cannot be given: \
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

/// One call for a target.
#[derive(Debug, PartialEq)]
enum Say<'a> {
    Message(MessageType, Option<Unit>),
    Link(Link<'a>),
}

/// A link on a target.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Link<'a> {
    key: &'static str,
    name: &'static str,
    url: &'a str,
}

/// How the publishing of an end went.
enum Told {
    /// It is over.
    Ended(What),
    /// The same answer of another delivery may be on its way. When to look again.
    UnderWay(Duration),
}

/// How a link came to be on its target, or did not.
enum Linked {
    /// It is there, by us.
    Ours,
    /// There is one with this key, by somebody else.
    Conflict(What),
    /// There is no such target, or it is not visible.
    UnknownTarget,
}

impl Publisher {
    /// A publisher through `conduit`; without `publish` it only logs what it would publish.
    pub fn new(conduit: Conduit, publish: bool, log: BuildLog) -> Self {
        Self {
            conduit,
            publish,
            log,
            pages: BuildPages::default(),
            lando: None,
        }
    }

    /// Links builds that were not pushed to their page.
    #[must_use]
    pub fn with_pages(self, pages: BuildPages) -> Self {
        Self { pages, ..self }
    }

    /// Has Lando warn, too.
    #[must_use]
    pub fn with_lando(self, lando: Option<LandoWarnings>) -> Self {
        Self { lando, ..self }
    }

    fn warn(&self, Update { request, report }: &Update, cx: &Context) -> Result<(), BusError> {
        let Some(LandoWarnings { queue, failures }) = &self.lando else {
            return Ok(());
        };
        let Some(text) = lando::warning_for(report, *failures) else {
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

    /// Publishes an end.
    async fn tell(
        &self,
        update: &Update,
        record: &BuildRecord,
        cx: &Context,
    ) -> Result<Told, PublishError> {
        let (target, what) = (&update.request.target, name(&update.report));
        let told = What::Told {
            what: what.to_owned(),
        };
        if let Report::Neutral(Neutral {
            reason: NeutralReason::EndedElsewhere,
            text,
        }) = &update.report
        {
            return Ok(Told::Ended(not_told(text)));
        }
        let status = match self
            .conduit
            .targets(std::slice::from_ref(target))
            .await?
            .pop()
        {
            Some(found) => found.status,
            // The target of a private revision is as private as the revision.
            None if update.report == Report::Withheld => {
                return Ok(Told::Ended(not_told("the target is private, too")));
            }
            None => return Err(PublishError::UnknownTarget(target.clone())),
        };
        let page = self.pages.why(target);
        let words = words(&update.report, page.as_deref());
        if status.has_ended() {
            if record.claimed_at.is_some() && !matches!(update.report, Report::Pushed(_)) {
                for say in words {
                    self.sent(target, say, record, cx)?;
                }
                return Ok(Told::Ended(told));
            }
            let status = status.name();
            info!("not published, the target is {status} already: {what}");
            return Ok(Told::Ended(not_told(&format!(
                "the target was {status} already"
            ))));
        }
        for say in words {
            match &say {
                Say::Link(link) => match self.link(target, *link, cx).await? {
                    Linked::Ours => {}
                    Linked::UnknownTarget => {
                        return Err(PublishError::UnknownTarget(target.clone()));
                    }
                    Linked::Conflict(conflict) if link.key == PUSHED_KEY => {
                        return Ok(Told::Ended(conflict));
                    }
                    Linked::Conflict(conflict) => {
                        self.log.conflicts(cx, target, conflict)?;
                        continue;
                    }
                },
                Say::Message(kind, unit) => match self.log.claim_answer(cx, target).await? {
                    Claim::Held { look_again, .. } => return Ok(Told::UnderWay(look_again)),
                    Claim::Acquired(claim) if *kind == MessageType::Work && claim.is_takeover() => {
                        warn!("what was applied may have been sent before, it is not sent again");
                        return Ok(Told::Ended(What::Told {
                            what: format!("{what}; what was applied may be missing"),
                        }));
                    }
                    Claim::Acquired(claim) => {
                        let sent = self.send(target, *kind, unit.as_slice(), claim, cx);
                        if !sent.await? {
                            return Err(PublishError::UnknownTarget(target.clone()));
                        }
                    }
                    Claim::Done(()) => {}
                },
            }
            self.sent(target, say, record, cx)?;
        }
        info!(state = "published", "published on the build target: {what}");
        Ok(Told::Ended(told))
    }

    /// Records what is on the target now, once.
    fn sent(
        &self,
        target: &Phid,
        say: Say<'_>,
        record: &BuildRecord,
        cx: &Context,
    ) -> Result<(), BusError> {
        let answer = Answer::from(say);
        if record.sent().any(|(_, before)| *before == answer) {
            return Ok(());
        }
        self.log.sent(cx, target, answer)
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
            // Whoever makes a link writes it down before. This is read after the link was seen.
            let noted = self.log.read(cx, target).await?.link;
            if noted.as_deref() == Some(url) {
                return Ok(Linked::Ours);
            }
            let theirs = noted
                .as_deref()
                .unwrap_or("an address that harbormaster does not show");
            error!(
                key,
                ours = url,
                theirs,
                "the target has another link with this key already, so ours is not published"
            );
            return Ok(Linked::Conflict(What::Conflict {
                key: key.to_owned(),
                ours: url.to_owned(),
                theirs: noted,
            }));
        }
        self.log.links(cx, target, url).await?;
        let known = self.conduit.create_link(target, key, name, url).await?;
        Ok(if known {
            Linked::Ours
        } else {
            Linked::UnknownTarget
        })
    }

    /// Sends a message by this delivery alone, and says whether its target exists.
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
    /// Closes a build whose end was published, or need not be.
    fn close(&self, update: &Update, what: What, cx: &Context) -> Result<(), BusError> {
        if let Some(outcome) = update.report.outcome() {
            metrics::counter!("builds_total", "outcome" => outcome.name()).increment(1);
        }
        self.log.close(cx, &update.request.target, what)
    }
}

fn not_told(reason: &str) -> What {
    What::NotTold {
        reason: reason.to_owned(),
    }
}

#[async_trait]
impl Handler<Update> for Publisher {
    type Error = PublishError;

    async fn handle(&self, update: Update, cx: &Context) -> Result<Outcome, PublishError> {
        let (target, what) = (&update.request.target, name(&update.report));
        let record = self.log.read(cx, target).await?;
        if record.overrules(&update.report) {
            debug!("not published, its end was decided otherwise or published before: {what}");
            return Ok(Outcome::Done);
        }
        self.warn(&update, cx)?;
        if !self.publish {
            info!("not published, PHABRICATOR.publish is false: {what}");
            if update.report.is_end() {
                self.close(&update, not_told("publish is false"), cx)?;
            }
            return Ok(Outcome::Done);
        }
        if update.report.is_end() {
            match self.tell(&update, &record, cx).await? {
                Told::Ended(what) => self.close(&update, what, cx)?,
                Told::UnderWay(look_again) => return Ok(Outcome::defer(look_again, UNDER_WAY)),
            }
        } else if self
            .conduit
            .send_message(target, MessageType::Work, &[])
            .await?
        {
            info!("published on the build target: {what}");
            self.log.sent_working(cx, target, what)?;
        } else {
            return Err(PublishError::UnknownTarget(target.clone()));
        }
        Ok(Outcome::Done)
    }

    async fn on_dead_letter(
        &self,
        update: Update,
        cause: Cause<'_, PublishError>,
        cx: &Context,
    ) -> Result<(), PublishError> {
        if update.report.is_end() {
            let target = &update.request.target;
            self.log.not_published(cx, target, &cause.to_string())?;
        }
        Ok(())
    }

    async fn on_requeue(
        &self,
        update: Update,
        requeue: Requeue<'_, PublishError>,
        cx: &Context,
    ) -> Result<(), PublishError> {
        let (target, queue) = (
            &update.request.target,
            self.log.queues().publish.spec().name,
        );
        if update.report.is_end() {
            self.log.requeued(cx, target, queue, &requeue, None).await?;
        }
        Ok(())
    }
}

/// The calls that publish a report, in their order. `page` explains an end without a push.
fn words<'a>(report: &'a Report, page: Option<&'a str>) -> Vec<Say<'a>> {
    let (kind, unit) = match report {
        Report::Working => return vec![Say::Message(MessageType::Work, None)],
        Report::Pushed(pushed) => {
            let link = Link {
                key: PUSHED_KEY,
                name: PUSHED_NAME,
                url: &pushed.treeherder_url,
            };
            return vec![
                Say::Link(link),
                Say::Message(MessageType::Work, Some(text::applied(pushed))),
            ];
        }
        Report::PatchFailed(failure) => (MessageType::Fail, text::patch_failed(failure)),
        Report::InfrastructureFailed(blame) => (MessageType::Fail, text::broken(blame)),
        Report::Neutral(neutral) => (MessageType::Pass, text::neutral(&neutral.text)),
        Report::Withheld => (MessageType::Pass, text::withheld()),
    };
    let link = page.map(|url| {
        Say::Link(Link {
            key: WHY_KEY,
            name: WHY_NAME,
            url,
        })
    });
    link.into_iter()
        .chain([Say::Message(kind, Some(unit))])
        .collect()
}

/// Names a report in logs.
fn name(report: &Report) -> &'static str {
    match report {
        Report::Working => "the work goes on",
        Report::Pushed(_) => "pushed, with the link to its jobs",
        Report::PatchFailed(_) => "failed, the patch",
        Report::InfrastructureFailed(_) => "failed, the infrastructure",
        Report::Neutral(_) => "nothing to build",
        Report::Withheld => "private revision",
    }
}
