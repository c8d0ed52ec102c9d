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
//!   When a renewal finds no bus at all, the handler goes on, since the bus may be back before the lease is over.
//! * When the process must end, the handler is asked to stop, and given [`WIND_DOWN`] to kill and reap its child
//!   processes. Only then is the message released, so that the next worker does not meet the last one's children.
//! * A settlement whose reply was lost is sent again. If the first one had arrived, the second finds the lease lost,
//!   and that is the same as done.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use crate::{
    Backoff, Bus, BusError, Context, Disposition, Ending, Fact, Leased, Postponed, QueueSpec,
    Settlement,
    erased::{AnyHandler, Failure},
    meters::Meters,
};
use runtime::{Clock, Shutdown, error_chain};

/// How long a cancelled handler has to end its child processes before its future is dropped.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// How long settlements are tried once the process must end.
pub(crate) const LAST_TRIES: Duration = Duration::from_secs(3);

/// How often more than the policy allows a message may die before it is buried without its last word: it is the last
/// word, then, that kills.
const LAST_WORDS: u32 = 2;

/// The waits while the bus does not answer: short, since work is to go on within a second of its return.
pub(crate) const OUTAGE: Backoff = Backoff {
    first: Duration::from_millis(50),
    factor: 2,
    cap: Duration::from_millis(800),
};

/// What all messages of a consumer share.
pub(crate) struct Worker {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue: QueueSpec,
    pub(crate) handler: Box<dyn AnyHandler>,
    pub(crate) meters: Meters,
}

/// A message whose handler has ended, and what is to become of it. `None` when its lease is lost: it is another's.
pub(crate) struct Ended {
    pub(crate) leased: Leased,
    pub(crate) how: Option<Settlement>,
    /// What is recorded with that.
    pub(crate) facts: Vec<Fact>,
    /// When its handler ended, if it did.
    pub(crate) at: Option<Timestamp>,
}

impl Worker {
    /// Handles one message. A suspect waits until it is alone in this process. `now`, when the caller knows it: asking for
    /// the time is a good part of what a short step costs.
    pub(crate) async fn process(
        self: Arc<Self>,
        leased: Leased,
        alone: bool,
        shutdown: Arc<Shutdown>,
        now: Option<Timestamp>,
    ) -> Ended {
        let cx = Context::new(
            Arc::clone(&self.bus),
            Arc::clone(&self.clock),
            Arc::clone(&shutdown),
            leased.attempt,
        );
        let mut at = now.filter(|_| !alone);
        let how = self.decide(&leased, alone, &cx, &shutdown, &mut at).await;
        Ended {
            leased,
            how,
            facts: cx.take_facts(),
            at,
        }
    }

    /// `at` is when it begins, if that is known, and then when the handler ended.
    async fn decide(
        &self,
        leased: &Leased,
        alone: bool,
        cx: &Context,
        shutdown: &Arc<Shutdown>,
        at: &mut Option<Timestamp>,
    ) -> Option<Settlement> {
        let begin = at.take();
        let policy = self.queue.policy;
        let handling = async {
            if alone {
                self.bus.quarantine().until_empty().await;
                if shutdown.is_cancelled() {
                    return Settlement::Release;
                }
            }
            if leased.deaths >= policy.deaths || leased.attempt > policy.attempts {
                let reason = if leased.deaths == 0 {
                    format!(
                        "its {} attempts are used up, and its last word could not be said before",
                        policy.attempts
                    )
                } else if leased.deaths > 1 {
                    format!(
                        "it was taken {} times in a row and never finished: its worker died, or lost its lease",
                        leased.deaths
                    )
                } else {
                    format!(
                        "its {} attempts are used up, and the last one never finished: its worker died, or lost its lease",
                        policy.attempts
                    )
                };
                return self.bury(leased, reason, cx).await;
            }
            let handling = AssertUnwindSafe(self.handler.handle(&leased.envelope, cx));
            let begun = begin.unwrap_or_else(|| self.clock.now());
            let handled = handling.catch_unwind().await;
            let ended = self.clock.now();
            *at = Some(ended);
            self.meters
                .handling
                .record(ended.duration_since(begun).as_secs_f64());
            let failure = match handled {
                Ok(Ok(())) => {
                    return Settlement::Done {
                        emit: cx.take_outgoing(),
                    };
                }
                // A step that failed after it was cancelled did not fail by itself.
                Ok(Err(_)) | Err(_) if shutdown.is_cancelled() => return Settlement::Release,
                Ok(Err(failure)) => failure,
                Err(panic) => Failure {
                    disposition: Disposition::Retry,
                    reason: panic_text(panic.as_ref()),
                },
            };
            self.fail(leased, failure, cx).await
        };
        tokio::pin!(handling);
        let id = leased.envelope.id;
        tokio::select! {
            biased;
            how = &mut handling => Some(how),
            () = shutdown.cancelled() => {
                let how = self.wind_down(handling).await.unwrap_or(Settlement::Release);
                if matches!(how, Settlement::Release) {
                    info!(queue = self.queue.name, %id, "given back unfinished, the process ends");
                }
                Some(how)
            }
            () = self.renew(leased) => {
                warn!(queue = self.queue.name, %id, "lease lost, this attempt is given up");
                cx.lose();
                let _ = self.wind_down(handling).await;
                None
            }
        }
    }

