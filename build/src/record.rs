//! What is known of a build, for whoever asks later: an operator, the auditor, or a worker that takes it up again.

use std::{borrow::Cow, fmt};

use bus::{DecodeError, Record};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BaseChoice, BuildOutcome, BuildRequest, BuildState, NeutralReason, Report};

/// One thing that happened to a build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// The process in which it happened.
    pub process: String,
    /// What.
    pub what: What,
}

/// What can happen to a build. Nothing here but numbers is written before a revision is known to be public.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was asked for, and stored.
    Accepted {
        /// By whom.
        source: Source,
    },
    /// Its revision, or one that it stands on, is not public.
    Hidden {
        /// Which look this was, from 1.
        look: u32,
        /// How many there are before it counts as private.
        looks: u32,
        /// Which of them, and why.
        #[serde(default)]
        why: Hidden,
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
    /// A step failed, and is tried again.
    Failed {
        /// The queue of the step.
        queue: String,
        /// Which attempt this was, from 1.
        attempt: u32,
        /// The error and its causes.
        reason: String,
    },
    /// A step cannot be done yet.
    Parked {
        /// The queue of the step.
        queue: String,
        /// Why.
        reason: String,
        /// What an operator has to mend first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        blocker: Option<Blocker>,
    },
    /// The changeset to build on was chosen.
    Based(BaseChoice),
    /// How it ends was decided.
    Ended(BuildOutcome),
    /// The publisher sent this to its target.
    Sent(Answer),
    /// Its target had this link already, so somebody else had pushed it: it is not built again.
    Adopted {
        /// The link's key.
        key: String,
    },
    /// Its target has a link of that key already, which is not ours.
    Conflict {
        /// The link's key.
        key: String,
        /// Where our link leads.
        ours: String,
        /// Where the other one leads, if that is known: Harbormaster does not show it.
        theirs: Option<String>,
    },
    /// An operator restarted it in Harbormaster, which makes a new target.
    Restarted,
    /// Something was said on its target.
    Told {
        /// What, in short.
        what: String,
    },
    /// Something was not said on its target.
    NotTold {
        /// Why not.
        reason: String,
    },
    /// It was sent through the pipeline again.
    Redriven {
        /// Who did so, and why.
        reason: String,
    },
}

/// What keeps a build waiting that an operator has to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocker {
    /// The disk of the clones is full.
    DiskFull,
    /// The source does not have the configured revision.
    NoDefaultRevision,
}

/// Why a build is not public.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// Our user does not see its revision.
    #[default]
    Revision,
    /// Our user sees its revision, which is private by its projects or its view policy.
    Restricted,
    /// A revision that it stands on is private, or our user does not see it.
    Parent,
}

impl Hidden {
    /// The update for operators, without a word of a private revision.
    pub fn text(self) -> &'static str {
        match self {
            Self::Revision => "the revision is not visible to us",
            Self::Restricted => "the revision is private by its projects or its view policy",
            Self::Parent => "a parent of the revision is private, or not visible to us",
        }
    }
}

/// One thing that is sent to a build target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What it does: `work` leaves the target as it is, `pass` and `fail` end it, `link` puts a link on it.
    pub act: String,
    /// What it is shown as: a unit and its result, such as `mercurial: unsound`, or a link's name. `None` for a bare
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

/// That a build was accepted: its request, its first event and its first place. They are one value, since accepting has to
/// be fast: what is recorded then is most of what it costs Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Acceptance<'a> {
    /// What was asked for, and when it was accepted.
    pub(super) request: Cow<'a, BuildRequest>,
    /// `None` when the record was lost meanwhile.
    pub(super) source: Option<Source>,
    /// The process that accepted it.
    pub(super) process: Cow<'a, str>,
    /// The queue that its message was put into.
    pub(super) queue: Cow<'a, str>,
}

/// Who asked for a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Harbormaster, by its HTTP request.
    Harbormaster,
    /// The auditor found it waiting in Harbormaster: its request was lost.
    Audit,
}

