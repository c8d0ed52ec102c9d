//! One delivery: its handler runs, its lease is renewed, and its settlement is decided and written.
//!
//! # The right to settle
//!
//! A delivery has a lease. Four actors race for the message: its handler, the renewal of the lease, the end of the process,
//! and another worker that reserves the message once the lease has run out. These rules let one of them settle it:
//!
//! * The context only *collects* what the handler sends. None of it is visible before the settlement, and the settlement
//!   checks the lease in the same atomic step. So a worker that was stopped past its lease may go on for a while, but its
//!   settlement and its messages are refused.
//! * When a renewal finds the lease lost, the worker cancels the handler: another delivery of the message has begun. When
//!   the bus does not answer a renewal, the handler goes on, since the bus may be back before another worker reserves the
//!   message. So once the bus answers again, no process reserves anything before leases could be renewed and settlements
//!   written: an outage that is longer than the leases does not restart the messages of living workers.
//! * When the process must end, the worker cancels the handler, and waits [`WIND_DOWN`] for it to kill and reap its child
//!   processes. Only then it releases the message, so that these do not run beside those of the next worker.
//! * The worker sends a settlement again whose reply was lost. If the first one had arrived, the second finds the lease
//!   lost, which means the same as done.

mod renewal;
mod settle;

use std::{
    any::Any,
    fmt,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use jiff::Timestamp;
use tracing::{Instrument, debug, error, error_span, field::Empty, info, warn};

use crate::{
    Backoff, Bus, Cause, Context, Delivery, Outcome, QueueSpec, RecordUpdate, Requeue,
    RequeueReason, Retry, Settlement,
    context::Shared,
    dyn_handler::{AnyError, DynHandler, Failure},
    metrics::Metrics,
};
pub(crate) use renewal::{FailedWrites, WRITE_RETRY};
use runtime::{Clock, Shutdown, chain, error_chain};

/// The time that a cancelled handler has for its child processes before its future is dropped.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// The time for which settlements are retried once the process must end.
pub(crate) const LAST_TRIES: Duration = Duration::from_secs(3);

/// The number of unsettled deliveries beyond the policy's in which the dead-letter handler is called. A message with more
/// becomes a dead letter without it: then that handler kills its worker.
const DEAD_LETTER_DELIVERIES: u32 = 2;

/// The backoff of reservations in an outage: short, since work has to go on within a second of its end.
pub(crate) const OUTAGE: Backoff = Backoff {
    first: Duration::from_millis(50),
    factor: 2,
    cap: Duration::from_millis(500),
};

/// The parts that all deliveries of a consumer share.
pub(crate) struct Worker {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue: QueueSpec,
    pub(crate) handler: Box<dyn DynHandler>,
    pub(crate) metrics: Metrics,
    pub(crate) failed_writes: FailedWrites,
}

/// A delivery whose handler has ended, and the way it ended.
pub(crate) struct Ended {
    pub(crate) delivery: Delivery,
    /// Whether it was handled alone, as a poison suspect.
    pub(crate) alone: bool,
    pub(crate) end: DeliveryEnd,
    /// The updates to record with the settlement.
    pub(crate) updates: Vec<RecordUpdate>,
    /// The time at which its handler ended; `None` when it did not run.
    pub(crate) at: Option<Timestamp>,
    /// The time until which its partition is held.
    pub(crate) hold_until: Option<Timestamp>,
}

/// The end of a delivery.
pub(crate) enum DeliveryEnd {
    Settled(Settlement),
    /// Another delivery of the message has begun: this one cannot be settled.
    LeaseLost,
}

/// The failure of an attempt.
enum Failed {
    Error(Failure),
    Panicked(String),
}

/// The cause of a dead letter, without the type of its handler's error.
enum DeadReason {
    /// The error is one for which no attempt helps.
    Failed(AnyError),
    AttemptsExhausted {
        attempts: u32,
        last: Option<AnyError>,
    },
    WorkerDied {
        times: u32,
    },
    Panicked(String),
}

impl DeadReason {
    fn cause(&self) -> Cause<'_, AnyError> {
        match self {
            Self::Failed(error) => Cause::Failed(error),
            Self::AttemptsExhausted { attempts, last } => Cause::AttemptsExhausted {
                attempts: *attempts,
                last: last.as_ref(),
            },
            Self::WorkerDied { times } => Cause::WorkerDied { times: *times },
            Self::Panicked(text) => Cause::Panicked(text),
        }
    }
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause().fmt(f)
    }
}

impl Worker {
    /// The parts that the contexts of all deliveries share until `shutdown`.
    pub(crate) fn shared(&self, shutdown: Shutdown) -> Arc<Shared> {
        Arc::new(Shared {
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            shutdown,
        })
    }

