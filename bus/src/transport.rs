//! The bus as its backends see it: bytes, leases and one atomic step to end one.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    BusError, CompareAndSet, EnqueueOutcome, Envelope, Isolation, Outgoing, QueueAdmin, QueueSpec,
    Record, RecordStore, RecordUpdate,
};

/// What to reserve.
#[derive(Debug, Clone, Default)]
pub struct Reserve {
    /// The most messages to return; of each partition at most one.
    pub max: usize,
    /// How long to wait for the first one. Zero asks once.
    pub wait: Duration,
    /// Ends the wait early, with whatever there is: a reservation must not be dropped half-way.
    pub interrupt: Arc<Notify>,
    /// Partitions that are not to be taken from: they are at their limit in this process.
    pub skip_partitions: Vec<String>,
}

impl Reserve {
    /// Asks once for up to `max` messages.
    pub fn now(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }
}

/// How often in a row a message may be taken and not settled before it is suspected of killing its workers. From then
/// on it is reserved alone, so that no other message shares its fate.
pub const POISON_SUSPECT_DELIVERIES: u32 = 2;

/// The right to settle one message: it holds until the lease runs out **and** somebody else takes the message.
#[derive(Debug, Clone)]
pub struct Lease {
    pub(crate) queue: &'static str,
    pub(crate) length: Duration,
    pub(crate) partition: Option<String>,
    /// The backend's name of the entry; smaller ones became ready earlier.
    pub(crate) entry: (u64, u64),
    /// Which reservation of the entry this is; an older one is stale.
    pub(crate) delivery: u64,
    /// Whether it was settled. Redis counts a released delivery back, so the next one may have the same number; in memory
    /// no two have, and this is `None`.
    pub(crate) spent: Option<Arc<AtomicBool>>,
}

impl Lease {
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
            .as_ref()
            .is_some_and(|spent| spent.load(Ordering::Relaxed))
    }

    pub(crate) fn spend(&self) {
        if let Some(spent) = &self.spent {
            spent.store(true, Ordering::Relaxed);
        }
    }
}

/// A reserved message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Needed to extend and to settle.
    pub lease: Lease,
    /// The message.
    pub envelope: Arc<Envelope>,
    /// Which attempt this is, from 1; a reservation that ended with its worker's death counts.
    pub attempt: u32,
    /// How often in a row it was taken before and not settled.
    pub unsettled_deliveries: u32,
}

/// How a reservation ends. Each is one atomic step together with what it sends.
#[derive(Debug)]
pub enum Settlement {
    /// Handled: the message is gone and `emit` is stored.
    Done {
        /// What the handler sent.
        emit: Vec<Outgoing>,
    },
    /// Failed for now: it comes back after `after`, the attempt counted.
    Retry {
        /// The wait.
        after: Duration,
    },
    /// Not its time yet: it comes back after `after`, and no attempt is counted.
    Defer {
        /// The wait.
        after: Duration,
    },
    /// Failed permanently: it is kept as a dead letter and `emit` is stored.
    Dead {
        /// Names the letter.
        id: Uuid,
        /// Why, with the chain of causes.
        reason: String,
        /// How often it was tried.
        attempts: u32,
        /// What the handler sent on its behalf.
        emit: Vec<Outgoing>,
    },
    /// Given back untouched to the head of its queue; no attempt is counted.
    Release,
}

/// How one reservation ends, and what is recorded with that. Nothing is recorded with a release.
#[derive(Debug, Clone, Copy)]
pub struct SettleRequest<'a> {
    /// Which reservation.
    pub lease: &'a Lease,
    /// How it ends.
    pub how: &'a Settlement,
    /// What is recorded.
    pub updates: &'a [RecordUpdate],
}

impl<'a> SettleRequest<'a> {
    /// An end with nothing to record.
    pub fn new(lease: &'a Lease, how: &'a Settlement) -> Self {
        Self {
            lease,
            how,
            updates: &[],
        }
    }
}

/// A queueing backend: [`crate::MemoryBus`] or [`crate::RedisBus`]. Both pass the same contract suite.
#[async_trait]
pub trait Bus: QueueAdmin {
    /// Stores all of `messages` or none; when this returns `Ok` they survive what the backend survives. In the same
    /// step it records `updates`, unless there are messages and all of them were stored before: by their keys, or, when
    /// `updates` begin with [`RecordStore::open`], by that record.
    ///
    /// [`BusError::Full`] when a queue would hold more than its bound.
    async fn push_with(
        &self,
        messages: Vec<Outgoing>,
        updates: Vec<RecordUpdate>,
    ) -> Result<EnqueueOutcome, BusError>;

    /// Records a change and `updates` in one step, if the change finds what it expects; returns whether it did.
    /// Otherwise nothing is recorded.
    ///
    /// An error says nothing about whether it was recorded.
    async fn compare_and_set(
        &self,
        change: CompareAndSet,
        updates: Vec<RecordUpdate>,
    ) -> Result<bool, BusError>;

    /// [`Bus::push_with`], without updates.
    async fn push(&self, messages: Vec<Outgoing>) -> Result<EnqueueOutcome, BusError> {
        self.push_with(messages, Vec::new()).await
    }

    /// Takes messages: those whose lease ran out or that were released first, then the others in order. One whose
    /// `unsettled_deliveries` have reached [`POISON_SUSPECT_DELIVERIES`] comes alone.
    ///
    /// Run it to its end: a future that is dropped may have taken messages along, which come back only when their
    /// lease runs out.
    async fn reserve(&self, queue: &QueueSpec, request: Reserve)
    -> Result<Vec<Delivery>, BusError>;

    /// Renews a lease for its full length. [`BusError::LeaseLost`] when the message has gone to somebody else.
    async fn extend(&self, lease: &Lease) -> Result<(), BusError>;

    /// Settles deliveries: each is one atomic step of its own, in this order, in as few exchanges with the backend as it
    /// can. The result of each is in its place: one that failed was not written, and does not concern the others. It is
    /// [`BusError::LeaseLost`] when the message has gone to somebody else, and [`BusError::Refused`] when the backend holds
    /// something that is not the bus's where the settlement would write.
    ///
    /// An error of the whole says nothing about what was written before it; the same call can be made again.
    async fn settle_all(
        &self,
        ended: &[SettleRequest<'_>],
    ) -> Result<Vec<Result<(), BusError>>, BusError>;

    /// Settles one delivery, with nothing to record; see [`Bus::settle_all`].
    async fn settle(&self, lease: &Lease, how: &Settlement) -> Result<(), BusError> {
        let mut results = self.settle_all(&[SettleRequest::new(lease, how)]).await?;
        results
            .pop()
            .unwrap_or(Err(BusError::LeaseLost { queue: lease.queue }))
    }

    /// The records with these names, in this order. One that nothing is known of is empty.
    async fn records(&self, store: &RecordStore, ids: &[String]) -> Result<Vec<Record>, BusError>;

    /// The records with this tag and when they got it, the newest first: those at the places of `part`.
    async fn tagged(
        &self,
        store: &RecordStore,
        tag: &str,
        part: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError>;

    /// What keeps a suspected message apart from everything else that this process holds.
    fn isolation(&self) -> &Isolation;

    /// Answers when the backend does.
    async fn ping(&self) -> Result<(), BusError>;

    /// Stores something and removes it again: works exactly when messages could be stored now.
    async fn probe_write(&self) -> Result<(), BusError>;
}
