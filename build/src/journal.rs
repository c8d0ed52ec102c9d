//! Keeps the records of builds.
//!
//! # Who decides how a build ends
//!
//! A build's end is decided once, by whoever writes it into the record first: the workflow, the Mercurial worker, an
//! operator who cancels, or the auditor. Each writes it in the same step as the message to `results` that says it. A later
//! one changes nothing, and the publisher says an end only if it is the one in the record. So two deliveries of one build,
//! or a cancellation beside a push, come to one answer, whatever order they arrive in.
//!
//! A private revision is the exception that overrules: what was written down before it was known to be private must go,
//! so its end erases the record first.

use std::{borrow::Cow, error::Error, sync::Arc, time::Duration};

use bus::{Bus, BusError, Claim, Context, DecodeError, Fact, Ledger, Requeue};
use jiff::Timestamp;
use tracing::info;

use super::{
    BaseChoice, Blocker, BuildRequest, BuildState, Phid, Report,
    record::{Acceptance, BuildRecord, End, Event, Now, Outcome, Source, Step, What, field},
};

/// A wait that is logged.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// All builds have this tag.
pub const ALL: &str = "all";
/// Builds whose end was not said yet have this tag.
pub const OPEN: &str = "open";

/// Writes and reads the records of builds, on the bus.
#[derive(Debug, Clone)]
pub struct Journal {
    ledger: Ledger,
    process: Arc<str>,
}

impl Journal {
    /// The records of builds, each kept for `retention` after its last change, as `process` writes them.
    pub fn new(retention: Duration, process: &str) -> Self {
        Self {
            ledger: Ledger {
                name: "builds",
                retention,
            },
            process: process.into(),
        }
    }

    /// Where the records are.
    pub fn ledger(&self) -> Ledger {
        self.ledger
    }

    fn event(&self, target: &Phid, at: Timestamp, what: What) -> Result<Fact, BusError> {
        self.ledger.add(
            target.as_str(),
            &Event {
                at,
                process: self.process.to_string(),
                what,
            },
        )
    }

    fn ready(&self, target: &Phid, at: Timestamp, queue: &str) -> Result<Fact, BusError> {
        self.ledger.set(
            target.as_str(),
            field::NOW,
            &Now {
                queue: queue.to_owned(),
                since: at,
                step: Step::Ready,
            },
        )
    }

    /// A build that was asked for: to be stored with its message in `queue`, unless it was accepted before.
    pub fn accepted(
        &self,
        request: &BuildRequest,
        source: Source,
        queue: &str,
    ) -> Result<Vec<Fact>, BusError> {
        let id = request.target.as_str();
        let accepted = Acceptance {
            request: Cow::Borrowed(request),
            source: Some(source),
            process: Cow::Borrowed(&self.process),
            queue: Cow::Borrowed(queue),
        };
        Ok(vec![
            self.ledger.open(id, field::ACCEPTED, &accepted)?,
            self.ledger.tag(id, ALL),
            self.ledger.tag(id, OPEN),
            self.ledger.tag(id, revision_tag(request.revision_id)),
            self.ledger.tag(id, diff_tag(request.diff_id)),
        ])
    }

    /// Records `what` with the step that runs.
    pub fn note(&self, cx: &Context, target: &Phid, what: What) -> Result<(), BusError> {
        cx.record(self.event(target, cx.clock().now(), what)?);
        Ok(())
    }

    /// The step sends the build's message to `queue`.
    pub fn sent(&self, cx: &Context, target: &Phid, queue: &str) -> Result<(), BusError> {
        cx.record(self.ready(target, cx.clock().now(), queue)?);
        Ok(())
    }

    /// The step sends the build's message to `queue`, to be looked at after a while.
    pub fn delayed(
        &self,
        cx: &Context,
        target: &Phid,
        queue: &str,
        after: Duration,
        reason: &str,
    ) -> Result<(), BusError> {
        self.waits(cx, target, queue, after, reason, 0)
    }