    /// Handles one delivery in a span of its own. A poison suspect (`alone`) waits until no other message is in flight in
    /// this process. A caller that knows the time passes it as `now`: for a short handler, reading the clock costs much.
    pub(crate) async fn process(
        self: Arc<Self>,
        delivery: Delivery,
        alone: bool,
        shared: Arc<Shared>,
        now: Option<Timestamp>,
    ) -> Ended {
        // At the highest level, so that lines of each level are in the span.
        let span = error_span!(
            "delivery",
            queue = self.queue.name,
            id = %delivery.envelope.id,
            attempt = delivery.attempt,
            build = Empty,
            task = Empty,
        );
        let cx = Context::new(shared, delivery.attempt, span.clone());
        let mut at = now.filter(|_| !alone);
        let end = {
            // Pinned here: each move would copy the whole state of a handler that waits.
            let deciding = pin!(self.decide(&delivery, alone, &cx, &mut at));
            self.with_lease(&delivery, &cx, deciding)
                .instrument(span)
                .await
        };
        Ended {
            delivery,
            alone,
            end,
            updates: cx.take_updates(),
            at,
            hold_until: cx.hold_until(),
        }
    }

    /// Runs `handling` until the process ends or the lease is lost, and renews the lease meanwhile.
    async fn with_lease(
        &self,
        delivery: &Delivery,
        cx: &Context,
        mut handling: Pin<&mut impl Future<Output = Settlement>>,
    ) -> DeliveryEnd {
        tokio::select! {
            biased;
            settlement = &mut handling => DeliveryEnd::Settled(settlement),
            () = cx.shutdown().cancelled() => {
                let settlement = self.wind_down(handling).await.unwrap_or(Settlement::Release);
                if matches!(settlement, Settlement::Release) {
                    info!("handler cancelled, message released; the process ends");
                }
                DeliveryEnd::Settled(settlement)
            }
            () = self.renew(delivery) => {
                warn!("lease lost; cancelling the handler");
                cx.lose();
                let _ = self.wind_down(handling).await;
                DeliveryEnd::LeaseLost
            }
        }
    }

    /// Decides how to settle a delivery. `at` is the time now, if it is known, and afterwards the time at which the handler
    /// ended.
    async fn decide(
        &self,
        delivery: &Delivery,
        alone: bool,
        cx: &Context,
        at: &mut Option<Timestamp>,
    ) -> Settlement {
        if alone {
            tokio::select! {
                biased;
                () = cx.cancelled() => return Settlement::Release,
                () = self.bus.isolation().until_empty() => {}
            }
        }
        if let Some(reason) = self.precheck(delivery) {
            return Box::pin(self.dead_letter(delivery, reason, cx)).await;
        }
        match self.run_handler(delivery, cx, at).await {
            Ok(Outcome::Done) => Settlement::Done {
                emit: cx.take_outgoing(),
            },
            // The other futures are boxed, so that a message that is done needs no memory for them.
            Ok(Outcome::Hold { after, reason }) if delivery.envelope.partition.is_some() => {
                Box::pin(self.hold(delivery, &reason, after, cx)).await
            }
            Ok(Outcome::Defer { after, reason } | Outcome::Hold { after, reason }) => {
                let why = RequeueReason::Deferred(&reason);
                Box::pin(self.defer(delivery, why, after, cx)).await
            }
            // The failure of a cancelled handler is not a failure of the message.
            Err(_) if cx.shutdown().is_cancelled() => Settlement::Release,
            Err(failed) => Box::pin(self.classify(delivery, failed, cx)).await,
        }
    }

    /// The cause for which the message becomes a dead letter without another attempt, if there is one.
    fn precheck(&self, delivery: &Delivery) -> Option<DeadReason> {
        let policy = self.queue.policy;
        let exhausted = delivery.attempt > policy.attempts;
        if delivery.unsettled_deliveries >= policy.max_unsettled_deliveries
            || (exhausted && delivery.unsettled_deliveries > 0)
        {
            return Some(DeadReason::WorkerDied {
                times: delivery.unsettled_deliveries,
            });
        }
        exhausted.then_some(DeadReason::AttemptsExhausted {
            attempts: policy.attempts,
            last: None,
        })
    }

    /// Runs the handler, catches its panic, and measures its duration.
    async fn run_handler(
        &self,
        delivery: &Delivery,
        cx: &Context,
        at: &mut Option<Timestamp>,
    ) -> Result<Outcome, Failed> {
        let begun = at.take().unwrap_or_else(|| self.clock.now());
        let handled = AssertUnwindSafe(self.handler.handle(&delivery.envelope, cx))
            .catch_unwind()
            .await;
        let ended = self.clock.now();
        *at = Some(ended);
        self.metrics
            .handling
            .record(ended.duration_since(begun).as_secs_f64());
        match handled {
            Ok(handled) => handled.map_err(Failed::Error),
            Err(panic) => Err(Failed::Panicked(panic_text(panic.as_ref()))),
        }
    }

