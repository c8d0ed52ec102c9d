//! What a handler is given beside its message.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{BusError, Clock, Message, Outgoing, Queue, Shutdown, clock::lock};

/// A handler's only way to send, and its view of the delivery it works on.
#[derive(Debug)]
pub struct Context {
    clock: Arc<dyn Clock>,
    shutdown: Arc<Shutdown>,
    lost: AtomicBool,
    told: Notify,
    attempt: u32,
    outgoing: Mutex<Vec<Outgoing>>,
}

impl Context {
    pub(crate) fn new(clock: Arc<dyn Clock>, shutdown: Arc<Shutdown>, attempt: u32) -> Self {
        let (lost, told, outgoing) = (AtomicBool::new(false), Notify::new(), Mutex::default());
        Self { clock, shutdown, lost, told, attempt, outgoing }
    }

    /// Sends a message when this step is settled.
    pub fn send<M: Message>(&self, queue: &Queue<M>, message: &M) -> Result<(), BusError> {
        self.send_after(queue, message, Duration::ZERO)
    }

    /// Sends a message when this step is settled; it becomes ready `after` that.
    pub fn send_after<M: Message>(&self, queue: &Queue<M>, message: &M, after: Duration) -> Result<(), BusError> {
        let outgoing = queue.pack(message, self.clock.as_ref())?;
        lock(&self.outgoing).push(Outgoing { after, ..outgoing });
        Ok(())
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Time and randomness.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Resolves when the step has to be given up, since the process is about to end or another worker has the message:
    /// child processes are to be killed and reaped now.
    pub async fn cancelled(&self) {
        let told = self.told.notified();
        if !self.lost.load(Ordering::SeqCst) {
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = told => {}
            }
        }
    }

    /// Another worker has the message.
    pub(crate) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    pub(crate) fn take_outgoing(&self) -> Vec<Outgoing> {
        std::mem::take(&mut lock(&self.outgoing))
    }
}