    /// The same after so many failed attempts.
    fn waits(
        &self,
        cx: &Context,
        target: &Phid,
        queue: &str,
        after: Duration,
        reason: &str,
        attempt: u32,
    ) -> Result<(), BusError> {
        let now = cx.clock().now();
        let until = now.checked_add(after).unwrap_or(Timestamp::MAX);
        let step = Step::Delayed {
            until,
            reason: reason.to_owned(),
            attempt,
        };
        cx.record(self.ledger.set(
            target.as_str(),
            field::NOW,
            &Now {
                queue: queue.to_owned(),
                since: now,
                step,
            },
        )?);
        Ok(())
    }

    /// A worker begins with the build.
    pub async fn begins(&self, cx: &Context, target: &Phid, queue: &str) -> Result<(), BusError> {
        let step = Step::Working {
            attempt: cx.attempt(),
            process: self.process.to_string(),
        };
        let now = Now {
            queue: queue.to_owned(),
            since: cx.clock().now(),
            step,
        };
        cx.record_now(vec![self.ledger.set(target.as_str(), field::NOW, &now)?])
            .await
    }

    /// The build's message comes back to `queue`. The same trouble again is not told again. A wait for one reason is
    /// logged when it comes to more than a minute, once; a failed attempt is logged by the consumer.
    pub async fn requeued<E: Error>(
        &self,
        cx: &Context,
        target: &Phid,
        queue: &str,
        requeue: &Requeue<'_, E>,
        blocker: Option<Blocker>,
    ) -> Result<(), BusError> {
        let reason = &requeue.why.to_string();
        let is_attempt = requeue.why.is_attempt();
        let known = self.read(cx, target).await?.events;
        let same = known.last().filter(|event| match &event.what {
            What::Failed {
                queue: at,
                reason: before,
                ..
            }
            | What::Parked {
                queue: at,
                reason: before,
                ..
            } => at == queue && before == reason,
            _ => false,
        });
        let now = cx.clock().now();
        let waited = same.map_or(Duration::ZERO, |event| {
            Duration::try_from(now.duration_since(event.at)).unwrap_or_default()
        });
        if !is_attempt && waited < LONG_WAIT && waited + requeue.after >= LONG_WAIT {
            info!(step = "deferred", reason, "the build waits: {reason}");
        }
        if same.is_none() {
            let queue = queue.to_owned();
            let reason = reason.clone();
            let what = if is_attempt {
                What::Failed {
                    queue,
                    attempt: cx.attempt(),
                    reason,
                }
            } else {
                What::Parked {
                    queue,
                    reason,
                    blocker,
                }
            };
            self.note(cx, target, what)?;
        }
        let attempt = if is_attempt { cx.attempt() } else { 0 };
        self.waits(cx, target, queue, requeue.after, reason, attempt)
    }

    /// Decides what the build is based on, unless that was decided before: returns what stands. It is written before the
    /// first changeset is made on it, so that a build that is delivered again gives the same changesets, on any machine.
    pub async fn based(
        &self,
        cx: &Context,
        target: &Phid,
        choice: &BaseChoice,
    ) -> Result<BaseChoice, BusError> {
        self.chooses(cx, target, None, choice).await
    }

    /// Decides on another base, after the stack did not apply on the one that was `tried`: returns what stands.
    pub async fn based_instead(
        &self,
        cx: &Context,
        target: &Phid,
        tried: &BaseChoice,
        choice: &BaseChoice,
    ) -> Result<BaseChoice, BusError> {
        self.chooses(cx, target, Some(tried), choice).await
    }

    async fn chooses(
        &self,
        cx: &Context,
        target: &Phid,
        before: Option<&BaseChoice>,
        choice: &BaseChoice,
    ) -> Result<BaseChoice, BusError> {
        let based = self.event(target, cx.clock().now(), What::Based(choice.clone()))?;
        let change =
            self.ledger
                .compare_and_set(target.as_str(), field::BASE, before, Some(choice))?;
        let stands = match cx.compare_and_set(change, vec![based]).await? {
            true => None,
            false => self.read(cx, target).await?.base,
        };
        Ok(stands.unwrap_or_else(|| choice.clone()))
    }

