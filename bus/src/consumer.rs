//! The loop that runs a handler over a queue.
//!
//! # Who may settle, and when
//!
//! A message is held by a lease. Four things race for it: the handler that works on it, the renewal of its lease, the
//! end of the process, and another worker that takes it over once the lease ran out. The rules that keep one answer
//! per message:
//!
//! * The handler only *collects* what it wants to send. Nothing of it is visible before the settlement, and the
//!   settlement checks the lease in the same atomic step. So a worker that was stopped past its lease may work on for
//!   a while in vain, but cannot be heard.
//! * When a renewal finds the lease lost, the handler is cancelled: someone else works on the same message already.
//!   When a renewal finds no bus at all, the handler goes on, since the bus may be back before the lease is over.
//! * When the process must end, the handler is asked to stop, and given [`WIND_DOWN`] to kill and reap its child
//!   processes. Only then is the message released, so that the next worker does not meet the last one's children.
//! * A settlement whose reply was lost is sent again. If the first one had arrived, the second finds the lease lost,
//!   and that is the same as done.

use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use tokio::{sync::Notify, task::JoinSet};
use tracing::{debug, error, info, warn};

use crate::{
    Backoff, Bus, BusError, Clock, Context, Disposition, Handler, Leased, Message, Queue, QueueSpec, Reserve,
    Settlement, Shutdown, Subsystem, SubsystemError,
    erased::{self, AnyHandler, Failure},
    handler::error_chain,
};

/// How long a cancelled handler has to end its child processes before its future is dropped.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// How long a settlement is tried once the process must end.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// How long one reservation waits. It bounds nothing that matters: a message or the end of the process ends it early.
const WAIT: Duration = Duration::from_secs(5);

/// The waits while the bus does not answer: short, since work is to go on within a second of its return.
const OUTAGE: Backoff = Backoff { first: Duration::from_millis(50), factor: 2, cap: Duration::from_millis(800) };

/// Runs one handler over one queue.
pub struct Consumer {
    queue: QueueSpec,
    worker: Arc<Worker>,
}

struct Worker {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    queue: QueueSpec,
    handler: Box<dyn AnyHandler>,
}

impl Consumer {
    /// A consumer of `queue`.
    pub fn new<M: Message>(
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        queue: Queue<M>,
        handler: impl Handler<M>,
    ) -> Self {
        let handler = erased::erase(handler);
        let queue = queue.spec();
        Self { queue, worker: Arc::new(Worker { bus, clock, queue, handler }) }
    }

    /// Handles what is ready now, and returns how many messages that was. For tests and one-off commands.
    pub async fn step(&self) -> Result<usize, BusError> {
        let leased = self.worker.bus.reserve(&self.queue, Reserve::now(self.queue.policy.concurrency)).await?;
        let count = leased.len();
        let shutdown = Shutdown::new();
        futures::future::join_all(leased.into_iter().map(|leased| self.worker.process(leased, &shutdown))).await;
        Ok(count)
    }

    async fn consume(&self, shutdown: &Shutdown) {
        let mut tasks: JoinSet<Option<String>> = JoinSet::new();
        let mut lanes: HashMap<String, usize> = HashMap::new();
        let mut failures = 0;
        while !shutdown.is_stopping() {
            if tasks.len() >= self.queue.policy.concurrency {
                tokio::select! {
                    Some(ended) = tasks.join_next() => leave_lane(&mut lanes, ended),
                    () = shutdown.stopping() => break,
                }
                continue;
            }
            match self.reserve(shutdown, &mut tasks, &mut lanes).await {
                Ok(leased) => {
                    if failures > 0 {
                        info!(queue = self.queue.name, "the bus answers again");
                        failures = 0;
                    }
                    for leased in leased {
                        self.spawn(leased, shutdown, &mut tasks, &mut lanes);
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(
                            queue = self.queue.name,
                            error = error_chain(&error),
                            "cannot reserve messages, trying on"
                        );
                    }
                    tokio::select! {
                        () = self.worker.clock.sleep(OUTAGE.after(failures, self.worker.clock.as_ref())) => {}
                        () = shutdown.stopping() => {}
                    }
                }
            }
        }
        while let Some(ended) = tasks.join_next().await {
            leave_lane(&mut lanes, ended);
        }
    }

