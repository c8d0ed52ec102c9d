//! The context of a delivery: a handler sends, records and reads the clock through it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;

use tokio::sync::Notify;
use tracing::Span;

use crate::{
    Bus, BusError, CompareAndSet, Message, Outgoing, Queue, Record, RecordStore, RecordUpdate,
};
use runtime::{Clock, Shutdown};

/// The parts of a context that all deliveries of a consumer share.
pub(crate) struct Shared {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
}

/// A handler's only way to send and to record, and its view of the delivery it works on.
pub struct Context {
    shared: Arc<Shared>,
    lost: AtomicBool,
    lease_lost: Notify,
    attempt: u32,
    span: Span,
    /// Whether the message has recorded its subject in the span.
    described: AtomicBool,
    outgoing: Mutex<Vec<Outgoing>>,
    updates: Mutex<Vec<RecordUpdate>>,
    hold_until: Mutex<Option<Timestamp>>,
}

impl Context {
    pub(crate) fn new(shared: Arc<Shared>, attempt: u32, span: Span) -> Self {
        Self {
            shared,
            lost: AtomicBool::new(false),
            lease_lost: Notify::new(),
            attempt,
            span,
            described: AtomicBool::new(false),
            outgoing: Mutex::default(),
            updates: Mutex::default(),
            hold_until: Mutex::default(),
        }
    }

    pub(crate) fn shutdown(&self) -> &Shutdown {
        &self.shared.shutdown
    }

    /// Holds the partition of the message from now on.
    pub(crate) fn hold(&self, after: Duration) {
        let until = self.shared.clock.now().saturating_add(after);
        *self.hold_until.lock() = Some(until.unwrap_or(Timestamp::MAX));
    }

    /// The time until which the partition of the message is held; `None` when it is not.
    pub(crate) fn hold_until(&self) -> Option<Timestamp> {
        *self.hold_until.lock()
    }

    /// Records the subject of the message in the span of its delivery, once.
    pub(crate) fn describe(&self, message: &impl Message) {
        if !self.span.is_disabled() && !self.described.swap(true, Ordering::Relaxed) {
            message.describe(&self.span);
        }
    }

    /// Sends a message when this delivery is settled as done, or as a dead letter.
    ///
    /// [`BusError::Encode`] when the message cannot be encoded.
    pub fn send<M: Message>(&self, queue: &Queue<M>, message: &M) -> Result<(), BusError> {
        self.send_after(queue, message, Duration::ZERO)
    }

    /// Sends a message as [`Context::send`] does; it becomes ready `after` the settlement.
    pub fn send_after<M: Message>(
        &self,
        queue: &Queue<M>,
        message: &M,
        after: Duration,
    ) -> Result<(), BusError> {
        let outgoing = queue.pack(message, self.shared.clock.as_ref())?;
        self.outgoing.lock().push(Outgoing { after, ..outgoing });
        Ok(())
    }

    /// Sends a message as [`Context::send`] does, unless anybody has sent the same `key` to this queue within the
    /// queue's `dedup_window`.
    pub fn send_deduplicated<M: Message>(
        &self,
        queue: &Queue<M>,
        message: &M,
        key: &str,
    ) -> Result<(), BusError> {
        let outgoing = queue.pack(message, self.shared.clock.as_ref())?;
        self.outgoing.lock().push(Outgoing {
            key: Some(key.to_owned()),
            ..outgoing
        });
        Ok(())
    }

    /// Records an update when this delivery is settled. Unlike a sent message, the update is kept when the attempt
    /// fails.
    pub fn record(&self, update: impl Into<RecordUpdate>) {
        self.updates.lock().push(update.into());
    }

    /// Records updates now, before this returns: an intention that the next delivery must know, should this one never
    /// be settled.
    pub async fn record_now(&self, updates: Vec<RecordUpdate>) -> Result<(), BusError> {
        self.shared
            .bus
            .push_with(Vec::new(), updates)
            .await
            .map(|_| ())
    }

    /// Makes a change now, and `updates` with it, if the field holds the expected value. Returns whether it did; after
    /// `false` nothing was recorded, and another was first.
    pub async fn compare_and_set(
        &self,
        change: CompareAndSet,
        updates: Vec<RecordUpdate>,
    ) -> Result<bool, BusError> {
        self.shared.bus.compare_and_set(change, updates).await
    }

    /// The record `id`, without the updates that this delivery has yet to record.
    pub async fn recorded(&self, store: &RecordStore, id: &str) -> Result<Record, BusError> {
        Ok(self
            .shared
            .bus
            .records(store, &[id.to_owned()])
            .await?
            .pop()
            .unwrap_or_default())
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The source of time and randomness.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Resolves when the handler must stop, since the process is about to end or the lease is lost. The handler kills and
    /// reaps its child processes then.
    pub async fn cancelled(&self) {
        let lease_lost = self.lease_lost.notified();
        if !self.lost.load(Ordering::SeqCst) {
            tokio::select! {
                () = self.shared.shutdown.cancelled() => {}
                () = lease_lost => {}
            }
        }
    }

    /// Cancels the handler: the lease is lost.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.lease_lost.notify_waiters();
    }

    pub(crate) fn take_updates(&self) -> Vec<RecordUpdate> {
        std::mem::take(&mut self.updates.lock())
    }

    pub(crate) fn take_outgoing(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing.lock())
    }
}