    /// The build's head is about to be pushed. From here on it is known that it may be on Try.
    pub async fn pushes(&self, cx: &Context, target: &Phid) -> Result<(), BusError> {
        cx.record_now(vec![self.ledger.set(
            target.as_str(),
            field::PUSHING,
            &true,
        )?])
        .await
    }

    /// The push was refused: nothing is on Try.
    pub fn pushed_nothing(&self, cx: &Context, target: &Phid) -> Result<(), BusError> {
        cx.record(self.ledger.set(target.as_str(), field::PUSHING, &false)?);
        Ok(())
    }

    /// Decides how the build ends, unless that was decided before; to be written with the step that sends `report` to
    /// `queue`. Of a private revision nothing is kept of `record`, what is known of the build, but that it was accepted.
    pub fn ends(
        &self,
        request: &BuildRequest,
        record: &BuildRecord,
        report: &Report,
        queue: &str,
        at: Timestamp,
    ) -> Result<Vec<Fact>, BusError> {
        let (target, id) = (&request.target, request.target.as_str());
        let mut facts = Vec::new();
        if *report == Report::Withheld {
            facts.push(self.ledger.erase(id));
            let unknown = Acceptance {
                request: Cow::Borrowed(request),
                source: None,
                process: Cow::Borrowed(&self.process),
                queue: Cow::Borrowed(queue),
            };
            facts.push(self.ledger.set(
                id,
                field::ACCEPTED,
                record.accepted.as_ref().unwrap_or(&unknown),
            )?);
        }
        let end = End {
            at,
            outcome: Outcome::Answered(report.clone()),
        };
        facts.push(self.ledger.set_once(id, field::END, &end)?);
        facts.push(self.event(target, at, What::Ended(BuildState::from(report)))?);
        facts.push(self.ready(target, at, queue)?);
        Ok(facts)
    }

    /// A link with this address is about to be put on the target: should its target have one already, it is this one.
    pub async fn links(&self, cx: &Context, target: &Phid, url: &str) -> Result<(), BusError> {
        cx.record_now(vec![self.ledger.set(
            target.as_str(),
            field::LINK,
            &url.to_owned(),
        )?])
        .await
    }

    /// A build whose target has the link of a push, made by somebody else: it is not built, and needs no answer.
    /// `accepted` for one of which nothing was known.
    pub fn adopted(
        &self,
        request: &BuildRequest,
        accepted: bool,
        key: &str,
        queue: &str,
        at: Timestamp,
    ) -> Result<Vec<Fact>, BusError> {
        let id = request.target.as_str();
        let mut facts = if accepted {
            self.accepted(request, Source::Audit, queue)?
        } else {
            Vec::new()
        };
        facts.push(self.ledger.set_once(
            id,
            field::END,
            &End {
                at,
                outcome: Outcome::PushedBefore,
            },
        )?);
        facts.extend(self.closed(
            &request.target,
            What::Adopted {
                key: key.to_owned(),
            },
            false,
            at,
        )?);
        Ok(facts)
    }

    /// An operator restarted the build in Harbormaster.
    pub fn restarted(&self, target: &Phid, at: Timestamp) -> Result<Vec<Fact>, BusError> {
        Ok(vec![self.event(target, at, What::Restarted)?])
    }

    /// Claims the answer that must not be sent twice.
    pub async fn claims_answer(&self, cx: &Context, target: &Phid) -> Result<Claim<()>, BusError> {
        cx.claim(&self.ledger, target.as_str(), field::CLAIM).await
    }