/// Where a build is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// The queue that its message is in.
    pub queue: String,
    /// Since when.
    pub since: Timestamp,
    /// What goes on there.
    pub step: Step,
}

/// What goes on with a build's message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It is ready to be taken.
    Ready,
    /// It comes back later.
    Delayed {
        /// When.
        until: Timestamp,
        /// What it waits for.
        reason: String,
        /// How many attempts have failed; 0 when it waits for something else than its next attempt.
        #[serde(default)]
        attempt: u32,
    },
    /// A worker has it.
    Working {
        /// Which attempt this is, from 1.
        attempt: u32,
        /// The worker's process.
        process: String,
    },
}

/// What all builds of a repository wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedWait {
    /// Until when nobody looks again.
    pub until: Timestamp,
    /// What they wait for.
    pub reason: String,
}

/// How a build ends. The first that is written is the one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// When that was decided.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
}

/// How a build ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// By our answer.
    Answered(Report),
    /// Its target had ended, or was gone, before we had an answer.
    EndedElsewhere,
    /// Its target had the link of a push already: by a service before this one, or before the records were lost.
    PushedBefore,
}

impl From<&Outcome> for BuildOutcome {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            // A report that does not end a build is no end.
            Outcome::Answered(report) => report
                .outcome()
                .unwrap_or(Self::Skipped(NeutralReason::Unrecorded)),
            Outcome::EndedElsewhere => Self::Skipped(NeutralReason::EndedElsewhere),
            Outcome::PushedBefore => Self::Pushed,
        }
    }
}

/// What is known of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BuildRecord {
    /// What `request`, the first event, and `now` at first were read from.
    #[serde(skip)]
    pub(super) accepted: Option<Acceptance<'static>>,
    /// What was asked for. `None` when nothing is known of it, or nothing any more.
    pub request: Option<BuildRequest>,
    /// What happened, in order.
    pub events: Vec<Event>,
    /// Where it is.
    pub now: Option<Now>,
    /// The changeset that it is built on.
    pub base: Option<BaseChoice>,
    /// Whether its push has begun. Its head may be on Try.
    pub pushing: bool,
    /// How it ends.
    pub end: Option<End>,
    /// The address of the link that was about to be put on its target.
    pub link: Option<String>,
    /// When a delivery claimed the answer that must not be given twice. It may have arrived.
    pub claimed_at: Option<Timestamp>,
    /// When its end had been said, or was found not to be said.
    pub told: Option<Timestamp>,
    /// How often the auditor sent it through the pipeline again.
    pub redriven: u32,
    /// When the last wait began that was logged.
    pub wait_logged: Option<Timestamp>,
}

