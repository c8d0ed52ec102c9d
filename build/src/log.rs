//! The log of builds: it records what happens to a build, and sends what follows from that, in one step.
//!
//! # Who decides how a build ends
//!
//! A build's end is decided once, by whoever records it first: the workflow, the worker that pushes, an operator who
//! cancels, or the auditor. Each records it in the same step as the message to `build:publish`. A later one changes
//! nothing, and the publisher publishes an end only if it is the one in the record. So two deliveries of one build,
//! or a cancellation beside a push, come to one answer, whatever order they arrive in.
//!
//! A private revision is the exception that overrules: what was recorded before it was known to be private must go,
//! so its end erases the record first.

mod find;
mod shared_wait;

use std::{borrow::Cow, error::Error, sync::Arc, time::Duration};

use bus::{
    Bus, BusError, Claim, Context, EnqueueOutcome, Message, Producer, Queue, RecordStore,
    RecordUpdate, Requeue,
};
use jiff::Timestamp;
use tracing::info;

pub use self::find::{ALL, OPEN, diff_tag, revision_tag};
use super::{
    Answer, BaseChoice, Blocker, Build, BuildRequest, BuildState, Hidden, Phid, Report, Update,
    record::{Acceptance, BuildRecord, End, Event, Now, Outcome, Source, Step, What, field},
};

/// A wait that is logged.
const LONG_WAIT: Duration = Duration::from_secs(60);

/// The queues that a build passes, and those of who else wants to know of it.
#[derive(Debug, Clone, Copy)]
pub struct BuildQueues {
    /// Requests, until their stacks are loaded.
    pub load: Queue<BuildRequest>,
    /// Stacks to apply and push.
    pub push: Queue<Build>,
    /// What is published on build targets.
    pub publish: Queue<Update>,
    /// Public builds whose risk is analysed, where that is configured.
    pub risk: Option<Queue<Build>>,
    /// Pushes whose tests are selected, where that is configured.
    pub selection: Option<Queue<Update>>,
}

impl BuildQueues {
    /// Without those that are configured.
    pub const fn new(
        load: Queue<BuildRequest>,
        push: Queue<Build>,
        publish: Queue<Update>,
    ) -> Self {
        Self {
            load,
            push,
            publish,
            risk: None,
            selection: None,
        }
    }
}

/// Records what happens to builds and sends what follows; reads the records.
#[derive(Debug, Clone)]
pub struct BuildLog {
    store: RecordStore,
    process: Arc<str>,
    queues: BuildQueues,
}

impl BuildLog {
    /// The records of builds, each kept for `retention` after its last change, as `process` writes them.
    pub fn new(retention: Duration, process: &str, queues: BuildQueues) -> Self {
        Self {
            store: RecordStore {
                name: "builds",
                retention,
            },
            process: process.into(),
            queues,
        }
    }

    /// Where the records are.
    pub fn store(&self) -> RecordStore {
        self.store
    }

    /// The queues that builds pass.
    pub fn queues(&self) -> &BuildQueues {
        &self.queues
    }

    fn event(&self, target: &Phid, at: Timestamp, what: What) -> Result<RecordUpdate, BusError> {
        self.store.add(
            target.as_str(),
            &Event {
                at,
                process: self.process.to_string(),
                what,
            },
        )
    }

    fn ready(&self, target: &Phid, at: Timestamp, queue: &str) -> Result<RecordUpdate, BusError> {
        self.store.set(
            target.as_str(),
            field::NOW,
            &Now {
                queue: queue.to_owned(),
                since: at,
                step: Step::Ready,
            },
        )
    }

    /// Accepts a build that `source` asked for, unless it was accepted before.
    pub async fn accept(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        source: Source,
    ) -> Result<EnqueueOutcome, BusError> {
        let updates = self.accepted(request, source)?;
        producer
            .send_with(&self.queues.load, request, updates)
            .await
    }

    fn accepted(
        &self,
        request: &BuildRequest,
        source: Source,
    ) -> Result<Vec<RecordUpdate>, BusError> {
        let id = request.target.as_str();
        let accepted = Acceptance {
            request: Cow::Borrowed(request),
            source: Some(source),
            process: Cow::Borrowed(&self.process),
            queue: Cow::Borrowed(self.queues.load.spec().name),
        };
        Ok(vec![
            self.store.open(id, field::ACCEPTED, &accepted)?,
            self.store.add_to_index(id, OPEN),
        ])
    }

