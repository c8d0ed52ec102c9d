//! The interface of backends: encoded messages, leases and settlements.

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

/// A request for deliveries.
#[derive(Debug, Clone, Default)]
pub struct Reserve {
    /// The maximum number of deliveries; at most one of each partition.
    pub max: usize,
    /// The longest wait for the first delivery. Zero does not wait.
    pub wait: Duration,
    /// Ends the wait early, with the deliveries so far: the future of a reservation must not be dropped.
    pub interrupt: Arc<Notify>,
    /// Partitions of which nothing is reserved: they are held, or at their limit in this process.
    pub skip_partitions: Vec<String>,
}

impl Reserve {
    /// A request for up to `max` deliveries that does not wait.
    pub fn now(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }
}

/// The number of unsettled deliveries in a row from which on a message is suspected of being poison. From then on it is
/// delivered alone, so that no other message dies with it. See [`Isolation`].
pub const POISON_SUSPECT_DELIVERIES: u32 = 2;

/// The right to settle a delivery. It is lost when the lease has run out **and** the message was delivered again.
#[derive(Debug, Clone)]
pub struct Lease {
    pub(crate) queue: &'static str,
    pub(crate) length: Duration,
    pub(crate) partition: Option<String>,
    /// The backend's number of the message; smaller ones became ready earlier.
    pub(crate) entry: (u64, u64),
    /// The number of the delivery; an older one is stale.
    pub(crate) delivery: u64,
    /// Whether it was settled. On Redis a release decrements the number, so that the next delivery has the same one. In
    /// memory no two deliveries have the same number, and this is `None`.
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

/// One hand-over of a message under a lease.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The argument of [`Bus::extend`] and [`Bus::settle`].
    pub lease: Lease,
    /// The message with its id.
    pub envelope: Arc<Envelope>,
    /// The number of the attempt, from 1. A delivery whose worker died counts as one.
    pub attempt: u32,
    /// The number of deliveries in a row before this one that were not settled.
    pub unsettled_deliveries: u32,
}

/// The end of a delivery. Each is one atomic step together with the messages that it sends.
#[derive(Debug)]
pub enum Settlement {
    /// Removes the message and stores `emit`.
    Done {
        /// The messages that the handler sent.
        emit: Vec<Outgoing>,
    },
    /// Delays the message; the attempt counts.
    Retry {
        /// The time until the message is ready. After zero it is ready behind all others.
        after: Duration,
    },
    /// Delays the message; the attempt does not count.
    Defer {
        /// The time until the message is ready. After zero it is ready behind all others.
        after: Duration,
    },
    /// Keeps the message as a dead letter and stores `emit`.
    Dead {
        /// The id of the dead letter.
        id: Uuid,
        /// The error with its chain of causes.
        reason: String,
        /// The number of attempts.
        attempts: u32,
        /// The messages that the dead-letter handler sent.
        emit: Vec<Outgoing>,
    },
    /// Makes the message ready again, before newer ones; the attempt does not count.
    Release,
}

/// A settlement, its lease, and the updates to record with it. A release records nothing.
#[derive(Debug, Clone, Copy)]
pub struct SettleRequest<'a> {
    /// The lease of the delivery.
    pub lease: &'a Lease,
    /// The settlement.
    pub how: &'a Settlement,
    /// The updates, in order.
    pub updates: &'a [RecordUpdate],
}

impl<'a> SettleRequest<'a> {
    /// A request without updates.
    pub fn new(lease: &'a Lease, how: &'a Settlement) -> Self {
        Self {
            lease,
            how,
            updates: &[],
        }
    }
}

/// A backend: [`crate::MemoryBus`] or [`crate::RedisBus`]. Both pass the same tests.
#[async_trait]
pub trait Bus: QueueAdmin {
    /// Stores all of `messages` or none. After `Ok` they are as durable as the backend. Records `updates` in the same step,
    /// unless there are messages and all of them had been stored before: by their keys or, when `updates` begin with
    /// [`RecordStore::open`], by that record.
    ///
    /// [`BusError::Full`] when a queue would exceed its bound.
    async fn push_with(
        &self,
        messages: Vec<Outgoing>,
        updates: Vec<RecordUpdate>,
    ) -> Result<EnqueueOutcome, BusError>;

    /// Records a change and `updates` in one step, if the field holds the expected value. Otherwise records nothing. Returns
    /// whether it did.
    ///
    /// After an error it may have been recorded or not.
    async fn compare_and_set(
        &self,
        change: CompareAndSet,
        updates: Vec<RecordUpdate>,
    ) -> Result<bool, BusError>;

    /// [`Bus::push_with`], without updates.
    async fn push(&self, messages: Vec<Outgoing>) -> Result<EnqueueOutcome, BusError> {
        self.push_with(messages, Vec::new()).await
    }

    /// Reserves messages: first those that were released or whose lease has run out, then the others in order. A message
    /// whose `unsettled_deliveries` have reached [`POISON_SUSPECT_DELIVERIES`] is delivered alone.
    ///
    /// Do not drop the future: it may have reserved messages, which return only when their leases run out. Use
    /// [`Reserve::interrupt`].
    async fn reserve(&self, queue: &QueueSpec, request: Reserve)
    -> Result<Vec<Delivery>, BusError>;

    /// Renews a lease for its full length. [`BusError::LeaseLost`] when the message was delivered again.
    async fn extend(&self, lease: &Lease) -> Result<(), BusError>;

    /// Settles deliveries in this order, each in an atomic step of its own, in as few exchanges with the backend as possible.
    /// The results are in the same order. A settlement that failed was not written, and does not concern the others: with
    /// [`BusError::LeaseLost`] the message was delivered again, and with [`BusError::Refused`] a key that the settlement
    /// writes to has a type that is not the bus's.
    ///
    /// After an error of the whole call some may have been written; make the same call again.
    async fn settle_all(
        &self,
        ended: &[SettleRequest<'_>],
    ) -> Result<Vec<Result<(), BusError>>, BusError>;

    /// Settles one delivery without updates; see [`Bus::settle_all`].
    async fn settle(&self, lease: &Lease, how: &Settlement) -> Result<(), BusError> {
        let mut results = self.settle_all(&[SettleRequest::new(lease, how)]).await?;
        results
            .pop()
            .unwrap_or(Err(BusError::LeaseLost { queue: lease.queue }))
    }

    /// The records with these ids, in this order. One that does not exist is empty.
    async fn records(&self, store: &RecordStore, ids: &[String]) -> Result<Vec<Record>, BusError>;

    /// The records of an index with the time of their addition, the newest first: those at the places `part`.
    async fn indexed(
        &self,
        store: &RecordStore,
        index: &str,
        part: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError>;

    /// The isolation of poison suspects from all other messages in flight in this process.
    fn isolation(&self) -> &Isolation;

    /// Returns when the backend answers.
    async fn ping(&self) -> Result<(), BusError>;

    /// Stores a value and removes it again. Succeeds if and only if messages can be stored now.
    async fn probe_write(&self) -> Result<(), BusError>;
}
