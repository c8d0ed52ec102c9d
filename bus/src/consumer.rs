//! The loop that runs a handler over a queue.
//!
//! Three things go on at once: one reservation waits for messages, handlers work, one batch of settlements is being
//! written. While a batch is on its way the next one gathers, so the busier the queue is, the more messages share an
//! exchange with the backend; an idle queue's message is settled alone and at once.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt,
    future::{Fuse, FusedFuture},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::ReusableBoxFuture;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    Bus, BusError, Delivery, Handler, Isolation, Message, POISON_SUSPECT_DELIVERIES, Queue,
    QueueSpec, Reserve, Settlement,
    context::Shared,
    dyn_handler,
    isolation::{ActivePermit, ExclusivePermit},
    metrics::Metrics,
    worker::{Ended, LAST_TRIES, OUTAGE, Renewals, Verdict, Worker},
};
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};

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

    async fn consume(&self, shutdown: Shutdown) {
        let mut run = Run::new(self, shutdown.clone());
        let (reserving, settling) = (Fuse::terminated(), Fuse::terminated());
        tokio::pin!(reserving, settling);
        let mut interrupt = Arc::new(Notify::new());
        let mut failures = 0;
        let mut stop_seen = false;
        let overtime = async {
            shutdown.cancelled().await;
            self.worker.clock.sleep(LAST_TRIES).await;
        }
        .fuse();
        tokio::pin!(overtime);
        loop {
            if settling.is_terminated() && !run.ended.is_empty() {
                settling.set(
                    self.settle(std::mem::take(&mut run.ended), &shutdown)
                        .fuse(),
                );
            }
            let resting = reserving.is_terminated() && settling.is_terminated();
            run.keep_apart(resting);
            if shutdown.is_stopping() {
                if resting && run.tasks.is_empty() {
                    return;
                }
            } else if reserving.is_terminated() && run.may_reserve() {
                interrupt = Arc::new(Notify::new());
                reserving.set(
                    self.reserve(run.request(interrupt.clone()), failures, &shutdown)
                        .fuse(),
                );
            }
            let wanted = run.isolation().is_wanted();
            tokio::select! {
                settled = &mut settling => {
                    run.settled(settled);
                    if self.queue.partitions {
                        interrupt.notify_one();
                    }
                }
                reserved = &mut reserving => match reserved {
                    Ok(deliveries) => {
                        if failures > 0 {
                            info!(queue = self.queue.name, "the bus answers again");
                            failures = 0;
                        }
                        // Where one step ends at once, the next begins.
                        let mut now = None;
                        for delivery in deliveries {
                            now = run.begin(delivery, now);
                        }
                        // What is ready at once for ever must not keep the thread from others.
                        tokio::task::yield_now().await;
                    }
                    Err(error) => {
                        failures += 1;
                        if failures == 1 {
                            let error = error_chain(&error);
                            warn!(queue = self.queue.name, error, "cannot reserve messages; retrying");
                        }
                    }
                },
                Some(ended) = run.tasks.join_next() => match ended {
                    Ok(ended) => run.end(ended),
                    // A handler's panic is caught where it runs, so this is a fault of the loop. The message comes
                    // back when its lease runs out; its partition stays closed in this process.
                    Err(error) => error!(%error, "a worker task ended by itself"),
                },
                () = shutdown.stopping(), if !stop_seen => {
                    stop_seen = true;
                    interrupt.notify_one();
                }
                () = self.worker.bus.isolation().until_wanted(!wanted) => interrupt.notify_one(),
                // A bus that does not answer must not keep the process: what it may give now comes back with its lease.
                () = &mut overtime => reserving.set(Fuse::terminated()),
            }
        }
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

    async fn settle(&self, batch: Vec<Ended>, shutdown: &Shutdown) -> Vec<Ended> {
        self.worker.settle(&batch, shutdown).await;
        batch
    }
}

#[async_trait]
impl Service for Consumer {
    fn name(&self) -> &str {
        self.queue.name
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        self.consume(shutdown).await;
        self.worker.handler.close().await;
        Ok(())
    }
}

/// What a consumer has in its hands.
struct Run<'c> {
    worker: &'c Arc<Worker>,
    partition_limits: &'c HashMap<String, usize>,
    held: &'c Held,
    shared: Arc<Shared>,
    /// Messages that handlers work on.
    tasks: JoinSet<Ended>,
    /// The memory of a step that has ended.
    spare: Option<ReusableBoxFuture<'static, Ended>>,
    /// Messages that are still to be settled.
    ended: Vec<Ended>,
    /// How many messages of a partition are not settled yet.
    partitions: HashMap<String, usize>,
    permit: Option<ActivePermit<'c>>,
    /// Held until a suspect of ours is settled, with its id.
    alone: Option<(ExclusivePermit<'c>, Uuid)>,
    /// Whether that suspect is among the tasks.
    suspect_works: bool,
}

