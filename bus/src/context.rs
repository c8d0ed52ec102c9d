//! What a handler is given beside its message.

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

/// What the deliveries of a consumer share.
pub(crate) struct Shared {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
}

/// A handler's only way to send and to record, and its view of the delivery it works on.
pub struct Context {
    shared: Arc<Shared>,
    lost: AtomicBool,
    told: Notify,
    attempt: u32,
    span: Span,
    /// Whether the span shows what the message is about.
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
            told: Notify::new(),
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

    /// Holds the message's partition for this long.
    pub(crate) fn hold(&self, after: Duration) {
        let until = self.shared.clock.now().saturating_add(after);
        *self.hold_until.lock() = Some(until.unwrap_or(Timestamp::MAX));
    }

    /// Until when the message's partition is held, if it is.
    pub(crate) fn hold_until(&self) -> Option<Timestamp> {
        *self.hold_until.lock()
    }

    /// Shows in the delivery's span what its message is about, once.
    pub(crate) fn describe(&self, message: &impl Message) {
        if !self.span.is_disabled() && !self.described.swap(true, Ordering::Relaxed) {
            message.describe(&self.span);
        }
    }

    /// Sends a message when this step is settled.
    pub fn send<M: Message>(&self, queue: &Queue<M>, message: &M) -> Result<(), BusError> {
        self.send_after(queue, message, Duration::ZERO)
    }

    /// Sends a message when this step is settled; it becomes ready `after` that.
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

    /// Sends a message when this step is settled, unless the same `key` was sent to this queue within the queue's
    /// `dedup_window`, from wherever.
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

    /// Records something when this step is settled, however it ends: unlike what it sends, this is not void when the step
    /// fails.
    pub fn record(&self, update: impl Into<RecordUpdate>) {
        self.updates.lock().push(update.into());
    }

    /// Records something now, before this step goes on: an intention that the next delivery must know of, should this one
    /// never end.
    pub async fn record_now(&self, updates: Vec<RecordUpdate>) -> Result<(), BusError> {
        self.shared
            .bus
            .push_with(Vec::new(), updates)
            .await
            .map(|_| ())
    }

    /// Makes a change now, and `updates` with it, if its field holds what it expects; returns whether it did. Who has
    /// `false` was not the first: nothing was recorded.
    pub async fn compare_and_set(
        &self,
        change: CompareAndSet,
        updates: Vec<RecordUpdate>,
    ) -> Result<bool, BusError> {
        self.shared.bus.compare_and_set(change, updates).await
    }

    /// What is recorded of `id`, without what this step is still to record.
    pub async fn recorded(&self, store: &RecordStore, id: &str) -> Result<Record, BusError> {
        Ok(self
            .shared
            .bus
            .records(store, &[id.to_owned()])
            .await?
            .pop()
            .unwrap_or_default())
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Time and randomness.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// Resolves when the step has to be given up, since the process is about to end or another worker has the message:
    /// child processes are to be killed and reaped now.
    pub async fn cancelled(&self) {
        let told = self.told.notified();
        if !self.lost.load(Ordering::SeqCst) {
            tokio::select! {
                () = self.shared.shutdown.cancelled() => {}
                () = told => {}
            }
        }
    }

    /// Another worker has the message.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    pub(crate) fn take_updates(&self) -> Vec<RecordUpdate> {
        std::mem::take(&mut self.updates.lock())
    }

    pub(crate) fn take_outgoing(&self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing.lock())
    }
}
