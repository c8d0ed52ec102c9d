//! Retries for commands, which have no bus to defer their work.
//!
//! A command meets failures of two kinds: the outage of a server, which no operation causes, and an operation at which its
//! server fails each time. A single failure does not show its kind. So a failure of a server counts against the operation
//! if any operation has succeeded since the operation last failed (or began), and as an outage otherwise. An outage that
//! begins during many operations costs each of them one try.
//!
//! When a server requests a pause, all operations pause.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use runtime::{Backoff, Clock, FailureLog, Retry, Retryable, Shutdown, error_chain};
use tracing::{info, warn};

use crate::TelemetryError;

/// The tries of an operation that fails while others succeed. Each try is several requests.
const TRIES: u32 = 5;
/// The tries of an operation during an outage: they take seven minutes or more.
const OUTAGE_TRIES: u32 = 12;
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    factor: 2,
    cap: Duration::from_secs(60),
};
/// The longest pause at a server's request.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Retries operations, and shares between them what it learns about the servers.
pub struct OutageRetry<'a> {
    clock: &'a dyn Clock,
    shutdown: &'a Shutdown,
    /// The number of operations that succeeded.
    successes: AtomicU64,
    /// The end of the pause that a server requested.
    paused_until: Mutex<Timestamp>,
    outages: FailureLog,
}

/// The reason why an operation was given up.
#[derive(Debug)]
pub enum RetryError {
    /// The operation failed permanently, or has used up its tries.
    Failed(TelemetryError),
    /// A server stayed away during all tries.
    Outage(TelemetryError),
    /// A retry was due during shutdown.
    Shutdown,
}

impl<'a> OutageRetry<'a> {
    /// Waits by `clock`. Retries end when `shutdown` begins.
    pub fn new(clock: &'a dyn Clock, shutdown: &'a Shutdown) -> Self {
        Self {
            clock,
            shutdown,
            successes: AtomicU64::new(0),
            paused_until: Mutex::new(Timestamp::MIN),
            outages: FailureLog::default(),
        }
    }

