//! Typed queues and the way to send into them from outside a handler.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    Bus, BusError, EnqueueOutcome, Envelope, Message, Outgoing, Policy, QueueSpec, RecordUpdate,
    encoding::encode,
};
use runtime::Clock;

/// A queue that carries messages of type `M`.
#[derive(Debug)]
pub struct Queue<M> {
    spec: QueueSpec,
    partition: Option<fn(&M) -> String>,
    carries: PhantomData<fn(M)>,
}

impl<M> Clone for Queue<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Queue<M> {}

impl<M: Message> Queue<M> {
    /// A queue without partitions.
    pub const fn new(name: &'static str, policy: Policy) -> Self {
        Self {
            spec: QueueSpec {
                name,
                policy,
                partitions: false,
            },
            partition: None,
            carries: PhantomData,
        }
    }

    /// A queue whose messages are put into the partition that `partition` names. Partitions are few and stay
    /// (repositories, say): each one that was ever used is looked at in turn.
    pub const fn with_partitions(
        name: &'static str,
        policy: Policy,
        partition: fn(&M) -> String,
    ) -> Self {
        Self {
            spec: QueueSpec {
                name,
                policy,
                partitions: true,
            },
            partition: Some(partition),
            carries: PhantomData,
        }
    }

    /// The queue as the bus knows it.
    pub const fn spec(&self) -> QueueSpec {
        self.spec
    }

    /// Packs a message for this queue.
    pub fn pack(&self, message: &M, clock: &dyn Clock) -> Result<Outgoing, BusError> {
        let body = encode(self.spec.name, message)?;
        let now = clock.now();
        let envelope = Envelope {
            id: clock.id_at(now),
            version: M::VERSION,
            created_at: now,
            partition: self.partition.map(|partition| partition(message)),
            body: body.into(),
        };
        Ok(Outgoing {
            queue: self.spec,
            envelope,
            after: Duration::ZERO,
            key: None,
        })
    }
}

/// Sends from outside a handler: from the web, from a poller, from a test.
#[derive(Clone)]
pub struct Producer {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
}

impl Producer {
    /// A producer on `bus`.
    pub fn new(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>) -> Self {
        Self { bus, clock }
    }

    /// The bus that is sent to.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// The clock that dates what is sent.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Sends one message; when this returns `Ok`, the bus has stored it.
    pub async fn send<M: Message>(&self, queue: &Queue<M>, message: &M) -> Result<(), BusError> {
        self.bus
            .push_with(vec![queue.pack(message, self.clock.as_ref())?], Vec::new())
            .await
            .map(|_| ())
    }

    /// Sends one message, and records `updates` with it. When they begin with [`crate::RecordStore::open`], it is sent
    /// only if that record has not been opened before. Says whether it was stored now or had been before; both mean
    /// that it is safe.
    pub async fn send_with<M: Message>(
        &self,
        queue: &Queue<M>,
        message: &M,
        updates: Vec<RecordUpdate>,
    ) -> Result<EnqueueOutcome, BusError> {
        self.bus
            .push_with(vec![queue.pack(message, self.clock.as_ref())?], updates)
            .await
    }

    /// Sends one message, and records `updates` with it, unless the same `key` was sent to this queue within the
    /// queue's `dedup_window`. Says whether it was stored now or had been before; both mean that it is safe.
    pub async fn send_deduplicated<M: Message>(
        &self,
        queue: &Queue<M>,
        message: &M,
        key: &str,
        updates: Vec<RecordUpdate>,
    ) -> Result<EnqueueOutcome, BusError> {
        let mut outgoing = queue.pack(message, self.clock.as_ref())?;
        outgoing.key = Some(key.to_owned());
        self.bus.push_with(vec![outgoing], updates).await
    }
}