    /// Reserves messages while the tasks that run go on ending. A lane that becomes free, and the end of the
    /// process, interrupt the wait; the reservation itself is always run to its end.
    async fn reserve(
        &self,
        shutdown: &Shutdown,
        tasks: &mut JoinSet<Option<String>>,
        lanes: &mut HashMap<String, usize>,
    ) -> Result<Vec<Leased>, BusError> {
        let policy = self.queue.policy;
        let interrupt = Arc::new(Notify::new());
        let full = lanes.iter().filter(|(_, running)| **running >= policy.lane_concurrency);
        let request = Reserve {
            max: policy.concurrency - tasks.len(),
            wait: WAIT,
            interrupt: Arc::clone(&interrupt),
            skip_lanes: full.map(|(lane, _)| lane.clone()).collect(),
        };
        let reserve = self.worker.bus.reserve(&self.queue, request);
        tokio::pin!(reserve);
        let mut told = false;
        loop {
            tokio::select! {
                leased = &mut reserve => return leased,
                Some(ended) = tasks.join_next() => {
                    leave_lane(lanes, ended);
                    if self.queue.lanes {
                        interrupt.notify_one();
                    }
                }
                () = shutdown.stopping(), if !told => {
                    told = true;
                    interrupt.notify_one();
                }
            }
        }
    }

    fn spawn(
        &self,
        leased: Leased,
        shutdown: &Shutdown,
        tasks: &mut JoinSet<Option<String>>,
        lanes: &mut HashMap<String, usize>,
    ) {
        let lane = leased.envelope.lane.clone();
        if let Some(lane) = &lane {
            *lanes.entry(lane.clone()).or_default() += 1;
        }
        let worker = Arc::clone(&self.worker);
        let shutdown = shutdown.clone();
        tasks.spawn(async move {
            if shutdown.is_stopping() {
                // It came with the last reservation; nobody has touched it.
                worker.settle(leased, Settlement::Release, &shutdown).await;
            } else {
                worker.process(leased, &shutdown).await;
            }
            lane
        });
    }
}

fn leave_lane(lanes: &mut HashMap<String, usize>, ended: Result<Option<String>, tokio::task::JoinError>) {
    match ended {
        Ok(None) => {}
        Ok(Some(lane)) => {
            if let Some(running) = lanes.get_mut(&lane) {
                *running -= 1;
                if *running == 0 {
                    lanes.remove(&lane);
                }
            }
        }
        // A handler's panic is caught where it runs, so this is a fault of the loop. The message comes back when its
        // lease runs out; its lane stays closed in this process.
        Err(error) => error!(%error, "a worker task ended by itself"),
    }
}

#[async_trait]
impl Subsystem for Consumer {
    fn name(&self) -> &str {
        self.queue.name
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), SubsystemError> {
        self.consume(&shutdown).await;
        self.worker.handler.close().await;
        Ok(())
    }
}

impl Worker {
    async fn process(&self, leased: Leased, shutdown: &Shutdown) {
        let attempts = self.queue.policy.attempts;
        if leased.deaths >= self.queue.policy.deaths || leased.attempt > attempts {
            let reason = format!(
                "it was taken {} times in a row and never finished: its worker died, or lost its lease",
                leased.deaths
            );
            return self.bury(leased, reason, shutdown).await;
        }
        let mine = shutdown.child();
        let cx = Context::new(Arc::clone(&self.clock), mine.clone(), leased.attempt);
        let handled = {
            let handling = AssertUnwindSafe(self.handler.handle(&leased.envelope, &cx)).catch_unwind();
            tokio::pin!(handling);
            tokio::select! {
                handled = &mut handling => Some(handled),
                () = shutdown.cancelled() => self.wind_down(handling).await,
                () = self.renew(&leased) => {
                    warn!(queue = self.queue.name, id = %leased.envelope.id, "lease lost, this attempt is given up");
                    mine.cancel();
                    let _ = self.wind_down(handling).await;
                    return;
                }
            }
        };
        // A step that failed while it was told to end did not fail by itself.
        let handled = handled.filter(|handled| matches!(handled, Ok(Ok(()))) || !shutdown.is_cancelled());
        let failure = match handled {
            Some(Ok(Ok(()))) => {
                let emit = cx.take_outgoing();
                return self.settle(leased, Settlement::Done { emit }, shutdown).await;
            }
            None => {
                info!(queue = self.queue.name, id = %leased.envelope.id, "given back unfinished, the process ends");
                return self.settle(leased, Settlement::Release, shutdown).await;
            }
            Some(Ok(Err(failure))) => failure,
            Some(Err(panic)) => Failure { disposition: Disposition::Retry, reason: panic_text(panic.as_ref()) },
        };
        self.fail(leased, failure, shutdown).await;
    }

