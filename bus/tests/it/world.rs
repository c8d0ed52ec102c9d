//! A bus to test: in memory with a clock that is moved by hand, or on a real Redis, where time is real.

use std::{sync::Arc, time::Duration};

use bus::{
    Bus, BusError, Delivery, Depth, Envelope, MemoryBus, Message, Policy, Producer, Queue,
    RedisBus, Reserve,
};
use runtime::{Clock, ManualClock, SystemClock};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use testkit::RedisServer;

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
    pub fn hasten(&self, duration: Duration) {
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

    pub async fn take(&self, queue: &Queue<Note>) -> Delivery {
        self.take_all(queue, 1)
            .await
            .pop()
            .expect("a message is ready")
    }

    pub async fn take_all(&self, queue: &Queue<Note>, max: usize) -> Vec<Delivery> {
        self.bus
            .reserve(&queue.spec(), Reserve::now(max))
            .await
            .unwrap()
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
            self.hasten(Duration::from_millis(50));
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        panic!("waited in vain for: {what}");
    }
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

pub fn text(leased: &Delivery) -> String {
    note_of(&leased.envelope)
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
