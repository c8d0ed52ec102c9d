//! The record of a build. Operators, the auditor and a worker that gets the build again read it.

use std::{borrow::Cow, fmt};

use bus::{DecodeError, Record};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BaseChoice, BuildOutcome, BuildRequest, BuildState, BuildUpdate, SkipReason};

/// An event in the life of a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The time by the clock of `process`.
    pub at: Timestamp,
    /// The name of the process that recorded it.
    pub process: String,
    /// What happened.
    pub kind: BuildEventKind,
}

/// The kind of an event. Until a revision is known to be public, its events hold numbers only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BuildEventKind {
    /// The request was stored.
    Accepted {
        /// The sender of the request.
        source: Source,
    },
    /// Its revision, or one that it stands on, is not public.
    NotPublicYet {
        /// The number of the check that found this, from 1.
        check: u32,
        /// The number of checks after which the build counts as private.
        checks: u32,
        /// The revision that is not public, and the cause.
        why: NotPublic,
    },
    /// Its revision is public, and its stack was loaded.
    Loaded {
        /// The revisions to apply, ancestors first.
        revisions: Vec<u64>,
        /// Revisions that the stack stands on and that have landed.
        landed: Vec<u64>,
        /// The base that the stack names. Hostile.
        base: Option<String>,
    },
    /// An attempt at a step failed, and another one follows.
    Failed {
        /// The queue of the step.
        queue: String,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The error and its causes.
        reason: String,
    },
    /// A step waits for something outside. No attempt is counted.
    Deferred {
        /// The queue of the step.
        queue: String,
        /// The thing that it waits for, as a clause.
        reason: String,
        /// The fault that an operator has to mend first, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blocker: Option<Blocker>,
    },
    /// The commit to build on was chosen.
    BaseChosen(BaseChoice),
    /// Its outcome was decided.
    Ended(BuildOutcome),
    /// The publisher sent this answer to its target.
    Sent(Answer),
    /// Its target had this link already, so another service had pushed the build. It is not built again.
    Adopted {
        /// The link's key.
        key: String,
    },
    /// Its target has another link with this key.
    Conflict {
        /// The link's key.
        key: String,
        /// The address of our link.
        ours: String,
        /// The address of the other link, if the record holds it: Harbormaster does not show it.
        theirs: Option<String>,
    },
    /// An operator restarted the build in Harbormaster, which makes a new target.
    Restarted,
    /// An update was published on its target.
    Published {
        /// The update, in a few words.
        what: String,
    },
    /// Its final update was not published on its target.
    NotPublished {
        /// The cause, as a clause.
        reason: String,
    },
    /// The auditor or an operator sent it through the pipeline again.
    Redriven {
        /// The sender and the cause, as a clause.
        reason: String,
    },
}

/// A fault that keeps a build waiting until an operator mends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocker {
    /// The disk of the clones is full.
    DiskFull,
    /// The source does not have the configured revision.
    NoDefaultRevision,
}

/// The cause for which a build counts as not public.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotPublic {
    /// Our user does not see its revision.
    #[default]
    Revision,
    /// Our user sees its revision, which is private by its projects or its view policy.
    Restricted,
    /// A revision that it stands on is private, or our user does not see it.
    Parent,
}

impl NotPublic {
    /// A clause for operators. It names no revision.
    pub fn text(self) -> &'static str {
        match self {
            Self::Revision => "the revision is not visible to us",
            Self::Restricted => "the revision is private by its projects or its view policy",
            Self::Parent => "a parent of the revision is private, or not visible to us",
        }
    }
}

/// A call that the publisher makes for a build target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The effect: `work` leaves the target as it is, `pass` and `fail` end it, `link` puts a link on it.
    pub act: String,
    /// The heading on Phabricator: a unit and its result, such as `git: unsound`, or a link's name. `None` for a bare
    /// message.
    pub heading: Option<String>,
    /// Remarkup, or the link's address. Empty for a bare message.
    pub text: String,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.act)?;
        if let Some(heading) = &self.heading {
            write!(f, " {heading}\n{}", self.text)?;
        }
        Ok(())
    }
}

/// The first entry of a record: the request, the first event and the first location of a build. They are one value, so
/// that accepting is fast: this record is most of what accepting costs Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Acceptance<'a> {
    pub(super) request: Cow<'a, BuildRequest>,
    /// `None` when the record was lost after the build was accepted.
    pub(super) source: Option<Source>,
    /// The process that accepted it.
    pub(super) process: Cow<'a, str>,
    /// The queue that its message was put into.
    pub(super) queue: Cow<'a, str>,
}

/// The sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Harbormaster, by its HTTP request.
    Harbormaster,
    /// The auditor found it waiting in Harbormaster: its request was lost.
    Audit,
}

/// The location of a build's message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BuildLocation {
    /// The name of its queue.
    pub queue: String,
    /// The time of the last change.
    pub since: Timestamp,
    /// Its state there.
    pub step: QueueState,
}