    /// The build has its end: it was said, or need not be. `elsewhere` when its target was ended by somebody else.
    pub fn closed(
        &self,
        target: &Phid,
        what: What,
        elsewhere: bool,
        at: Timestamp,
    ) -> Result<Vec<Fact>, BusError> {
        let id = target.as_str();
        let mut facts = vec![
            self.event(target, at, what)?,
            self.ledger.set(id, field::TOLD, &at)?,
            self.ledger.untag(id, OPEN),
        ];
        if elsewhere {
            facts.push(self.ledger.set_once(
                id,
                field::END,
                &End {
                    at,
                    outcome: Outcome::EndedElsewhere,
                },
            )?);
        }
        Ok(facts)
    }

    /// The build needs no more looks: its end was said, and it was taken for open again.
    pub fn not_open(&self, target: &Phid) -> Fact {
        self.ledger.untag(target.as_str(), OPEN)
    }

    /// The build's answer could not be given, and nobody tries any more. It may still be said, should an operator send the
    /// dead letter again.
    pub fn not_told(
        &self,
        target: &Phid,
        reason: &str,
        at: Timestamp,
    ) -> Result<Vec<Fact>, BusError> {
        let what = What::NotTold {
            reason: reason.to_owned(),
        };
        Ok(vec![
            self.event(target, at, what)?,
            self.ledger.untag(target.as_str(), OPEN),
        ])
    }

    /// The build is sent to `queue` once more, for this reason; `redriven` times in all by the auditor.
    pub fn redriven(
        &self,
        target: &Phid,
        queue: &str,
        reason: &str,
        redriven: u32,
        at: Timestamp,
    ) -> Result<Vec<Fact>, BusError> {
        Ok(vec![
            self.event(
                target,
                at,
                What::Redriven {
                    reason: reason.to_owned(),
                },
            )?,
            self.ledger
                .set(target.as_str(), field::REDRIVEN, &redriven)?,
            self.ready(target, at, queue)?,
            self.ledger.tag(target.as_str(), OPEN),
        ])
    }

    /// What is known of a build, within a step.
    pub async fn read(&self, cx: &Context, target: &Phid) -> Result<BuildRecord, BusError> {
        Ok(readable(
            target,
            BuildRecord::read(&cx.recorded(&self.ledger, target.as_str()).await?),
        ))
    }

    /// What is known of builds.
    pub async fn find(
        &self,
        bus: &dyn Bus,
        targets: &[Phid],
    ) -> Result<Vec<BuildRecord>, BusError> {
        let ids: Vec<String> = targets.iter().map(Phid::to_string).collect();
        let records = bus.records(&self.ledger, &ids).await?;
        Ok(targets
            .iter()
            .zip(&records)
            .map(|(target, record)| readable(target, BuildRecord::read(record)))
            .collect())
    }

    /// The builds with a tag, the newest first: those at the places of `part`.
    pub async fn tagged(
        &self,
        bus: &dyn Bus,
        tag: &str,
        part: std::ops::Range<usize>,
    ) -> Result<Vec<Phid>, BusError> {
        let found = bus.tagged(&self.ledger, tag, part).await?;
        Ok(found
            .into_iter()
            .filter_map(|(id, _)| Phid::parse(&id).ok())
            .collect())
    }
}

/// A record of another release may not be readable. The build goes on without it, as one of which nothing is known.
fn readable(target: &Phid, read: Result<BuildRecord, DecodeError>) -> BuildRecord {
    read.unwrap_or_else(|error| {
        let error = runtime::error_chain(&error);
        tracing::warn!(build = %target, error, "the record of a build cannot be read, going on without it");
        BuildRecord::default()
    })
}

/// The tag of the builds of a revision.
pub fn revision_tag(revision: u64) -> String {
    format!("D{revision}")
}

/// How many diffs share a tag. Diffs that are published together have numbers near each other, and what shares a tag
/// shares the commands that write it.
const DIFFS: u64 = 100;

/// The tag of the builds of a diff and of its neighbours: whoever reads it leaves out those of other diffs.
pub fn diff_tag(diff: u64) -> String {
    format!("diffs:{}", diff / DIFFS)
}
