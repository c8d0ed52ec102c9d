//! A bus to test: in memory with a clock that is moved by hand, or on a real Redis, where time is real.

use std::{sync::Arc, time::Duration};

use bus::{
    Bus, BusError, Delivery, Depth, EnqueueOutcome, Envelope, MemoryBus, Message, MessageSelector,
    Outgoing, Policy, Producer, Queue, RedisBus, Reserve, Settlement,
};
use runtime::{Clock, ManualClock, SystemClock};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use testkit::RedisServer;
use tokio::task::JoinHandle;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub text: String,
}

impl Message for Note {
    const VERSION: u16 = 1;
}

pub fn note(text: &str) -> Note {
    Note {
        text: text.to_owned(),
    }
}

/// Long enough for a loaded machine, short enough to wait for.
pub const LEASE: Duration = Duration::from_millis(1000);

pub const POLICY: Policy = Policy {
    lease: LEASE,
    attempts: 3,
    ..Policy::DEFAULT
};
pub const NOTES: Queue<Note> = Queue::new("notes", POLICY);
pub const OUT: Queue<Note> = Queue::new("out", POLICY);
/// The partition of a note is its first letter.
pub const PARTITIONED: Queue<Note> =
    Queue::with_partitions("partitioned", POLICY, |note| note.text[..1].to_owned());

pub struct World {
    /// One worker's view of the bus, and another's.
    pub bus: Arc<dyn Bus>,
    pub other: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    manual: Option<Arc<ManualClock>>,
    _server: Option<(RedisServer, TempDir)>,
}

impl World {
    pub async fn memory() -> Self {
        let manual = Arc::new(ManualClock::new("2026-11-21T12:00:00Z".parse().unwrap()));
        let clock: Arc<dyn Clock> = manual.clone();
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        Self {
            other: bus.clone(),
            bus,
            clock,
            manual: Some(manual),
            _server: None,
        }
    }