    /// Decides whether a message whose attempt failed is retried, deferred, or a dead letter.
    async fn classify(&self, delivery: &Delivery, failed: Failed, cx: &Context) -> Settlement {
        let policy = self.queue.policy;
        let exhausted = delivery.attempt >= policy.attempts;
        let backoff = || policy.backoff.after(delivery.attempt, self.clock.as_ref());
        let (why, after) = match &failed {
            Failed::Error(Failure { retry, error }) => match *retry {
                Retry::Defer(after) => {
                    return self
                        .defer(delivery, RequeueReason::Outage(error), after, cx)
                        .await;
                }
                Retry::Hold(after) => {
                    cx.hold(after);
                    return self
                        .defer(delivery, RequeueReason::Outage(error), after, cx)
                        .await;
                }
                Retry::Never => return self.give_up(delivery, failed, cx).await,
                Retry::After(after) => (RequeueReason::Failed(error), after),
                Retry::Backoff => (RequeueReason::Failed(error), backoff()),
            },
            Failed::Panicked(text) => (RequeueReason::Panicked(text), backoff()),
        };
        if exhausted {
            return self.give_up(delivery, failed, cx).await;
        }
        let retry_in_s = after.as_secs_f64();
        warn!(
            error = %why,
            attempts = policy.attempts,
            retry_in_s,
            "attempt {} of {} failed; retrying in {retry_in_s:.1} s",
            delivery.attempt,
            policy.attempts,
        );
        self.requeue(delivery, why, after, cx).await;
        Settlement::Retry { after }
    }

    async fn give_up(&self, delivery: &Delivery, failed: Failed, cx: &Context) -> Settlement {
        let reason = match failed {
            Failed::Error(Failure {
                retry: Retry::Never,
                error,
            }) => DeadReason::Failed(error),
            Failed::Error(Failure { error, .. }) => DeadReason::AttemptsExhausted {
                attempts: self.queue.policy.attempts,
                last: Some(error),
            },
            Failed::Panicked(text) => DeadReason::Panicked(text),
        };
        self.dead_letter(delivery, reason, cx).await
    }

    async fn defer(
        &self,
        delivery: &Delivery,
        why: RequeueReason<'_, AnyError>,
        after: Duration,
        cx: &Context,
    ) -> Settlement {
        debug!(reason = %why, "handler deferred the message");
        self.requeue(delivery, why, after, cx).await;
        Settlement::Defer { after }
    }

    /// Holds the partition of a message, and releases the message: it stays the first of its partition.
    async fn hold(
        &self,
        delivery: &Delivery,
        reason: &str,
        after: Duration,
        cx: &Context,
    ) -> Settlement {
        debug!(reason, "handler holds the partition");
        self.requeue(delivery, RequeueReason::Deferred(reason), after, cx)
            .await;
        // A release records nothing.
        let updates = cx.take_updates();
        if !updates.is_empty()
            && let Err(error) = cx.record_now(updates).await
        {
            let error = chain(&error);
            warn!(error, "cannot record a held partition; holding it anyway");
        }
        cx.hold(after);
        Settlement::Release
    }

    /// Calls the handler's `on_requeue`. Its failure is logged and changes nothing.
    async fn requeue(
        &self,
        delivery: &Delivery,
        why: RequeueReason<'_, AnyError>,
        after: Duration,
        cx: &Context,
    ) {
        let requeue = Requeue { why, after };
        let recording = self.handler.on_requeue(&delivery.envelope, requeue, cx);
        if let Err(error) = caught(recording).await {
            warn!(
                error,
                "requeue handler failed; requeueing the message anyway"
            );
        }
    }

    async fn dead_letter(
        &self,
        delivery: &Delivery,
        reason: DeadReason,
        cx: &Context,
    ) -> Settlement {
        let policy = self.queue.policy;
        // The messages of a failed attempt are dropped.
        cx.take_outgoing();
        let mut emit = Vec::new();
        if delivery.unsettled_deliveries
            < policy
                .max_unsettled_deliveries
                .saturating_add(DEAD_LETTER_DELIVERIES)
        {
            let calling = self
                .handler
                .on_dead_letter(&delivery.envelope, reason.cause(), cx);
            match caught(calling).await {
                Ok(()) => emit = cx.take_outgoing(),
                Err(error) => {
                    if delivery.attempt < policy.attempts.saturating_mul(2) {
                        // The handler sends the last answer. Without it, its receiver may wait without end.
                        error!(error, "dead-letter handler failed; retrying");
                        return Settlement::Retry {
                            after: policy.backoff.after(delivery.attempt, self.clock.as_ref()),
                        };
                    }
                    error!(
                        error,
                        "dead-letter handler failed; keeping the dead letter without its answer"
                    );
                    cx.take_outgoing();
                }
            }
        }
        error!(
            attempts = delivery.attempt,
            error = %reason,
            "message failed permanently; kept as a dead letter"
        );
        Settlement::Dead {
            id: delivery.envelope.id,
            reason: reason.to_string(),
            attempts: delivery.attempt,
            emit,
        }
    }

    async fn wind_down<F: Future>(&self, handling: F) -> Option<F::Output> {
        tokio::select! {
            handled = handling => Some(handled),
            () = self.clock.sleep(WIND_DOWN) => None,
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}

/// Runs a call of a handler. Its error or panic is returned as text.
async fn caught(calling: impl Future<Output = Result<(), Failure>>) -> Result<(), String> {
    match AssertUnwindSafe(calling).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(error_chain(&failure.error)),
        Err(panic) => Err(format!("panicked: {}", panic_text(panic.as_ref()))),
    }
}
