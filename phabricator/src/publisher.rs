//! Says on a build target what became of its build.
//!
//! # Said once
//!
//! A link is made once, since its key is unique on its target, and the first message that ends a target is the one that
//! counts. Units have neither: the server appends them each time. A unit and the message that it comes with are stored by
//! the server in one step, and no call lists units. So before a unit is sent, the record of the build says that it is
//! about to be, and which delivery does it: of two that run beside each other only one can write that down. A delivery
//! that finds it and no more cannot know whether the other one got through, or is still at it. So it looks again until
//! [`UNSETTLED`] is over, and then:
//!
//! * If the message ends the target, the target has told, since the server acts some seconds after it took a message. If
//!   the target still waits, it is said again.
//! * If it does not, as for a push, nothing tells, and the unit is left: the link is the answer, and a unit that is shown
//!   twice would be worse than one that may be missing.
//!
//! A call that the server surely did not act on takes the note back.

mod answer;
mod remarkup;
mod test_result;
mod text;

pub use answer::{Answer, answer};
pub use test_result::TestResultPublisher;

use std::time::Duration;

use async_trait::async_trait;
use bus::{BusError, Classify, Context, Disposition, Handler, Postponed, Queue};
use thiserror::Error;
use tracing::{debug, info, warn};

use crate::{
    Conduit, ConduitError,
    api::{MessageType, Unit},
    lando::{self, LandoWarning},
    model::{BuildRecord, Journal, Phid, Report, Telling, Update, What},
};

/// The key of the link to the jobs on Try.
const LINK_KEY: &str = "treeherder";
/// Its name, as it is shown.
const LINK_NAME: &str = "CI (Treeherder) Jobs";

/// How long the server may take to act on a message, from when it was about to be sent.
const UNSETTLED: Duration = Duration::from_secs(120);
/// How long to wait between two looks at that.
const LOOK: Duration = Duration::from_secs(5);

/// Handles `results`.
pub struct Publisher {
    conduit: Conduit,
    publish: bool,
    results: Queue<Update>,
    journal: Journal,
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
    /// Another delivery may have said it, and the server may not have acted on it yet.
    #[error("another delivery was about to send this answer: waiting for harbormaster to act on it, if it came")]
    Unsettled,
    /// The build's record cannot be read or written.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl Classify for PublishError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Conduit(error) => error.disposition(),
            Self::Bus(error) => error.disposition(),
            Self::Unsettled => Disposition::Defer(LOOK),
            Self::UnknownTarget(_) => Disposition::Dead,
        }
    }
}

/// One call for a target.
#[derive(Debug, PartialEq)]
enum Say<'a> {
    Message(MessageType, Option<Unit>),
    Link(&'a str),
}

impl Publisher {
    /// A publisher of what comes in `results`, which speaks through `conduit`; without `publish` it only logs what it
    /// would say.
    pub fn new(conduit: Conduit, publish: bool, results: Queue<Update>, journal: Journal) -> Self {
        Self { conduit, publish, results, journal, lando: None }
    }

    /// Has Lando warn, too.
    #[must_use]
    pub fn with_lando(self, lando: Option<LandoWarnings>) -> Self {
        Self { lando, ..self }
    }

    fn warn(&self, Update { request, report }: &Update, cx: &Context) -> Result<(), BusError> {
        let Some(LandoWarnings { queue, failures }) = &self.lando else { return Ok(()) };
        let Some(text) = lando::warning_for(report, *failures) else { return Ok(()) };
        let (revision_id, diff_id) = (request.revision_id, request.diff_id);
        cx.send(queue, &LandoWarning { revision_id, diff_id, text: text.to_owned() })
    }

    /// Says an end.
    async fn tell(&self, update: &Update, record: &BuildRecord, cx: &Context) -> Result<What, PublishError> {
        let (target, what) = (&update.request.target, name(&update.report));
        let told = What::Told { what: what.to_owned() };
        let status = match self.conduit.targets(std::slice::from_ref(target)).await?.pop() {
            Some(found) => found.status,
            // The target of a private revision is as private as the revision.
            None if update.report == Report::Withheld => return Ok(not_told("the target is private, too")),
            None => return Err(PublishError::UnknownTarget(target.clone())),
        };
        if status.has_ended() {
            if record.telling.is_some() && !matches!(update.report, Report::Pushed(_)) {
                return Ok(told);
            }
            let status = status.name();
            info!(build = %target, "not said, the target is {status} already: {what}");
            return Ok(not_told(&format!("the target was {status} already")));
        }
        for say in words(&update.report) {
            let known = match &say {
                Say::Link(url) => self.conduit.create_link(target, LINK_KEY, LINK_NAME, url).await?,
                Say::Message(kind, unit) => match &record.telling {
                    Some(before) if cx.clock().now().duration_since(before.at).unsigned_abs() < UNSETTLED => {
                        return Err(PublishError::Unsettled);
                    }
                    Some(_) if *kind == MessageType::Work => {
                        warn!(build = %target, "what was applied may have been said before, it is not said again");
                        return Ok(What::Told { what: format!("{what}; what was applied may be missing") });
                    }
                    before => self.send(target, *kind, unit.as_slice(), before.as_ref(), cx).await?,
                },
            };
            if !known {
                return Err(PublishError::UnknownTarget(target.clone()));
            }
        }
        info!(step = "published", build = %target, "said on the build target: {what}");
        Ok(told)
    }