    /// Renews the lease at a third of its length, for as long as it can; returns when it is lost.
    async fn renew(&self, leased: &Leased) {
        loop {
            self.clock.sleep(self.queue.policy.lease / 3).await;
            match self.bus.extend(&leased.lease).await {
                Ok(()) => {}
                Err(BusError::LeaseLost { .. }) => return,
                Err(error) => {
                    warn!(queue = self.queue.name, error = error_chain(&error), "cannot renew a lease, trying on");
                }
            }
        }
    }

    async fn wind_down<F: Future>(&self, handling: F) -> Option<F::Output> {
        tokio::select! {
            handled = handling => Some(handled),
            () = self.clock.sleep(WIND_DOWN) => None,
        }
    }

    async fn fail(&self, leased: Leased, failure: Failure, shutdown: &Shutdown) {
        let policy = self.queue.policy;
        let attempt = leased.attempt;
        let after = match failure.disposition {
            Disposition::Defer(after) => {
                debug!(queue = self.queue.name, id = %leased.envelope.id, reason = failure.reason, "deferred");
                return self.settle(leased, Settlement::Defer { after }, shutdown).await;
            }
            Disposition::Dead => return self.bury(leased, failure.reason, shutdown).await,
            _ if attempt >= policy.attempts => return self.bury(leased, failure.reason, shutdown).await,
            Disposition::RetryAfter(after) => after,
            Disposition::Retry => policy.backoff.after(attempt, self.clock.as_ref()),
        };
        warn!(
            queue = self.queue.name,
            id = %leased.envelope.id,
            error = failure.reason,
            "attempt {attempt} of {} failed, next in {:.1} s",
            policy.attempts,
            after.as_secs_f64()
        );
        self.settle(leased, Settlement::Retry { after }, shutdown).await;
    }

    async fn bury(&self, leased: Leased, reason: String, shutdown: &Shutdown) {
        let attempts = self.queue.policy.attempts;
        let cx = Context::new(Arc::clone(&self.clock), shutdown.child(), leased.attempt);
        let speaking = AssertUnwindSafe(self.handler.exhausted(&leased.envelope, &reason, &cx)).catch_unwind();
        let spoken = tokio::select! {
            spoken = speaking => Some(spoken),
            () = async { shutdown.cancelled().await; self.clock.sleep(WIND_DOWN).await } => None,
        };
        let trouble = match spoken {
            Some(Ok(Ok(()))) => None,
            Some(Ok(Err(failure))) => Some(failure.reason),
            Some(Err(panic)) => Some(panic_text(panic.as_ref())),
            None => return self.settle(leased, Settlement::Release, shutdown).await,
        };
        let emit = if let Some(trouble) = trouble {
            error!(queue = self.queue.name, id = %leased.envelope.id, error = trouble, "the last word on it failed");
            if leased.attempt < attempts.saturating_mul(2) {
                // Without its last word the sender would wait for ever: it is not buried before that is said.
                let after = self.queue.policy.backoff.after(leased.attempt, self.clock.as_ref());
                return self.settle(leased, Settlement::Retry { after }, shutdown).await;
            }
            Vec::new()
        } else {
            cx.take_outgoing()
        };
        error!(
            queue = self.queue.name,
            id = %leased.envelope.id,
            attempts = leased.attempt,
            error = reason,
            "failed for good, kept as a dead letter"
        );
        let how = Settlement::Dead { id: leased.envelope.id, reason, attempts: leased.attempt, emit };
        self.settle(leased, how, shutdown).await;
    }

    /// Settles, and tries again for as long as the bus does not answer and the process lives.
    async fn settle(&self, leased: Leased, how: Settlement, shutdown: &Shutdown) {
        let id = leased.envelope.id;
        tokio::select! {
            () = self.settle_until_answered(&leased, &how) => {}
            () = async { shutdown.cancelled().await; self.clock.sleep(LAST_TRIES).await } => {
                warn!(queue = self.queue.name, %id, "not settled before the process ends, it comes back with its lease");
            }
        }
    }

    async fn settle_until_answered(&self, leased: &Leased, how: &Settlement) {
        for failures in 1.. {
            let error = match self.bus.settle(&leased.lease, how).await {
                Ok(()) => return,
                Err(error) => error,
            };
            if let BusError::LeaseLost { .. } = error {
                // After a failed try the first one may have arrived.
                let id = leased.envelope.id;
                warn!(queue = self.queue.name, %id, failures, "lease lost, the settlement was not written");
                return;
            }
            if failures == 1 {
                warn!(queue = self.queue.name, error = error_chain(&error), "cannot settle a message, trying on");
            }
            self.clock.sleep(OUTAGE.after(failures, self.clock.as_ref())).await;
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