    /// Lets a build that is not just accepted any more be found.
    fn tags(&self, request: &BuildRequest) -> [RecordUpdate; 3] {
        let id = request.target.as_str();
        [
            self.store.add_to_index(id, ALL),
            self.store
                .add_to_index(id, revision_tag(request.revision_id)),
            self.store.add_to_index(id, diff_tag(request.diff_id)),
        ]
    }

    fn note(&self, cx: &Context, target: &Phid, what: What) -> Result<(), BusError> {
        cx.record(self.event(target, cx.clock().now(), what)?);
        Ok(())
    }

    /// The build's revision is not public, by the `look`-th of `looks` checks.
    pub fn not_public(
        &self,
        cx: &Context,
        target: &Phid,
        look: u32,
        looks: u32,
        why: Hidden,
    ) -> Result<(), BusError> {
        self.note(cx, target, What::Hidden { look, looks, why })
    }

    /// The build's stack is loaded: it is sent on to be pushed, and `work` to its target.
    pub fn loaded(&self, cx: &Context, build: &Build) -> Result<(), BusError> {
        let BuildQueues {
            push,
            publish,
            risk,
            ..
        } = &self.queues;
        let target = &build.request.target;
        self.note(
            cx,
            target,
            What::Loaded {
                revisions: build.revisions(),
                landed: build.landed.clone(),
                base: build.named_base(),
            },
        )?;
        cx.record(self.ready(target, cx.clock().now(), push.spec().name)?);
        cx.send(push, build)?;
        if let Some(risk) = risk {
            cx.send(risk, build)?;
        }
        let working = Update {
            request: build.request.clone(),
            report: Report::Working,
        };
        cx.send(publish, &working)
    }

    /// The build waits in `queue` for something that is recorded already.
    pub fn waits(
        &self,
        cx: &Context,
        target: &Phid,
        queue: &str,
        after: Duration,
        reason: &str,
    ) -> Result<(), BusError> {
        self.delayed(cx, target, queue, after, reason, 0)
    }