impl Acceptance<'_> {
    fn event(&self) -> Option<Event> {
        let (at, process) = (self.request.accepted_at, self.process.to_string());
        self.source.map(|source| Event {
            at,
            process,
            what: What::Accepted { source },
        })
    }

    fn now(&self) -> Now {
        Now {
            queue: self.queue.to_string(),
            since: self.request.accepted_at,
            step: Step::Ready,
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
            told: record.field(field::TOLD)?,
            redriven: record.field(field::REDRIVEN)?.unwrap_or_default(),
            wait_logged: record.field(field::WAIT_LOGGED)?,
        })
    }

    /// Its state.
    pub fn state(&self) -> BuildState {
        let loaded = || {
            self.events
                .iter()
                .any(|event| matches!(event.what, What::Loaded { .. }))
        };
        let begun =
            self.events.len() > 1 || self.now.as_ref().is_some_and(|now| now.step != Step::Ready);
        match &self.now {
            _ if self.told.is_some() => BuildState::Published,
            Some(Now {
                step: Step::Delayed { .. },
                ..
            }) => BuildState::Deferred,
            _ if self.pushing => BuildState::Pushing,
            _ if loaded() => BuildState::Applying,
            _ if begun => BuildState::Loading,
            _ => BuildState::Accepted,
        }
    }

    /// How it ends, once that is decided.
    pub fn outcome(&self) -> Option<BuildOutcome> {
        self.end
            .as_ref()
            .map(|end| BuildOutcome::from(&end.outcome))
    }

    /// How often its revision was looked at and was not public, since the build was last sent through the pipeline.
    pub fn looks(&self) -> u32 {
        let again = |event: &&Event| !matches!(event.what, What::Redriven { .. });
        let events = self.events.iter().rev().take_while(again);
        let hidden = events.filter(|event| matches!(event.what, What::Hidden { .. }));
        u32::try_from(hidden.count()).unwrap_or(u32::MAX)
    }

    /// What was sent to its target, and when, in order.
    pub fn sent(&self) -> impl Iterator<Item = (Timestamp, &Answer)> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Sent(answer) => Some((event.at, answer)),
            _ => None,
        })
    }

    /// Whether an operator restarted it in Harbormaster.
    pub fn was_restarted(&self) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event.what, What::Restarted))
    }

    /// Whether the publisher leaves `report` alone: the end was published already, or another one was decided.
    pub fn overrules(&self, report: &Report) -> bool {
        if report.is_end() {
            self.told.is_some() || self.end.is_some() && !self.ends_with(report)
        } else {
            self.end.is_some()
        }
    }

    /// Whether `report` is the end that was decided for it.
    pub fn ends_with(&self, report: &Report) -> bool {
        self.end.as_ref().is_some_and(
            |end| matches!(&end.outcome, Outcome::Answered(answer) if answer == report),
        )
    }
}

/// The fields of a build's record.
pub(super) mod field {
    use std::time::Duration;

    use bus::{ClaimField, Field};
    use jiff::Timestamp;

    use super::{Acceptance, BaseChoice, End, Now, SharedWait};

    pub(crate) const ACCEPTED: Field<Acceptance<'static>> = Field::new("accepted");
    pub(crate) const NOW: Field<Now> = Field::new("now");
    pub(crate) const BASE: Field<BaseChoice> = Field::new("base");
    pub(crate) const PUSHING: Field<bool> = Field::new("pushing");
    pub(crate) const END: Field<End> = Field::new("end");
    pub(crate) const LINK: Field<String> = Field::new("link");
    /// The answer that must not be sent twice. The server acts on a message within two minutes of its sending.
    pub(crate) const CLAIM: ClaimField = ClaimField::new("claim", Duration::from_secs(120));
    pub(crate) const TOLD: Field<Timestamp> = Field::new("told");
    pub(crate) const REDRIVEN: Field<u32> = Field::new("redriven");
    /// Of the record of a repository.
    pub(crate) const SHARED_WAIT: Field<SharedWait> = Field::new("waits");
    pub(crate) const WAIT_LOGGED: Field<Timestamp> = Field::new("wait_logged");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_the_furthest_that_a_build_came_to() {
        let at = Timestamp::UNIX_EPOCH;
        let event = |what| Event {
            at,
            process: String::new(),
            what,
        };
        let step = |step| {
            Some(Now {
                queue: String::new(),
                since: at,
                step,
            })
        };
        let mut record = BuildRecord {
            events: vec![event(What::Accepted {
                source: Source::Harbormaster,
            })],
            now: step(Step::Ready),
            ..BuildRecord::default()
        };
        assert_eq!(record.state(), BuildState::Accepted);
        record.now = step(Step::Working {
            attempt: 1,
            process: String::new(),
        });
        assert_eq!(record.state(), BuildState::Loading);
        record.events.push(event(What::Loaded {
            revisions: Vec::new(),
            landed: Vec::new(),
            base: None,
        }));
        assert_eq!(record.state(), BuildState::Applying);
        record.now = step(Step::Delayed {
            until: at,
            reason: String::new(),
            attempt: 0,
        });
        assert_eq!(record.state(), BuildState::Deferred);
        (record.now, record.pushing) = (step(Step::Ready), true);
        assert_eq!(record.state(), BuildState::Pushing);
        record.told = Some(at);
        assert_eq!(record.state(), BuildState::Published);
    }
}