    pub async fn redis() -> Self {
        let directory = TempDir::new().unwrap();
        let server = RedisServer::start(directory.path()).await.unwrap();
        let connect = || Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap());
        Self {
            bus: connect(),
            other: connect(),
            clock: Arc::new(SystemClock),
            manual: None,
            _server: Some((server, directory)),
        }
    }

    pub fn is_in_memory(&self) -> bool {
        self.manual.is_some()
    }

    /// Lets `duration` pass.
    pub async fn pass(&self, duration: Duration) {
        match &self.manual {
            Some(clock) => clock.advance(duration),
            None => self.clock.sleep(duration + Duration::from_millis(20)).await,
        }
    }

    /// Moves a clock that is moved by hand; real time moves by itself.
    pub fn advance_manual(&self, duration: Duration) {
        if let Some(clock) = &self.manual {
            clock.advance(duration);
        }
    }

    pub fn producer(&self) -> Producer {
        Producer::new(self.bus.clone(), self.clock.clone())
    }

    pub async fn send(&self, queue: &Queue<Note>, text: &str) {
        self.producer().send(queue, &note(text)).await.unwrap();
    }

    pub async fn send_after(&self, queue: &Queue<Note>, text: &str, after: Duration) -> Uuid {
        let message = self.packed_after(queue, text, after);
        let id = message.envelope.id;
        self.bus.push(vec![message]).await.unwrap();
        id
    }

    /// A message that is not sent yet.
    pub fn packed(&self, queue: &Queue<Note>, text: &str) -> Outgoing {
        self.packed_after(queue, text, Duration::ZERO)
    }

    pub fn packed_after(&self, queue: &Queue<Note>, text: &str, after: Duration) -> Outgoing {
        Outgoing {
            after,
            ..queue.pack(&note(text), self.clock.as_ref()).unwrap()
        }
    }

    pub async fn reserve(&self, queue: &Queue<Note>) -> Delivery {
        self.reserve_up_to(queue, 1)
            .await
            .pop()
            .expect("a message is ready")
    }

    pub async fn reserve_up_to(&self, queue: &Queue<Note>, max: usize) -> Vec<Delivery> {
        reserve_up_to(self.bus.as_ref(), queue, max).await
    }

    /// Reserves as the other worker.
    pub async fn reserve_in_other(&self, queue: &Queue<Note>, max: usize) -> Vec<Delivery> {
        self.other
            .reserve(&queue.spec(), Reserve::now(max))
            .await
            .unwrap()
    }

    /// Has the other worker wait for one message.
    pub fn wait_in_other(&self, queue: &Queue<Note>) -> JoinHandle<Vec<Delivery>> {
        let bus = Arc::clone(&self.other);
        let spec = queue.spec();
        let request = Reserve {
            wait: Duration::from_secs(3600),
            ..Reserve::now(1)
        };
        tokio::spawn(async move { bus.reserve(&spec, request).await.unwrap() })
    }

    pub async fn settle(&self, delivery: Delivery, how: Settlement) {
        self.bus.settle(&delivery.lease, &how).await.unwrap();
    }

    /// Sends a message and settles it as a dead letter after two attempts. Returns the letter's id.
    pub async fn dead_letter(&self, queue: &Queue<Note>, message: &str, reason: &str) -> String {
        self.send(queue, message).await;
        let delivery = self.reserve(queue).await;
        assert_eq!(text(&delivery), message);
        let id = delivery.envelope.id;
        let how = Settlement::Dead {
            id,
            reason: reason.to_owned(),
            attempts: 2,
            emit: Vec::new(),
        };
        self.settle(delivery, how).await;
        // Dead letters are ordered by time.
        self.pass(Duration::from_millis(2)).await;
        id.to_string()
    }

    pub async fn requeue_dead(&self, queue: &Queue<Note>, ids: &[String]) -> usize {
        self.bus.requeue_dead(&queue.spec(), ids).await.unwrap()
    }

    pub async fn requeue(&self, queue: &Queue<Note>, which: MessageSelector) -> usize {
        self.bus.requeue(&queue.spec(), which).await.unwrap()
    }

    pub async fn drop_waiting(&self, queue: &Queue<Note>, which: MessageSelector) -> usize {
        self.bus.drop_waiting(&queue.spec(), which).await.unwrap()
    }

    pub async fn texts(&self, queue: &Queue<Note>) -> Vec<String> {
        let found = self.bus.peek(&queue.spec(), 100).await.unwrap();
        found
            .iter()
            .map(|waiting| note_of(&waiting.envelope))
            .collect()
    }

    /// Ready, in flight, delayed, dead.
    pub async fn depth(&self, queue: &Queue<Note>) -> (usize, usize, usize, usize) {
        let Depth {
            ready,
            in_flight,
            delayed,
            dead,
        } = self.bus.depth(&queue.spec()).await.unwrap();
        (ready, in_flight, delayed, dead)
    }

    /// Waits until `condition` holds, while time passes.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        for _ in 0..1000 {
            if condition().await {
                return;
            }
            self.advance_manual(Duration::from_millis(50));
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain for: {what}");
    }
}

/// A message that is not sent yet.
pub fn packed(queue: &Queue<Note>, text: &str) -> Outgoing {
    queue.pack(&note(text), &SystemClock).unwrap()
}

pub fn done() -> Settlement {
    Settlement::Done { emit: Vec::new() }
}

pub fn outcome(inserted: usize, duplicates: usize) -> EnqueueOutcome {
    EnqueueOutcome {
        inserted,
        duplicates,
    }
}

pub fn is_lost(result: Result<(), BusError>) -> bool {
    matches!(result, Err(BusError::LeaseLost { .. }))
}

/// Which settlements were written; the leases of the others were lost.
pub fn written(results: Vec<Result<(), BusError>>) -> Vec<bool> {
    let results = results.into_iter().map(|result| match result {
        Ok(()) => true,
        Err(BusError::LeaseLost { .. }) => false,
        Err(error) => panic!("refused: {error}"),
    });
    results.collect()
}

pub fn text(delivery: &Delivery) -> String {
    note_of(&delivery.envelope)
}

pub fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

pub fn note_of(envelope: &Envelope) -> String {
    Note::decode(envelope.version, &envelope.body).unwrap().text
}

/// Makes a test for each backend of `async fn name(world: World)`.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name($crate::world::World::memory().await).await; })+
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::world::World::redis().await).await; })+
        }
    };
}

/// Reserves at most `max` messages that are ready.
pub async fn reserve_up_to(bus: &dyn Bus, queue: &Queue<Note>, max: usize) -> Vec<Delivery> {
    bus.reserve(&queue.spec(), Reserve::now(max)).await.unwrap()
}
