//! Says on a build target what became of its build.

mod answer;
mod remarkup;
mod text;

pub use answer::{Answer, answer};

use async_trait::async_trait;
use bus::{Classify, Context, Disposition, Handler};
use thiserror::Error;
use tracing::info;

use crate::{
    Conduit, ConduitError,
    api::{MessageType, Unit},
    model::{Phid, Report, Update},
};

/// The key of the link to the jobs on Try.
const LINK_KEY: &str = "treeherder";
/// Its name, as it is shown.
const LINK_NAME: &str = "CI (Treeherder) Jobs";

/// Handles `results`.
///
/// A repeated update is harmless: the first end of a target holds, a link is made once, and only a unit can be shown
/// twice, when the process died between saying it and noting that.
pub struct Publisher {
    conduit: Conduit,
    publish: bool,
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
}

impl Classify for PublishError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Conduit(error) => error.disposition(),
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
    /// A publisher that speaks through `conduit`; without `publish` it only logs what it would say.
    pub fn new(conduit: Conduit, publish: bool) -> Self {
        Self { conduit, publish }
    }

    async fn say(&self, target: &Phid, say: &Say<'_>) -> Result<bool, ConduitError> {
        match say {
            Say::Message(kind, unit) => self.conduit.send_message(target, *kind, unit.as_slice()).await,
            Say::Link(url) => self.conduit.create_link(target, LINK_KEY, LINK_NAME, url).await,
        }
    }
}

#[async_trait]
impl Handler<Update> for Publisher {
    type Error = PublishError;

    async fn handle(&self, update: Update, _cx: &Context) -> Result<(), PublishError> {
        let target = &update.request.target;
        let what = name(&update.report);
        if !self.publish {
            info!(build = %target, "publishing is switched off, this would have been said: {what}");
            return Ok(());
        }
        for say in words(&update.report) {
            if !self.say(target, &say).await? {
                if update.report == Report::Withheld {
                    // The target of a private revision is as private as the revision.
                    return Ok(());
                }
                return Err(PublishError::UnknownTarget(target.clone()));
            }
        }
        info!(step = "published", build = %target, "said on the build target: {what}");
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
        Report::Neutral(reason) => vec![Say::Message(MessageType::Pass, Some(text::neutral(reason)))],
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