/// The state of a build's message in its queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueState {
    /// A worker may receive it.
    Ready,
    /// It is delivered again later.
    Delayed {
        /// The earliest time of the next delivery.
        until: Timestamp,
        /// The thing that it waits for, or the error of the last attempt.
        reason: String,
        /// The number of failed attempts; 0 when it waits for something else than its next attempt.
        attempt: u32,
    },
    /// A worker handles it.
    Working {
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The worker's process.
        process: String,
    },
}

/// A wait of all builds of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedWait {
    /// The time of the next check.
    pub until: Timestamp,
    /// The thing that they wait for, as a clause.
    pub reason: String,
}

/// The final result of a build. The first one that is written stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinalResult {
    /// The time of the decision.
    pub at: Timestamp,
    /// The decision.
    pub outcome: FinalOutcome,
}

/// The way in which a build ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalOutcome {
    /// With our answer.
    Answered(BuildUpdate),
    /// Its target had ended, or was gone, before we had an answer.
    ClosedExternally,
    /// Its target had the link of a push already: by a service before this one, or before the records were lost.
    PushedBefore,
}

impl FinalOutcome {
    /// `None` for an answer that ends no build.
    pub fn outcome(&self) -> Option<BuildOutcome> {
        match self {
            Self::Answered(update) => update.outcome(),
            Self::ClosedExternally => Some(BuildOutcome::Skipped(SkipReason::EndedElsewhere)),
            Self::PushedBefore => Some(BuildOutcome::Pushed),
        }
    }
}

/// The record of a build. Without one, all fields are empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildRecord {
    /// The source of `request`, of the first event, and of `now` until it changes.
    #[serde(skip)]
    pub(super) accepted: Option<Acceptance<'static>>,
    /// `None` when there is no record, or no longer.
    pub request: Option<BuildRequest>,
    /// In the order in which they happened.
    pub events: Vec<Event>,
    /// The location of its message.
    pub now: Option<BuildLocation>,
    /// The base that was chosen for it.
    pub base: Option<BaseChoice>,
    /// Whether its push has begun: its head may be at its destination.
    pub pushing: bool,
    /// Its final result, once that is decided.
    pub end: Option<FinalResult>,
    /// The address of the link that was about to be put on its target.
    pub link: Option<String>,
    /// The time at which a delivery claimed the answer that must not be sent twice. That answer may have arrived.
    pub claimed_at: Option<Timestamp>,
    /// The time at which its final update was published, or turned out to need no publishing.
    pub published_at: Option<Timestamp>,
    /// The number of times that the auditor or an operator sent it through the pipeline again.
    pub redriven: u32,
    /// The beginning of the last wait that was logged.
    pub wait_logged: Option<Timestamp>,
}

impl Acceptance<'_> {
    fn event(&self) -> Option<Event> {
        let (at, process) = (self.request.accepted_at, self.process.to_string());
        self.source.map(|source| Event {
            at,
            process,
            kind: BuildEventKind::Accepted { source },
        })
    }

    fn now(&self) -> BuildLocation {
        BuildLocation {
            queue: self.queue.to_string(),
            since: self.request.accepted_at,
            step: QueueState::Ready,
        }
    }
}

impl BuildRecord {
    pub(super) fn read(record: &Record) -> Result<Self, DecodeError> {
        let accepted: Option<Acceptance<'static>> = record.field(field::ACCEPTED)?;
        let first = accepted.as_ref().and_then(Acceptance::event);
        Ok(Self {
            request: accepted
                .as_ref()
                .map(|accepted| accepted.request.clone().into_owned()),
            events: first.into_iter().chain(record.events()?).collect(),
            now: record
                .field(field::NOW)?
                .or_else(|| accepted.as_ref().map(Acceptance::now)),
            accepted,
            base: record.field(field::BASE)?,
            pushing: record.field(field::PUSHING)?.unwrap_or_default(),
            end: record.field(field::END)?,
            link: record.field(field::LINK)?,
            claimed_at: field::CLAIM.claimed_at(record)?,
            published_at: record.field(field::PUBLISHED_AT)?,
            redriven: record.field(field::REDRIVEN)?.unwrap_or_default(),
            wait_logged: record.field(field::WAIT_LOGGED)?,
        })
    }

    /// The state that follows from the events and the location of its message.
    pub fn state(&self) -> BuildState {
        let loaded = || {
            self.events
                .iter()
                .any(|event| matches!(event.kind, BuildEventKind::Loaded { .. }))
        };
        // An operator may cancel a build that no worker has begun. What comes after that is its publication.
        let cancelled = BuildEventKind::Ended(BuildOutcome::Skipped(SkipReason::Cancelled));
        let before = self.events.iter();
        let before = before.take_while(|event| event.kind != cancelled).count();
        let is_ready = |now: &BuildLocation| now.step == QueueState::Ready;
        let begun = before > 1 || self.end.is_none() && !self.now.as_ref().is_none_or(is_ready);
        match &self.now {
            _ if self.published_at.is_some() => BuildState::Published,
            Some(BuildLocation {
                step: QueueState::Delayed { .. },
                ..
            }) => BuildState::Deferred,
            _ if self.pushing => BuildState::Pushing,
            _ if loaded() => BuildState::Applying,
            _ if begun => BuildState::Loading,
            _ => BuildState::Accepted,
        }
    }

