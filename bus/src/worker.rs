//! One message: handled, its lease kept, and its end decided and written.
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
//!   When a renewal finds no bus at all, the handler goes on, since the bus may be back before somebody else takes the
//!   message. So once the bus answers again, nothing is reserved before leases could be renewed: an outage that is longer
//!   than the leases does not restart what living workers hold.
//! * When the process must end, the handler is asked to stop, and given [`WIND_DOWN`] to kill and reap its child
//!   processes. Only then is the message released, so that the next worker does not meet the last one's children.
//! * A settlement whose reply was lost is sent again. If the first one had arrived, the second finds the lease lost,
//!   and that is the same as done.

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
pub(crate) use renewal::Renewals;
use runtime::{Clock, Shutdown, chain, error_chain};

/// How long a cancelled handler has to end its child processes before its future is dropped.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// How long settlements are tried once the process must end.
pub(crate) const LAST_TRIES: Duration = Duration::from_secs(3);

/// How many unsettled deliveries more than the policy allows a message may have before it becomes a dead letter without its
/// dead-letter handler: then it is that handler that kills.
const LAST_WORDS: u32 = 2;

/// The waits while the bus does not answer: short, since work is to go on within a second of its return.
pub(crate) const OUTAGE: Backoff = Backoff {
    first: Duration::from_millis(50),
    factor: 2,
    cap: Duration::from_millis(500),
};

/// What all messages of a consumer share.
pub(crate) struct Worker {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue: QueueSpec,
    pub(crate) handler: Box<dyn DynHandler>,
    pub(crate) metrics: Metrics,
    pub(crate) renewals: Renewals,
}

/// A message whose handler has ended, and how it is settled.
pub(crate) struct Ended {
    pub(crate) delivery: Delivery,
    pub(crate) verdict: Verdict,
    /// What is recorded with that.
    pub(crate) updates: Vec<RecordUpdate>,
    /// When its handler ended, if it did.
    pub(crate) at: Option<Timestamp>,
    /// Until when nothing of its partition is taken.
    pub(crate) hold_until: Option<Timestamp>,
}

/// How a delivery ends.
pub(crate) enum Verdict {
    Settled(Settlement),
    /// Another worker has the message; there is nothing to settle.
    LeaseLost,
}

/// Why an attempt failed.
enum Failed {
    Error(Failure),
    Panicked(String),
}

/// Why a message becomes a dead letter, without the type of its handler's error.
enum DeadReason {
    /// Another attempt cannot help.
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
    /// What all deliveries until `shutdown` share.
    pub(crate) fn shared(&self, shutdown: Shutdown) -> Arc<Shared> {
        Arc::new(Shared {
            bus: self.bus.clone(),
            clock: self.clock.clone(),
            shutdown,
        })
    }

    /// Handles one message in a span of its own. A suspect waits until it is alone in this process. `now`, when the caller
    /// knows it: asking for the time is a good part of what a short step costs.
    pub(crate) async fn process(
        self: Arc<Self>,
        delivery: Delivery,
        alone: bool,
        shared: Arc<Shared>,
        now: Option<Timestamp>,
    ) -> Ended {
        // At the highest level, so that lines of every level are in it.
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
        let verdict = {
            // It stays in its place: each move copies all that a handler keeps while it waits.
            let deciding = pin!(self.decide(&delivery, alone, &cx, &mut at));
            self.with_lease(&delivery, &cx, deciding)
                .instrument(span)
                .await
        };
        Ended {
            delivery,
            verdict,
            updates: cx.take_updates(),
            at,
            hold_until: cx.hold_until(),
        }
    }

    /// Runs the handling of a message for as long as the process lives and the lease holds, and renews the lease.
    async fn with_lease(
        &self,
        delivery: &Delivery,
        cx: &Context,
        mut handling: Pin<&mut impl Future<Output = Settlement>>,
    ) -> Verdict {
        tokio::select! {
            biased;
            settlement = &mut handling => Verdict::Settled(settlement),
            () = cx.shutdown().cancelled() => {
                let settlement = self.wind_down(handling).await.unwrap_or(Settlement::Release);
                if matches!(settlement, Settlement::Release) {
                    info!("released unfinished: the process ends");
                }
                Verdict::Settled(settlement)
            }
            () = self.renew(delivery) => {
                warn!("lease lost; this attempt is given up");
                cx.lose();
                let _ = self.wind_down(handling).await;
                Verdict::LeaseLost
            }
        }
    }