    async fn send(
        &self,
        target: &Phid,
        kind: MessageType,
        units: &[Unit],
        before: Option<&Telling>,
        cx: &Context,
    ) -> Result<bool, PublishError> {
        let mine = self.journal.tells(cx, target, before).await?.ok_or(PublishError::Unsettled)?;
        let sent = self.conduit.send_message(target, kind, units).await;
        if sent.as_ref().is_err_and(ConduitError::had_no_effect) {
            self.journal.does_not_tell(cx, target, &mine)?;
        }
        Ok(sent?)
    }

    fn close(&self, update: &Update, what: What, cx: &Context) -> Result<(), BusError> {
        let facts = self.journal.closed(&update.request.target, what, false, cx.clock().now())?;
        facts.into_iter().for_each(|fact| cx.record(fact));
        Ok(())
    }
}

fn not_told(reason: &str) -> What {
    What::NotTold { reason: reason.to_owned() }
}

#[async_trait]
impl Handler<Update> for Publisher {
    type Error = PublishError;

    async fn handle(&self, update: Update, cx: &Context) -> Result<(), PublishError> {
        let (target, what) = (&update.request.target, name(&update.report));
        let record = self.journal.read(cx, target).await?;
        let overruled = if update.report.is_end() {
            record.told.is_some() || record.end.is_some() && !record.ends_with(&update.report)
        } else {
            record.end.is_some()
        };
        if overruled {
            debug!(build = %target, "not said, its end was decided otherwise or said before: {what}");
            return Ok(());
        }
        self.warn(&update, cx)?;
        if !self.publish {
            info!(build = %target, "publishing is switched off, this would have been said: {what}");
            if update.report.is_end() {
                self.close(&update, not_told("publishing is switched off"), cx)?;
            }
            return Ok(());
        }
        if update.report.is_end() {
            let what = self.tell(&update, &record, cx).await?;
            self.close(&update, what, cx)?;
        } else if self.conduit.send_message(target, MessageType::Work, &[]).await? {
            info!(step = "published", build = %target, "said on the build target: {what}");
            self.journal.note(cx, target, What::Told { what: what.to_owned() })?;
        } else {
            return Err(PublishError::UnknownTarget(target.clone()));
        }
        Ok(())
    }

    async fn exhausted(&self, update: Update, reason: &str, cx: &Context) -> Result<(), PublishError> {
        if update.report.is_end() {
            let facts = self.journal.not_told(&update.request.target, reason, cx.clock().now())?;
            facts.into_iter().for_each(|fact| cx.record(fact));
        }
        Ok(())
    }

    async fn postponed(&self, update: Update, postponed: &Postponed<'_>, cx: &Context) -> Result<(), PublishError> {
        let (target, results) = (&update.request.target, self.results.spec().name);
        if update.report.is_end() {
            self.journal.postponed(cx, target, results, postponed, postponed.reason).await?;
        }
        Ok(())
    }
}

/// The calls that say a report, in an order in which the later ones matter less.
fn words(report: &Report) -> Vec<Say<'_>> {
    match report {
        Report::Working => vec![Say::Message(MessageType::Work, None)],
        Report::Pushed(pushed) => {
            let applied = Say::Message(MessageType::Work, Some(text::applied(pushed)));
            vec![Say::Link(&pushed.treeherder_url), applied]
        }
        Report::PatchFailed(failure) => vec![Say::Message(MessageType::Fail, Some(text::patch_failed(failure)))],
        Report::InfrastructureFailed(blame) => vec![Say::Message(MessageType::Fail, Some(text::broken(blame)))],
        Report::Neutral(neutral) => vec![Say::Message(MessageType::Pass, Some(text::neutral(&neutral.text)))],
        Report::Withheld => vec![Say::Message(MessageType::Pass, Some(text::withheld()))],
    }
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
