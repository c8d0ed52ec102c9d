//! The log of builds: it records the events of a build and sends the messages that follow from them, in one step.
//!
//! # Who decides how a build ends
//!
//! A build's end is decided once, by the first that records it: the workflow, the worker that pushes, an operator who
//! cancels, or the auditor. Each records it in the same step as the message to `build:publish`. A later one changes
//! nothing, and the publisher publishes an end only if it is the one in the record. So two deliveries of one build,
//! or a cancellation beside a push, come to one answer, whatever order they arrive in.
//!
//! A private revision is the exception: its end erases the record first, since events from before may quote it.

mod end;
mod find;
mod progress;
mod publishing;
mod shared_wait;

use std::{borrow::Cow, sync::Arc, time::Duration};

use bus::{BusError, Context, EnqueueOutcome, Producer, Queue, RecordStore, RecordUpdate};
use jiff::Timestamp;

pub use self::find::{ALL, OPEN, diff_index, revision_index};
use super::{
    Build, BuildRequest, BuildUpdateMessage, Phid,
    record::{Acceptance, BuildEventKind, BuildLocation, Event, QueueState, Source, field},
};

/// The queues that a build passes through, and the queues of features that follow builds.
#[derive(Debug, Clone, Copy)]
pub struct BuildQueues {
    /// Requests, until their stacks are loaded.
    pub load: Queue<BuildRequest>,
    /// Stacks to apply and push.
    pub push: Queue<Build>,
    /// Updates to publish on build targets.
    pub publish: Queue<BuildUpdateMessage>,
    /// Public builds whose risk is analysed, where that is configured.
    pub risk: Option<Queue<Build>>,
    /// Pushes whose tests are selected, where that is configured.
    pub selection: Option<Queue<BuildUpdateMessage>>,
}

impl BuildQueues {
    /// The queues that every deployment has.
    pub const fn new(
        load: Queue<BuildRequest>,
        push: Queue<Build>,
        publish: Queue<BuildUpdateMessage>,
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

/// Records the events of builds, sends the messages that follow, and reads the records.
#[derive(Debug, Clone)]
pub struct BuildLog {
    store: RecordStore,
    process: Arc<str>,
    queues: BuildQueues,
}

impl BuildLog {
    /// Keeps each record for `retention` after its last change. Events bear the name `process`.
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

    /// The store that holds the records.
    pub fn store(&self) -> RecordStore {
        self.store
    }

    /// The queues that builds pass through.
    pub fn queues(&self) -> &BuildQueues {
        &self.queues
    }

    /// Accepts a build that `source` requested: stores its request and opens its record. A build that was accepted before is
    /// left as it is, and counts as a duplicate in the outcome.
    pub async fn accept(
        &self,
        producer: &Producer,
        request: &BuildRequest,
        source: Source,
    ) -> Result<EnqueueOutcome, BusError> {
        let changes = self.accepted(request, source)?;
        producer
            .send_with(&self.queues.load, request, changes)
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

    /// The indexes of a build that is beyond `accepted`; see [`ALL`].
    fn index_updates(&self, request: &BuildRequest) -> [RecordUpdate; 3] {
        let id = request.target.as_str();
        [
            self.store.add_to_index(id, ALL),
            self.store
                .add_to_index(id, revision_index(request.revision_id)),
            self.store.add_to_index(id, diff_index(request.diff_id)),
        ]
    }

    fn event(
        &self,
        target: &Phid,
        at: Timestamp,
        kind: BuildEventKind,
    ) -> Result<RecordUpdate, BusError> {
        self.store.add(
            target.as_str(),
            &Event {
                at,
                process: self.process.to_string(),
                kind,
            },
        )
    }

    fn note(&self, cx: &Context, target: &Phid, kind: BuildEventKind) -> Result<(), BusError> {
        cx.record(self.event(target, cx.clock().now(), kind)?);
        Ok(())
    }

    fn ready(&self, target: &Phid, at: Timestamp, queue: &str) -> Result<RecordUpdate, BusError> {
        self.store.set(
            target.as_str(),
            field::NOW,
            &BuildLocation {
                queue: queue.to_owned(),
                since: at,
                step: QueueState::Ready,
            },
        )
    }
}