    /// `None` until its final result is decided.
    pub fn outcome(&self) -> Option<BuildOutcome> {
        self.end.as_ref().and_then(|end| end.outcome.outcome())
    }

    /// The number of checks that found its revision not public, since the build was last sent through the pipeline.
    pub fn visibility_checks(&self) -> u32 {
        let again = |event: &&Event| !matches!(event.kind, BuildEventKind::Redriven { .. });
        let events = self.events.iter().rev().take_while(again);
        let hidden =
            events.filter(|event| matches!(event.kind, BuildEventKind::NotPublicYet { .. }));
        u32::try_from(hidden.count()).unwrap_or(u32::MAX)
    }

    /// The answers that were sent to its target, with their times, in order.
    pub fn sent(&self) -> impl Iterator<Item = (Timestamp, &Answer)> {
        self.events.iter().filter_map(|event| match &event.kind {
            BuildEventKind::Sent(answer) => Some((event.at, answer)),
            _ => None,
        })
    }

    /// Whether an operator restarted it in Harbormaster.
    pub fn was_restarted(&self) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event.kind, BuildEventKind::Restarted))
    }

    /// Whether the publisher must not publish `update`: the final update is published already, or another one was decided.
    pub fn overrules(&self, update: &BuildUpdate) -> bool {
        if update.is_end() {
            self.published_at.is_some() || self.end.is_some() && !self.ends_with(update)
        } else {
            self.end.is_some()
        }
    }

    /// Whether `update` is the final update that was decided for it.
    pub fn ends_with(&self, update: &BuildUpdate) -> bool {
        self.end.as_ref().is_some_and(
            |end| matches!(&end.outcome, FinalOutcome::Answered(answer) if answer == update),
        )
    }
}

/// The stored fields of a build's record.
pub(super) mod field {
    use std::time::Duration;

    use bus::{ClaimField, Field};
    use jiff::Timestamp;

    use super::{Acceptance, BaseChoice, BuildLocation, FinalResult, SharedWait};

    pub(crate) const ACCEPTED: Field<Acceptance<'static>> = Field::new("accepted");
    pub(crate) const NOW: Field<BuildLocation> = Field::new("now");
    pub(crate) const BASE: Field<BaseChoice> = Field::new("base");
    pub(crate) const PUSHING: Field<bool> = Field::new("pushing");
    pub(crate) const END: Field<FinalResult> = Field::new("end");
    pub(crate) const LINK: Field<String> = Field::new("link");
    /// The answer that must not be sent twice. The server acts on a message within two minutes of its sending.
    pub(crate) const CLAIM: ClaimField = ClaimField::new("claim", Duration::from_secs(120));
    pub(crate) const PUBLISHED_AT: Field<Timestamp> = Field::new("published_at");
    pub(crate) const REDRIVEN: Field<u32> = Field::new("redriven");
    /// In the record of a repository.
    pub(crate) const SHARED_WAIT: Field<SharedWait> = Field::new("waits");
    pub(crate) const WAIT_LOGGED: Field<Timestamp> = Field::new("wait_logged");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_the_last_one_that_the_build_reached() {
        let at = Timestamp::UNIX_EPOCH;
        let event = |kind| Event {
            at,
            process: String::new(),
            kind,
        };
        let step = |step| {
            Some(BuildLocation {
                queue: String::new(),
                since: at,
                step,
            })
        };
        let mut record = BuildRecord {
            events: vec![event(BuildEventKind::Accepted {
                source: Source::Harbormaster,
            })],
            now: step(QueueState::Ready),
            ..BuildRecord::default()
        };
        assert_eq!(record.state(), BuildState::Accepted);
        record.now = step(QueueState::Working {
            attempt: 1,
            process: String::new(),
        });
        assert_eq!(record.state(), BuildState::Loading);
        let mut cancelled = record.clone();
        cancelled.end = Some(FinalResult {
            at,
            outcome: FinalOutcome::Answered(BuildUpdate::skipped(SkipReason::Cancelled, "")),
        });
        let skipped = BuildOutcome::Skipped(SkipReason::Cancelled);
        cancelled.events.push(event(BuildEventKind::Ended(skipped)));
        assert_eq!(
            cancelled.state(),
            BuildState::Accepted,
            "a worker only publishes it"
        );
        record.events.push(event(BuildEventKind::Loaded {
            revisions: Vec::new(),
            landed: Vec::new(),
            base: None,
        }));
        assert_eq!(record.state(), BuildState::Applying);
        record.now = step(QueueState::Delayed {
            until: at,
            reason: String::new(),
            attempt: 0,
        });
        assert_eq!(record.state(), BuildState::Deferred);
        (record.now, record.pushing) = (step(QueueState::Ready), true);
        assert_eq!(record.state(), BuildState::Pushing);
        record.published_at = Some(at);
        assert_eq!(record.state(), BuildState::Published);
    }
}