    /// The same after so many failed attempts.
    fn delayed(
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
        cx.record(self.store.set(
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

    /// A worker begins with the build, which came from `queue`.
    pub async fn begin(
        &self,
        cx: &Context,
        request: &BuildRequest,
        queue: &str,
    ) -> Result<(), BusError> {
        let step = Step::Working {
            attempt: cx.attempt(),
            process: self.process.to_string(),
        };
        let now = Now {
            queue: queue.to_owned(),
            since: cx.clock().now(),
            step,
        };
        let id = request.target.as_str();
        let mut updates = vec![self.store.set(id, field::NOW, &now)?];
        if queue == self.queues.load.spec().name {
            updates.extend(self.tags(request));
        }
        cx.record_now(updates).await
    }

    /// The build's message comes back to `queue`. The same reason again is not recorded again. A wait for one reason that
    /// comes to more than a minute is logged, once; a failed attempt is logged by the consumer.
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
        let known = self.read(cx, target).await?;
        let same = known.events.last().filter(|event| match &event.what {
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
        let since = same.map_or(now, |event| event.at);
        let waited = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let is_long = !is_attempt && waited + requeue.after >= LONG_WAIT;
        // A delivery may come late: what was logged is seen from the record, not from the time.
        if is_long && known.wait_logged != Some(since) {
            info!(
                state = BuildState::Deferred.name(),
                reason, "the build waits: {reason}"
            );
            cx.record(
                self.store
                    .set(target.as_str(), field::WAIT_LOGGED, &since)?,
            );
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
            cx.record(self.event(target, now, what)?);
        }
        let attempt = if is_attempt { cx.attempt() } else { 0 };
        self.delayed(cx, target, queue, requeue.after, reason, attempt)
    }

    /// Decides what the build is based on, unless that was decided before: returns what stands. It is written before the
    /// first changeset is made on it, so that a build that is delivered again gives the same changesets, on any machine.
    pub async fn choose_base(
        &self,
        cx: &Context,
        target: &Phid,
        choice: &BaseChoice,
    ) -> Result<BaseChoice, BusError> {
        self.chooses(cx, target, None, choice).await
    }

    /// Decides on another base, after the stack did not apply on the one that was `tried`: returns what stands.
    pub async fn choose_base_instead(
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
            self.store
                .compare_and_set(target.as_str(), field::BASE, before, Some(choice))?;
        let stands = match cx.compare_and_set(change, vec![based]).await? {
            true => None,
            false => self.read(cx, target).await?.base,
        };
        Ok(stands.unwrap_or_else(|| choice.clone()))
    }

    /// The build's head is about to be pushed. From here on it is known that it may be on Try.
    pub async fn mark_pushing(&self, cx: &Context, target: &Phid) -> Result<(), BusError> {
        cx.record_now(vec![self.store.set(
            target.as_str(),
            field::PUSHING,
            &true,
        )?])
        .await
    }

    /// The push was refused: nothing is on Try.
    pub fn clear_pushing(&self, cx: &Context, target: &Phid) -> Result<(), BusError> {
        cx.record(self.store.set(target.as_str(), field::PUSHING, &false)?);
        Ok(())
    }

    /// Decides that the build ends with `report`, unless its end was decided before, and sends that to be published. Of a
    /// private revision nothing is kept of `record`, what is known of the build, but that it was accepted.
    pub fn finish(
        &self,
        cx: &Context,
        request: &BuildRequest,
        record: &BuildRecord,
        report: Report,
    ) -> Result<(), BusError> {
        for update in self.ended(request, record, &report, cx.clock().now())? {
            cx.record(update);
        }
        let is_push = matches!(report, Report::Pushed(_));
        let update = Update {
            request: request.clone(),
            report,
        };
        if let Some(selection) = self.queues.selection.as_ref().filter(|_| is_push) {
            cx.send(selection, &update)?;
        }
        cx.send(&self.queues.publish, &update)
    }

    /// The same from outside a step. With a `key` it is done once within a day.
    pub async fn finish_from(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        record: &BuildRecord,
        report: Report,
        key: Option<&str>,
    ) -> Result<(), BusError> {
        let updates = self.ended(request, record, &report, producer.clock().now())?;
        let update = Update {
            request: request.clone(),
            report,
        };
        send(producer, &self.queues.publish, &update, key, updates).await
    }

    fn ended(
        &self,
        request: &BuildRequest,
        record: &BuildRecord,
        report: &Report,
        at: Timestamp,
    ) -> Result<Vec<RecordUpdate>, BusError> {
        let (target, id) = (&request.target, request.target.as_str());
        let mut updates = Vec::from(self.tags(request));
        if *report == Report::Withheld {
            updates.push(self.store.erase(id));
            let unknown = Acceptance {
                request: Cow::Borrowed(request),
                source: None,
                process: Cow::Borrowed(&self.process),
                queue: Cow::Borrowed(self.queues.publish.spec().name),
            };
            updates.push(self.store.set(
                id,
                field::ACCEPTED,
                record.accepted.as_ref().unwrap_or(&unknown),
            )?);
        }
        let end = End {
            at,
            outcome: Outcome::Answered(report.clone()),
        };
        updates.push(self.store.set_once(id, field::END, &end)?);
        if let Some(outcome) = report.outcome() {
            updates.push(self.event(target, at, What::Ended(outcome))?);
        }
        updates.push(self.ready(target, at, self.queues.publish.spec().name)?);
        Ok(updates)
    }

    /// A link with this address is about to be put on the target: should its target have one already, it is this one.
    pub async fn links(&self, cx: &Context, target: &Phid, url: &str) -> Result<(), BusError> {
        cx.record_now(vec![self.store.set(
            target.as_str(),
            field::LINK,
            &url.to_owned(),
        )?])
        .await
    }

    /// Adopts a build whose target has the link of a push, made by somebody else: it is not built, and needs no answer.
    /// `accepted` for one of which nothing was known.
    pub async fn adopt(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        accepted: bool,
        key: &str,
    ) -> Result<(), BusError> {
        let (id, at) = (request.target.as_str(), producer.clock().now());
        let mut updates = if accepted {
            self.accepted(request, Source::Audit)?
        } else {
            Vec::new()
        };
        let end = End {
            at,
            outcome: Outcome::PushedBefore,
        };
        updates.push(self.store.set_once(id, field::END, &end)?);
        updates.extend(self.tags(request));
        let adopted = What::Adopted {
            key: key.to_owned(),
        };
        updates.extend(self.closed(&request.target, adopted, at)?);
        record(producer, updates).await
    }

    /// Closes a build whose target was ended by somebody else, and so takes no answer.
    pub async fn close_elsewhere(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        reason: &str,
    ) -> Result<(), BusError> {
        let (target, at) = (&request.target, producer.clock().now());
        let mut updates = self.closed(target, not_told(reason), at)?;
        updates.extend(self.tags(request));
        let end = End {
            at,
            outcome: Outcome::EndedElsewhere,
        };
        updates.push(self.store.set_once(target.as_str(), field::END, &end)?);
        record(producer, updates).await
    }

    /// An operator restarted the build in Harbormaster.
    pub async fn restarted(&self, producer: &Producer, target: &Phid) -> Result<(), BusError> {
        let event = self.event(target, producer.clock().now(), What::Restarted)?;
        record(producer, vec![event]).await
    }

    /// Claims the answer that must not be sent twice.
    pub async fn claim_answer(&self, cx: &Context, target: &Phid) -> Result<Claim<()>, BusError> {
        cx.claim(&self.store, target.as_str(), field::CLAIM).await
    }

    /// The publisher sent this to the target.
    pub fn sent(&self, cx: &Context, target: &Phid, answer: Answer) -> Result<(), BusError> {
        self.note(cx, target, What::Sent(answer))
    }

    /// The target has a link that is not ours. `conflict` says which.
    pub fn conflicts(&self, cx: &Context, target: &Phid, conflict: What) -> Result<(), BusError> {
        self.note(cx, target, conflict)
    }

    /// The publisher sent `work` to the target.
    pub fn sent_working(&self, cx: &Context, target: &Phid, what: &str) -> Result<(), BusError> {
        let what = what.to_owned();
        self.note(cx, target, What::Told { what })
    }

    /// The build's end was published, or need not be: `what` says which.
    pub fn close(&self, cx: &Context, target: &Phid, what: What) -> Result<(), BusError> {
        for update in self.closed(target, what, cx.clock().now())? {
            cx.record(update);
        }
        Ok(())
    }

    fn closed(
        &self,
        target: &Phid,
        what: What,
        at: Timestamp,
    ) -> Result<Vec<RecordUpdate>, BusError> {
        let id = target.as_str();
        Ok(vec![
            self.event(target, at, what)?,
            self.store.set(id, field::TOLD, &at)?,
            self.store.remove_from_index(id, OPEN),
        ])
    }

    /// The builds need no more audits: their ends were published, and they were taken for open again.
    pub async fn untrack(&self, bus: &dyn Bus, targets: &[Phid]) -> Result<(), BusError> {
        let untag = |target: &Phid| self.store.remove_from_index(target.as_str(), OPEN);
        let updates = targets.iter().map(untag).collect();
        bus.push_with(Vec::new(), updates).await.map(|_| ())
    }

    /// The build's answer could not be published, and nobody tries any more. It may still be, should an operator send the
    /// dead letter again.
    pub fn not_published(&self, cx: &Context, target: &Phid, reason: &str) -> Result<(), BusError> {
        self.note(cx, target, not_told(reason))?;
        cx.record(self.store.remove_from_index(target.as_str(), OPEN));
        Ok(())
    }

    /// Sends a build through the pipeline again, for this reason: to be published, when its `answer` is decided, or else
    /// from the beginning. `redriven` times in all by the auditor. With a `key` it is done once within a day.
    pub async fn redrive(
        &self,
        producer: &Producer,
        request: BuildRequest,
        answer: Option<Report>,
        reason: &str,
        redriven: u32,
        key: Option<&str>,
    ) -> Result<(), BusError> {
        let (target, at) = (&request.target, producer.clock().now());
        let queue = match &answer {
            Some(_) => self.queues.publish.spec().name,
            None => self.queues.load.spec().name,
        };
        let reason = reason.to_owned();
        let mut updates = vec![
            self.event(target, at, What::Redriven { reason })?,
            self.store
                .set(target.as_str(), field::REDRIVEN, &redriven)?,
            self.ready(target, at, queue)?,
            self.store.add_to_index(target.as_str(), OPEN),
        ];
        updates.extend(self.tags(&request));
        match answer {
            Some(report) => {
                let update = Update { request, report };
                send(producer, &self.queues.publish, &update, key, updates).await
            }
            None => send(producer, &self.queues.load, &request, key, updates).await,
        }
    }
}

async fn send<M: Message>(
    producer: &Producer,
    queue: &Queue<M>,
    message: &M,
    key: Option<&str>,
    updates: Vec<RecordUpdate>,
) -> Result<(), BusError> {
    let sent = match key {
        Some(key) => {
            producer
                .send_deduplicated(queue, message, key, updates)
                .await
        }
        None => producer.send_with(queue, message, updates).await,
    };
    sent.map(|_| ())
}

async fn record(producer: &Producer, updates: Vec<RecordUpdate>) -> Result<(), BusError> {
    producer
        .bus()
        .push_with(Vec::new(), updates)
        .await
        .map(|_| ())
}

fn not_told(reason: &str) -> What {
    What::NotTold {
        reason: reason.to_owned(),
    }
}