    /// `at` is when it begins, if that is known, and then when the handler ended.
    async fn decide(
        &self,
        delivery: &Delivery,
        alone: bool,
        cx: &Context,
        at: &mut Option<Timestamp>,
    ) -> Settlement {
        if alone {
            self.bus.isolation().until_empty().await;
            if cx.shutdown().is_cancelled() {
                return Settlement::Release;
            }
        }
        if let Some(reason) = self.precheck(delivery) {
            return Box::pin(self.dead_letter(delivery, reason, cx)).await;
        }
        match self.run_handler(delivery, cx, at).await {
            Ok(Outcome::Done) => Settlement::Done {
                emit: cx.take_outgoing(),
            },
            // Each other end is in memory of its own, which a message that is done does not need.
            Ok(Outcome::Hold { after, reason }) if delivery.envelope.partition.is_some() => {
                Box::pin(self.hold(delivery, &reason, after, cx)).await
            }
            Ok(Outcome::Defer { after, reason } | Outcome::Hold { after, reason }) => {
                let why = RequeueReason::Deferred(&reason);
                Box::pin(self.defer(delivery, why, after, cx)).await
            }
            // A handler that failed after it was cancelled did not fail by itself.
            Err(_) if cx.shutdown().is_cancelled() => Settlement::Release,
            Err(failed) => Box::pin(self.classify(delivery, failed, cx)).await,
        }
    }

    /// Why the message is a dead letter before its handler runs, if it is.
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

    /// Runs the handler, catches its panic, and takes its time.
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
        warn!(
            error = %why,
            "attempt {} of {} failed; next in {:.1} s",
            delivery.attempt,
            policy.attempts,
            after.as_secs_f64()
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
        debug!(reason = %why, "deferred");
        self.requeue(delivery, why, after, cx).await;
        Settlement::Defer { after }
    }

    /// Gives a message back as the first of its partition, and holds the partition.
    async fn hold(
        &self,
        delivery: &Delivery,
        reason: &str,
        after: Duration,
        cx: &Context,
    ) -> Settlement {
        debug!(reason, "the partition is held");
        self.requeue(delivery, RequeueReason::Deferred(reason), after, cx)
            .await;
        // Nothing is recorded with a release.
        let updates = cx.take_updates();
        if !updates.is_empty()
            && let Err(error) = cx.record_now(updates).await
        {
            let error = chain(&error);
            warn!(error, "cannot record that the message waits");
        }
        cx.hold(after);
        Settlement::Release
    }

    /// Lets the handler record that the message comes back. A failure of that changes nothing.
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
            warn!(error, "cannot record that the message comes back");
        }
    }

    async fn dead_letter(
        &self,
        delivery: &Delivery,
        reason: DeadReason,
        cx: &Context,
    ) -> Settlement {
        let policy = self.queue.policy;
        // What a failed attempt wanted to send is void.
        cx.take_outgoing();
        let mut emit = Vec::new();
        if delivery.unsettled_deliveries
            < policy.max_unsettled_deliveries.saturating_add(LAST_WORDS)
        {
            let answering = self
                .handler
                .on_dead_letter(&delivery.envelope, reason.cause(), cx);
            match caught(answering).await {
                Ok(()) => emit = cx.take_outgoing(),
                Err(error) => {
                    error!(error, "the dead-letter handler failed");
                    if delivery.attempt < policy.attempts.saturating_mul(2) {
                        // Whoever waits for an answer would wait for ever: it is no dead letter before that is sent.
                        return Settlement::Retry {
                            after: policy.backoff.after(delivery.attempt, self.clock.as_ref()),
                        };
                    }
                    cx.take_outgoing();
                }
            }
        }
        error!(
            attempts = delivery.attempt,
            error = %reason,
            "message failed permanently, kept as a dead letter"
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

/// The failure of a handler's answer as text, also when it panicked.
async fn caught(answering: impl Future<Output = Result<(), Failure>>) -> Result<(), String> {
    match AssertUnwindSafe(answering).catch_unwind().await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(failure)) => Err(error_chain(&failure.error)),
        Err(panic) => Err(format!("panicked: {}", panic_text(panic.as_ref()))),
    }
}
