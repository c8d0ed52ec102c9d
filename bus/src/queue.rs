//! Typed queues, and producers that send to them from outside a handler.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    Bus, BusError, EnqueueOutcome, Envelope, Message, Outgoing, Policy, QueueSpec, RecordUpdate,
    encoding::encode,
};
use runtime::Clock;

/// A queue of messages of type `M`.
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

    /// A queue whose messages are in the partition that `partition` returns. Partitions are few and permanent, such as
    /// repositories: a reservation checks each one that was ever used.
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

    /// The queue without the type of its messages, as backends use it.
    pub const fn spec(&self) -> QueueSpec {
        self.spec
    }

    /// Encodes a message for this queue, with a new id and the time of `clock`.
    ///
    /// [`BusError::Encode`] when it cannot be encoded.
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

/// Sends messages from outside a handler: from a web server, a poller or a test.
#[derive(Clone)]
pub struct Producer {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
}

impl Producer {
    /// A producer that sends to `bus`.
    pub fn new(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>) -> Self {
        Self { bus, clock }
    }

    /// The bus that messages are sent to.
    pub fn bus(&self) -> &Arc<dyn Bus> {
        &self.bus
    }

    /// The clock that dates messages.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Sends one message. After `Ok` the bus has stored it.
    pub async fn send<M: Message>(&self, queue: &Queue<M>, message: &M) -> Result<(), BusError> {
        self.bus
            .push_with(vec![queue.pack(message, self.clock.as_ref())?], Vec::new())
            .await
            .map(|_| ())
    }

    /// Sends one message, and records `updates` with it. When they begin with [`crate::RecordStore::open`], the message is
    /// stored only if nobody has opened that record before. The outcome tells whether it was stored now or before; in both
    /// cases it is safe.
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

    /// Sends one message, and records `updates` with it, unless anybody has sent the same `key` to this queue within the
    /// queue's `dedup_window`. The outcome tells whether it was stored now or before; in both cases it is safe.
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
