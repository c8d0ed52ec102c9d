//! Consumers: a handler, and the queue whose messages it handles.

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
    worker::{Ended, FailedWrites, OUTAGE, Worker},
};
use runtime::{Clock, Service, ServiceError, Shutdown};

/// The longest wait of one reservation. A message, or the end of the process, ends it early.
const WAIT: Duration = Duration::from_secs(5);

/// The pause of reservations after the next queue was found full.
const NO_ROOM: Duration = Duration::from_secs(5);

/// Runs one handler over one queue.
pub struct Consumer {
    queue: QueueSpec,
    worker: Arc<Worker>,
    partitions: HashMap<String, usize>,
    held: HeldPartitions,
    /// The queue that the handler sends to, and whether its last status was full.
    next: Option<(QueueSpec, AtomicBool)>,
}

/// The partitions of which nothing is reserved, and until when.
#[derive(Default)]
struct HeldPartitions(Mutex<HashMap<String, Timestamp>>);

impl HeldPartitions {
    /// Adds the partition that a settled message holds, if it does.
    fn note(&self, ended: &Ended) {
        if let (Some(partition), Some(until)) =
            (&ended.delivery.envelope.partition, ended.hold_until)
        {
            self.0.lock().insert(partition.clone(), until);
        }
    }

    /// The partitions that are held now, and the shortest time until one of them no longer is. Does not read the clock
    /// while there are none.
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
    /// A consumer that runs `handler` for each message of `queue`.
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
                failed_writes: FailedWrites::default(),
            }),
            partitions: HashMap::new(),
            held: HeldPartitions::default(),
            next: None,
        }
    }

    /// Reserves nothing while `next` is full, a queue that the handler sends to. A bus never refuses what handlers send, so
    /// the work waits in this queue.
    #[must_use]
    pub fn with_room_in(self, next: QueueSpec) -> Self {
        Self {
            next: Some((next, AtomicBool::new(false))),
            ..self
        }
    }

    /// Sets how many messages of these partitions are handled at once. The policy of the queue sets it for all others.
    #[must_use]
    pub fn with_partitions(self, partitions: HashMap<String, usize>) -> Self {
        Self { partitions, ..self }
    }

    /// Handles the messages that are ready now, up to the concurrency of the queue. Returns their number. For tests and
    /// one-off commands.
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

    /// Reserves messages, after a backoff when reservations before it failed.
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

    /// Whether the next queue has room. When the bus does not answer, the reservation reports it.
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
                    next = next_name,
                    %bound,
                    "next queue {next_name} is full: {bound} wait; pausing reservations"
                );
            }
            None if was_full => info!(
                queue,
                next = next_name,
                "next queue {next_name} has room; resuming reservations"
            ),
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