    /// Renews the lease at a third of its length, for as long as it can; returns when it is lost.
    async fn renew(&self, leased: &Leased) {
        loop {
            self.clock.sleep(self.queue.policy.lease / 3).await;
            match self.bus.extend(&leased.lease).await {
                Ok(()) => {}
                Err(BusError::LeaseLost { .. }) => return,
                Err(error) => {
                    warn!(
                        queue = self.queue.name,
                        error = error_chain(&error),
                        "cannot renew a lease; retrying"
                    );
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

    async fn fail(&self, leased: &Leased, failure: Failure, cx: &Context) -> Settlement {
        let policy = self.queue.policy;
        let attempt = leased.attempt;
        let after = match failure.disposition {
            Disposition::Defer(after) => {
                debug!(queue = self.queue.name, id = %leased.envelope.id, reason = failure.reason, "deferred");
                self.postpone(
                    leased,
                    &Postponed {
                        reason: &failure.reason,
                        after,
                        counted: false,
                    },
                    cx,
                )
                .await;
                return Settlement::Defer { after };
            }
            Disposition::Dead => return self.bury(leased, failure.reason, cx).await,
            _ if attempt >= policy.attempts => return self.bury(leased, failure.reason, cx).await,
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
        self.postpone(
            leased,
            &Postponed {
                reason: &failure.reason,
                after,
                counted: true,
            },
            cx,
        )
        .await;
        Settlement::Retry { after }
    }

    /// Lets the handler record that the message comes back. What goes wrong with that changes nothing of it.
    async fn postpone(&self, leased: &Leased, postponed: &Postponed<'_>, cx: &Context) {
        let recording = AssertUnwindSafe(self.handler.postponed(&leased.envelope, postponed, cx))
            .catch_unwind();
        let trouble = match recording.await {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure.reason,
            Err(panic) => panic_text(panic.as_ref()),
        };
        warn!(queue = self.queue.name, id = %leased.envelope.id, error = trouble, "cannot record that it comes back");
    }

    async fn bury(&self, leased: &Leased, reason: String, cx: &Context) -> Settlement {
        let policy = self.queue.policy;
        let id = leased.envelope.id;
        // What a failed step wanted to send is void.
        cx.take_outgoing();
        let mut emit = Vec::new();
        if leased.deaths < policy.deaths.saturating_add(LAST_WORDS) {
            let speaking = AssertUnwindSafe(self.handler.exhausted(&leased.envelope, &reason, cx))
                .catch_unwind();
            let trouble = match speaking.await {
                Ok(Ok(())) => None,
                Ok(Err(failure)) => Some(failure.reason),
                Err(panic) => Some(panic_text(panic.as_ref())),
            };
            if let Some(trouble) = trouble {
                error!(queue = self.queue.name, %id, error = trouble, "the last word on it failed");
                if leased.attempt < policy.attempts.saturating_mul(2) {
                    // Without its last word the sender would wait for ever: it is not buried before that is said.
                    return Settlement::Retry {
                        after: policy.backoff.after(leased.attempt, self.clock.as_ref()),
                    };
                }
            } else {
                emit = cx.take_outgoing();
            }
        }
        error!(
            queue = self.queue.name,
            %id,
            attempts = leased.attempt,
            error = reason,
            "message failed permanently, kept as a dead letter"
        );
        Settlement::Dead {
            id,
            reason,
            attempts: leased.attempt,
            emit,
        }
    }

    /// Writes how these messages ended, and tries again for as long as the bus does not answer and the process lives.
    pub(crate) async fn settle(&self, batch: &[Ended], shutdown: &Shutdown) {
        tokio::select! {
            () = self.settle_until_answered(batch, shutdown) => {}
            () = async { shutdown.cancelled().await; self.clock.sleep(LAST_TRIES).await } => {
                warn!(
                    queue = self.queue.name,
                    messages = batch.len(),
                    "not settled before the process ends, they come back with their leases"
                );
            }
        }
    }

    async fn settle_until_answered(&self, batch: &[Ended], shutdown: &Shutdown) {
        batch
            .iter()
            .filter(|ended| ended.how.is_none())
            .for_each(|_| self.meters.count(None));
        let ended = batch.iter().filter_map(|ended| {
            Some(Ending {
                lease: &ended.leased.lease,
                how: ended.how.as_ref()?,
                facts: &ended.facts,
            })
        });
        let mut ended: Vec<_> = ended.collect();
        for failures in 1.. {
            let error = match self.bus.settle_all(&ended).await {
                Ok(written) => {
                    for (ending, written) in ended.iter().zip(&written) {
                        self.meters.count(written.then_some(ending.how));
                    }
                    let lost = written.iter().filter(|written| !**written).count();
                    if lost > 0 {
                        // After a failed try the first one may have arrived.
                        warn!(
                            queue = self.queue.name,
                            lost, failures, "leases lost, these settlements were not written"
                        );
                    }
                    return;
                }
                Err(error) => error,
            };
            if failures == 1 {
                warn!(
                    queue = self.queue.name,
                    error = error_chain(&error),
                    "cannot settle messages; retrying"
                );
            }
            if !shutdown.is_stopping() {
                // It may have arrived, and the message be ours again, under the same number: a second release would take
                // it from under its handler. It comes back with its lease at the latest.
                ended.retain(|ending| !matches!(ending.how, Settlement::Release));
            }
            self.clock
                .sleep(OUTAGE.after(failures, self.clock.as_ref()))
                .await;
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}
