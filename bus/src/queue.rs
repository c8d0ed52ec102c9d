//! Typed queues and the way to send into them from outside a handler.

use std::{marker::PhantomData, sync::Arc, time::Duration};

use crate::{
    Bus, BusError, Envelope, Fact, Message, Outgoing, Policy, Pushed, QueueSpec, encoding::encode,
};
use runtime::Clock;

/// A queue that carries messages of type `M`.
#[derive(Debug)]
pub struct Queue<M> {
    spec: QueueSpec,
    lane: Option<fn(&M) -> String>,
    carries: PhantomData<fn(M)>,
}

impl<M> Clone for Queue<M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Queue<M> {}

impl<M: Message> Queue<M> {
    /// A queue without lanes.
    pub const fn new(name: &'static str, policy: Policy) -> Self {
        Self {
            spec: QueueSpec {
                name,
                policy,
                lanes: false,
            },
            lane: None,
            carries: PhantomData,
        }
    }

    /// A queue whose messages are put into the lane that `lane` names. Lanes are few and stay (repositories, say): each
    /// one that was ever used is looked at in turn.
    pub const fn with_lanes(name: &'static str, policy: Policy, lane: fn(&M) -> String) -> Self {
        Self {
            spec: QueueSpec {
                name,
                policy,
                lanes: true,
            },
            lane: Some(lane),
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
            lane: self.lane.map(|lane| lane(message)),
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

    /// Sends one message, and records `facts` with it. When they begin with [`crate::Ledger::open`], it is sent only if that
    /// record has not been opened before. Says whether it was stored now or had been before; both mean that it is safe.
    pub async fn send_with<M: Message>(
        &self,
        queue: &Queue<M>,
        message: &M,
        facts: Vec<Fact>,
    ) -> Result<Pushed, BusError> {
        self.bus
            .push_with(vec![queue.pack(message, self.clock.as_ref())?], facts)
            .await
    }

    /// Sends one message, and records `facts` with it, unless the same `key` was sent to this queue within the queue's
    /// `key_window`. Says whether it was stored now or had been before; both mean that it is safe.
    pub async fn send_once<M: Message>(
        &self,
        queue: &Queue<M>,
        message: &M,
        key: &str,
        facts: Vec<Fact>,
    ) -> Result<Pushed, BusError> {
        let mut outgoing = queue.pack(message, self.clock.as_ref())?;
        outgoing.key = Some(key.to_owned());
        self.bus.push_with(vec![outgoing], facts).await
    }
}
