//! The end of a build: its decision, and the ways around a build that the pipeline lost or another service served.

use std::borrow::Cow;

use bus::{Bus, BusError, Context, Message, Producer, Queue, RecordUpdate};
use jiff::Timestamp;

use super::{BuildLog, OPEN};
use crate::{
    BuildRequest, BuildUpdate, BuildUpdateMessage, Phid,
    record::{Acceptance, BuildEventKind, BuildRecord, FinalOutcome, FinalResult, Source, field},
};

impl BuildLog {
    /// Decides that the build ends with `update`, unless its end was decided before, and sends the update to be published.
    /// The end of a private revision erases `record`, except for the fact that the build was accepted.
    pub fn finish(
        &self,
        cx: &Context,
        request: &BuildRequest,
        record: &BuildRecord,
        update: BuildUpdate,
    ) -> Result<(), BusError> {
        for change in self.ended(request, record, &update, cx.clock().now())? {
            cx.record(change);
        }
        let is_push = matches!(update, BuildUpdate::Pushed(_));
        let message = BuildUpdateMessage {
            request: request.clone(),
            update,
        };
        if let Some(selection) = self.queues.selection.as_ref().filter(|_| is_push) {
            cx.send(selection, &message)?;
        }
        cx.send(&self.queues.publish, &message)
    }

    /// The same from outside a step. With a `key`, once within a day.
    pub async fn finish_from(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        record: &BuildRecord,
        update: BuildUpdate,
        key: Option<&str>,
    ) -> Result<(), BusError> {
        let changes = self.ended(request, record, &update, producer.clock().now())?;
        let message = BuildUpdateMessage {
            request: request.clone(),
            update,
        };
        send(producer, &self.queues.publish, &message, key, changes).await
    }

    fn ended(
        &self,
        request: &BuildRequest,
        record: &BuildRecord,
        update: &BuildUpdate,
        at: Timestamp,
    ) -> Result<Vec<RecordUpdate>, BusError> {
        let (target, id) = (&request.target, request.target.as_str());
        let mut changes = Vec::from(self.index_updates(request));
        if *update == BuildUpdate::Private {
            changes.push(self.store.erase(id));
            let unknown = Acceptance {
                request: Cow::Borrowed(request),
                source: None,
                process: Cow::Borrowed(&self.process),
                queue: Cow::Borrowed(self.queues.publish.spec().name),
            };
            changes.push(self.store.set(
                id,
                field::ACCEPTED,
                record.accepted.as_ref().unwrap_or(&unknown),
            )?);
        }
        let end = FinalResult {
            at,
            outcome: FinalOutcome::Answered(update.clone()),
        };
        changes.push(self.store.set_once(id, field::END, &end)?);
        if let Some(outcome) = update.outcome() {
            changes.push(self.event(target, at, BuildEventKind::Ended(outcome))?);
        }
        changes.push(self.ready(target, at, self.queues.publish.spec().name)?);
        Ok(changes)
    }

    /// Adopts a build whose target has the link of a push by another service: the build is not built, and needs no answer.
    /// With `accept`, a build without a record is accepted first.
    pub async fn adopt(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        accept: bool,
        key: &str,
    ) -> Result<(), BusError> {
        let (id, at) = (request.target.as_str(), producer.clock().now());
        let mut changes = if accept {
            self.accepted(request, Source::Audit)?
        } else {
            Vec::new()
        };
        let end = FinalResult {
            at,
            outcome: FinalOutcome::PushedBefore,
        };
        changes.push(self.store.set_once(id, field::END, &end)?);
        changes.extend(self.index_updates(request));
        let adopted = BuildEventKind::Adopted {
            key: key.to_owned(),
        };
        changes.extend(self.closed(&request.target, adopted, at)?);
        record(producer, changes).await
    }

    /// Closes a build whose target ended without us, and so takes no answer.
    pub async fn close_externally(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        reason: &str,
    ) -> Result<(), BusError> {
        let (target, at) = (&request.target, producer.clock().now());
        let mut changes = self.closed(target, not_published(reason), at)?;
        changes.extend(self.index_updates(request));
        let end = FinalResult {
            at,
            outcome: FinalOutcome::ClosedExternally,
        };
        changes.push(self.store.set_once(target.as_str(), field::END, &end)?);
        record(producer, changes).await
    }

    pub(super) fn closed(
        &self,
        target: &Phid,
        kind: BuildEventKind,
        at: Timestamp,
    ) -> Result<Vec<RecordUpdate>, BusError> {
        let id = target.as_str();
        Ok(vec![
            self.event(target, at, kind)?,
            self.store.set(id, field::PUBLISHED_AT, &at)?,
            self.store.remove_from_index(id, OPEN),
        ])
    }

    /// Takes builds that are closed out of the audit. They got there because their requests came a second time.
    pub async fn untrack(&self, bus: &dyn Bus, targets: &[Phid]) -> Result<(), BusError> {
        let remove = |target: &Phid| self.store.remove_from_index(target.as_str(), OPEN);
        let changes = targets.iter().map(remove).collect();
        bus.push_with(Vec::new(), changes).await.map(|_| ())
    }

    /// Records that an operator restarted the build in Harbormaster.
    pub async fn mark_restarted(&self, producer: &Producer, target: &Phid) -> Result<(), BusError> {
        let event = self.event(target, producer.clock().now(), BuildEventKind::Restarted)?;
        record(producer, vec![event]).await
    }

    /// Sends a build through the pipeline again, for this reason: its `answer` to be published if there is one, else the
    /// build from the beginning. `redriven` is the new count of such passes. With a `key`, once within a day.
    pub async fn redrive(
        &self,
        producer: &Producer,
        request: BuildRequest,
        answer: Option<BuildUpdate>,
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
        let mut changes = vec![
            self.event(target, at, BuildEventKind::Redriven { reason })?,
            self.store
                .set(target.as_str(), field::REDRIVEN, &redriven)?,
            self.ready(target, at, queue)?,
            self.store.add_to_index(target.as_str(), OPEN),
        ];
        changes.extend(self.index_updates(&request));
        match answer {
            Some(update) => {
                let message = BuildUpdateMessage { request, update };
                send(producer, &self.queues.publish, &message, key, changes).await
            }
            None => send(producer, &self.queues.load, &request, key, changes).await,
        }
    }
}

async fn send<M: Message>(
    producer: &Producer,
    queue: &Queue<M>,
    message: &M,
    key: Option<&str>,
    changes: Vec<RecordUpdate>,
) -> Result<(), BusError> {
    let sent = match key {
        Some(key) => {
            producer
                .send_deduplicated(queue, message, key, changes)
                .await
        }
        None => producer.send_with(queue, message, changes).await,
    };
    sent.map(|_| ())
}

async fn record(producer: &Producer, changes: Vec<RecordUpdate>) -> Result<(), BusError> {
    producer
        .bus()
        .push_with(Vec::new(), changes)
        .await
        .map(|_| ())
}

pub(super) fn not_published(reason: &str) -> BuildEventKind {
    BuildEventKind::NotPublished {
        reason: reason.to_owned(),
    }
}