    /// Runs an operation until it succeeds or is given up.
    pub async fn run<T, F>(&self, operation: impl Fn() -> F) -> Result<T, RetryError>
    where
        F: Future<Output = Result<T, TelemetryError>>,
    {
        // Failures that count against the operation, and those that count as an outage.
        let mut own_failures = 0;
        let mut outage_failures = 0;
        let successes_at_start = self.successes.load(Ordering::Relaxed);
        let mut successes_before = successes_at_start;
        loop {
            self.wait_for_pause().await?;
            let error = match operation().await {
                Ok(value) => {
                    self.succeeded();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let successes = self.successes.load(Ordering::Relaxed);
            let is_outage = match error.retry() {
                Retry::Never => return Err(RetryError::Failed(error)),
                Retry::Backoff | Retry::After(_) => false,
                Retry::Defer(_) | Retry::Hold(_) => successes == successes_before,
            };
            successes_before = successes;
            if is_outage {
                outage_failures += 1;
            } else {
                own_failures += 1;
            }
            if own_failures == TRIES {
                return Err(RetryError::Failed(error));
            }
            if outage_failures == OUTAGE_TRIES {
                // The last operation of a run has no others beside it, and may be one that never succeeds.
                return Err(if successes == successes_at_start {
                    RetryError::Outage(error)
                } else {
                    RetryError::Failed(error)
                });
            }
            if let Some(pause) = error.requested_pause() {
                self.pause(pause.min(LONGEST_PAUSE));
            }
            if is_outage && self.outages.should_log(()) {
                warn!(error = error_chain(&error), "a service is away; retrying");
            }
            let wait = BACKOFF.after(own_failures + outage_failures, self.clock);
            self.wait(wait).await?;
        }
    }

    fn succeeded(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
        if self.outages.recovered() {
            info!("service recovered; resuming");
        }
    }

    /// Pauses all operations.
    fn pause(&self, pause: Duration) {
        let now = self.clock.now();
        let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
        let mut paused_until = self.paused_until.lock();
        *paused_until = until.max(*paused_until);
    }

    async fn wait_for_pause(&self) -> Result<(), RetryError> {
        loop {
            let until = *self.paused_until.lock();
            match Duration::try_from(until.duration_since(self.clock.now())) {
                Ok(left) if !left.is_zero() => self.wait(left).await?,
                _ => return Ok(()),
            }
        }
    }

    async fn wait(&self, pause: Duration) -> Result<(), RetryError> {
        tokio::select! {
            () = self.clock.sleep(pause) => Ok(()),
            () = self.shutdown.stopping() => Err(RetryError::Shutdown),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use futures::{FutureExt, future::join};
    use http_client::HttpError;
    use runtime::ManualClock;

    use super::*;

    fn server_error(retry_after: Option<u64>) -> TelemetryError {
        TelemetryError::Http {
            call: "a call".to_owned(),
            source: HttpError::Busy {
                status: 503,
                retry_after: retry_after.map(Duration::from_secs),
            },
        }
    }

    fn rejected() -> TelemetryError {
        TelemetryError::Rejected {
            node: "a".to_owned(),
            status: 413,
            advice: "it is too large",
        }
    }

    /// The surroundings of the operations, and a count of their tries.
    struct Stage {
        clock: ManualClock,
        shutdown: Shutdown,
        tries: Cell<u32>,
    }

    impl Stage {
        fn new() -> Self {
            Self {
                clock: ManualClock::new(Timestamp::UNIX_EPOCH),
                shutdown: Shutdown::new(),
                tries: Cell::new(0),
            }
        }

        fn retry(&self) -> OutageRetry<'_> {
            OutageRetry::new(&self.clock, &self.shutdown)
        }

        /// Counts a try, and returns its number.
        fn count(&self) -> u32 {
            self.tries.set(self.tries.get() + 1);
            self.tries.get()
        }
    }

    /// Advances the clock until `work` ends.
    async fn with_time<T>(clock: &ManualClock, work: impl Future<Output = T>) -> T {
        let time = async {
            loop {
                clock.advance(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            result = work => result,
            () = time => unreachable!("time does not end"),
        }
    }

    #[tokio::test]
    async fn operation_that_fails_while_others_succeed_is_given_up() {
        let stage = Stage::new();
        let retry = stage.retry();
        let operation = || async {
            stage.count();
            // Another operation succeeds meanwhile.
            retry.successes.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(server_error(None))
        };
        let result = with_time(&stage.clock, retry.run(operation)).await;
        assert!(matches!(result, Err(RetryError::Failed(_))));
        assert_eq!(stage.tries.get(), TRIES);
    }

    #[tokio::test]
    async fn outage_is_waited_for_and_reported_when_it_lasts() {
        let stage = Stage::new();
        let retry = stage.retry();
        let operation = || async {
            if stage.count() < 10 {
                Err(server_error(None))
            } else {
                Ok(())
            }
        };
        with_time(&stage.clock, retry.run(operation)).await.unwrap();
        assert_eq!(stage.tries.get(), 10);
        let operation = || async { Err::<(), _>(server_error(None)) };
        let result = with_time(&stage.clock, retry.run(operation)).await;
        assert!(matches!(result, Err(RetryError::Outage(_))));
    }

    #[tokio::test]
    async fn permanent_failure_is_not_retried() {
        let stage = Stage::new();
        let retry = stage.retry();
        let operation = || async {
            stage.count();
            Err::<(), _>(rejected())
        };
        let result = with_time(&stage.clock, retry.run(operation)).await;
        assert!(matches!(result, Err(RetryError::Failed(_))));
        assert_eq!(stage.tries.get(), 1);
    }

    #[tokio::test]
    async fn outage_during_concurrent_requests_is_waited_for() {
        let stage = Stage::new();
        let retry = stage.retry();
        let operation = || async {
            match stage.count() {
                // Another operation succeeds before the outage.
                1 => retry.successes.fetch_add(1, Ordering::Relaxed),
                10 => return Ok(()),
                _ => 0,
            };
            Err(server_error(None))
        };
        with_time(&stage.clock, retry.run(operation)).await.unwrap();
        assert_eq!(stage.tries.get(), 10);
    }

    #[tokio::test]
    async fn retry_after_pauses_all_operations() {
        let stage = Stage::new();
        let retry = stage.retry();
        let requests = RefCell::new(Vec::new());
        let request = |name: &'static str| {
            let mut requests = requests.borrow_mut();
            requests.push((name, stage.clock.now().as_second()));
            let is_first = requests.len() == 1;
            async move {
                if is_first {
                    Err(server_error(Some(30)))
                } else {
                    Ok(())
                }
            }
        };
        let mut one = std::pin::pin!(retry.run(|| request("one")));
        assert!(one.as_mut().now_or_never().is_none());
        let other = retry.run(|| request("other"));
        let (one, other) = with_time(&stage.clock, join(one, other)).await;
        one.unwrap();
        other.unwrap();
        let requests = requests.take();
        assert_eq!(requests[0], ("one", 0));
        assert!(
            requests.len() == 3 && requests[1..].iter().all(|(_, at)| *at >= 30),
            "{requests:?}"
        );
    }

    #[tokio::test]
    async fn no_retries_after_shutdown_begins() {
        let stage = Stage::new();
        let retry = stage.retry();
        let operation = || async {
            stage.shutdown.stop();
            Err::<(), _>(server_error(None))
        };
        let result = retry.run(operation).await;
        assert!(matches!(result, Err(RetryError::Shutdown)));
    }
}