impl<'c> Run<'c> {
    fn new(consumer: &'c Consumer, shutdown: Shutdown) -> Self {
        Self {
            worker: &consumer.worker,
            partition_limits: &consumer.partitions,
            held: &consumer.held,
            shared: consumer.worker.shared(shutdown),
            tasks: JoinSet::new(),
            spare: None,
            ended: Vec::new(),
            partitions: HashMap::new(),
            permit: None,
            alone: None,
            suspect_works: false,
        }
    }

    fn isolation(&self) -> &'c Isolation {
        self.worker.bus.isolation()
    }

    /// Leaves when a suspect wants to be alone and nothing else is in our hands; comes back when it is done.
    fn keep_apart(&mut self, resting: bool) {
        let resting = resting && self.ended.is_empty();
        if resting && self.tasks.is_empty() {
            // Also when the suspect's task ended by itself and so was never settled.
            (self.alone, self.suspect_works) = (None, false);
        }
        let others = self
            .tasks
            .len()
            .saturating_sub(usize::from(self.suspect_works));
        if resting && others == 0 && self.isolation().is_wanted() {
            self.permit = None;
        } else if self.permit.is_none() && self.alone.is_none() {
            self.permit = self.isolation().enter();
        }
    }

    fn may_reserve(&self) -> bool {
        let concurrency = self.worker.queue.policy.concurrency;
        self.permit.is_some()
            && !self.isolation().is_wanted()
            && self.tasks.len() < concurrency
            && self.ended.len() < concurrency
    }

    fn request(&self, interrupt: Arc<Notify>) -> Reserve {
        let policy = self.worker.queue.policy;
        let limit = |partition: &str| {
            self.partition_limits
                .get(partition)
                .copied()
                .unwrap_or(policy.partition_concurrency)
        };
        let full = self
            .partitions
            .iter()
            .filter(|(partition, unsettled)| **unsettled >= limit(partition));
        let (mut skip_partitions, wait) = self.held.at(self.worker.clock.as_ref());
        skip_partitions.extend(full.map(|(partition, _)| partition.clone()));
        Reserve {
            max: policy.concurrency - self.tasks.len(),
            wait: wait.map_or(WAIT, |wait| wait.min(WAIT)),
            interrupt,
            skip_partitions,
        }
    }

    /// Begins with a message `now`, when that is known. Returns when its step ended, if it did so at once.
    fn begin(&mut self, delivery: Delivery, now: Option<Timestamp>) -> Option<Timestamp> {
        if let Some(partition) = &delivery.envelope.partition {
            *self.partitions.entry(partition.clone()).or_default() += 1;
        }
        let suspect = delivery.unsettled_deliveries >= POISON_SUSPECT_DELIVERIES;
        let id = delivery.envelope.id;
        let alone = if suspect {
            self.isolation().begin()
        } else {
            None
        };
        if self.shared.shutdown.is_stopping() || (suspect && alone.is_none()) {
            // Nobody has touched it: the process ends, or another suspect comes first.
            self.ended.push(Ended {
                delivery,
                verdict: Verdict::Settled(Settlement::Release),
                updates: Vec::new(),
                at: None,
                hold_until: None,
            });
            return None;
        }
        self.alone = alone.map(|alone| (alone, id)).or(self.alone.take());
        let work = Arc::clone(self.worker).process(delivery, suspect, self.shared.clone(), now);
        let mut work = match self.spare.take() {
            Some(mut spare) => {
                spare.set(work);
                spare
            }
            None => ReusableBoxFuture::new(work),
        };
        // Many steps end without waiting for anything; those need neither a task nor memory of their own.
        match (&mut work).now_or_never() {
            Some(ended) => {
                let at = ended.at;
                self.ended.push(ended);
                self.spare = Some(work);
                at
            }
            None => {
                self.suspect_works |= suspect;
                self.tasks.spawn(work);
                None
            }
        }
    }

    fn is_suspect(&self, ended: &Ended) -> bool {
        self.alone
            .as_ref()
            .is_some_and(|(_, id)| *id == ended.delivery.envelope.id)
    }

    fn end(&mut self, ended: Ended) {
        if self.is_suspect(&ended) {
            self.suspect_works = false;
        }
        self.ended.push(ended);
    }

    fn settled(&mut self, settled: Vec<Ended>) {
        for ended in settled {
            if self.is_suspect(&ended) {
                self.alone = None;
            }
            self.held.note(&ended);
            let Some(partition) = &ended.delivery.envelope.partition else {
                continue;
            };
            if let Some(unsettled) = self.partitions.get_mut(partition) {
                *unsettled -= 1;
                if *unsettled == 0 {
                    self.partitions.remove(partition);
                }
            }
        }
    }
}
