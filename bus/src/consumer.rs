//! What runs a handler over a queue.

mod run;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::{info, warn};

use self::run::Run;
use crate::{
    Bus, BusError, Delivery, Handler, Message, Queue, QueueSpec, Reserve, dyn_handler,
    metrics::Metrics,
    worker::{Ended, OUTAGE, Renewals, Worker},
};
use runtime::{Clock, Service, ServiceError, Shutdown};

/// How long one reservation waits. It bounds nothing that matters: a message or the end of the process ends it early.
const WAIT: Duration = Duration::from_secs(5);

/// How long nothing is taken when there is no room for its work.
const NO_ROOM: Duration = Duration::from_secs(5);

/// Runs one handler over one queue.
pub struct Consumer {
    queue: QueueSpec,
    worker: Arc<Worker>,
    partitions: HashMap<String, usize>,
    held: Held,
    /// The queue that the handler's work goes to, and whether it was last seen at its bound.
    next: Option<(QueueSpec, AtomicBool)>,
}

/// The partitions of which nothing is taken, and until when.
#[derive(Default)]
struct Held(Mutex<HashMap<String, Timestamp>>);

impl Held {
    /// Notes what a settled message holds.
    fn note(&self, ended: &Ended) {
        if let (Some(partition), Some(until)) =
            (&ended.delivery.envelope.partition, ended.hold_until)
        {
            self.0.lock().insert(partition.clone(), until);
        }
    }

    /// Those that are held at this time, and the shortest time until one of them is not. None are held before the first
    /// one was noted, which needs no clock.
    fn at(&self, clock: &dyn Clock) -> (Vec<String>, Option<Duration>) {
        let mut held = self.0.lock();
        if held.is_empty() {
            return (Vec::new(), None);
        }
        let now = clock.now();
        held.retain(|_, until| *until > now);
        let next = held
            .values()
            .min()
            .map(|until| until.duration_since(now).unsigned_abs());
        (held.keys().cloned().collect(), next)
    }
}

impl Consumer {
    /// A consumer of `queue`.
    pub fn new<M: Message>(
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        queue: Queue<M>,
        handler: impl Handler<M>,
    ) -> Self {
        let handler = dyn_handler::erase(handler);
        let queue = queue.spec();
        let metrics = Metrics::new(queue.name);
        Self {
            queue,
            worker: Arc::new(Worker {
                bus,
                clock,
                queue,
                handler,
                metrics,
                renewals: Renewals::default(),
            }),
            partitions: HashMap::new(),
            held: Held::default(),
            next: None,
        }
    }

    /// Takes nothing while `next`, which the handler sends to, is at its bound: what handlers send is never refused, so
    /// what came before must wait in its own queue.
    #[must_use]
    pub fn with_room_in(self, next: QueueSpec) -> Self {
        Self {
            next: Some((next, AtomicBool::new(false))),
            ..self
        }
    }

    /// Handles up to this many messages of these partitions at once; of all others as many as the queue's policy says.
    #[must_use]
    pub fn with_partitions(self, partitions: HashMap<String, usize>) -> Self {
        Self { partitions, ..self }
    }

    /// Handles what is ready now, and returns how many messages that was. For tests and one-off commands.
    pub async fn step(&self) -> Result<usize, BusError> {
        if !self.has_room().await {
            return Ok(0);
        }
        let request = Reserve {
            skip_partitions: self.held.at(self.worker.clock.as_ref()).0,
            ..Reserve::now(self.queue.policy.concurrency)
        };
        let deliveries = self.worker.bus.reserve(&self.queue, request).await?;
        let shutdown = Shutdown::new();
        let shared = self.worker.shared(shutdown.clone());
        let work = deliveries.into_iter().map(|delivery| {
            Arc::clone(&self.worker).process(delivery, false, shared.clone(), None)
        });
        let ended = futures::future::join_all(work).await;
        self.worker.settle(&ended, &shutdown).await;
        ended.iter().for_each(|ended| self.held.note(ended));
        Ok(ended.len())
    }

    /// Reserves messages, after a wait that grows with the failures before it.
    async fn reserve(
        &self,
        request: Reserve,
        failures: u32,
        shutdown: &Shutdown,
    ) -> Result<Vec<Delivery>, BusError> {
        if failures > 0 {
            let clock = self.worker.clock.as_ref();
            let returned = async {
                clock.sleep(OUTAGE.after(failures, clock)).await;
                self.worker.let_renew().await
            };
            tokio::select! {
                returned = returned => returned?,
                () = shutdown.stopping() => return Ok(Vec::new()),
            }
        }
        if !self.has_room().await {
            tokio::select! {
                () = self.worker.clock.sleep(NO_ROOM) => {}
                () = request.interrupt.notified() => {}
                () = shutdown.stopping() => {}
            }
            return Ok(Vec::new());
        }
        self.worker.bus.reserve(&self.queue, request).await
    }

    /// Whether the next queue takes more. A bus that does not answer is the reservation's affair.
    async fn has_room(&self) -> bool {
        let Some((next, was_full)) = &self.next else {
            return true;
        };
        let Ok(status) = self.worker.bus.status(next).await else {
            return true;
        };
        let (queue, next_name) = (self.queue.name, next.name);
        let bound = next.policy.bound_reached(&status);
        let was_full = was_full.swap(bound.is_some(), Ordering::Relaxed);
        match bound {
            Some(bound) if !was_full => {
                warn!(
                    queue,
                    "{next_name} is full: {bound} wait there; nothing is taken"
                );
            }
            None if was_full => info!(queue, "{next_name} has room again"),
            _ => {}
        }
        bound.is_none()
    }
}

#[async_trait]
impl Service for Consumer {
    fn name(&self) -> &str {
        self.queue.name
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        Run::new(&self, shutdown).consume().await;
        self.worker.handler.close().await;
        Ok(())
    }
}
