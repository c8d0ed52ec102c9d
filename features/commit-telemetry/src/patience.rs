//! Trying until it works, where no bus does that.
//!
//! A bus parks what cannot be done now. Commands have none, so they wait themselves. What they wait for is of two kinds: a
//! server that is away, which is nobody's fault, and a single changeset or push that its server fails at, which may never
//! end. One failure does not tell which. So a failure of a server counts as one of what was tried if anything has gone well
//! since it last failed, or was begun, and as an outage otherwise: one that begins while much is under way costs each a try.
//!
//! A server that says for how long it wants to be left alone is left alone by everyone.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use bus::{Backoff, Retry, Retryable};
use jiff::Timestamp;
use runtime::{Clock, Shutdown, error_chain};
use tracing::{info, warn};

use crate::TelemetryError;

/// How often something is tried that fails while other things go well. Each try is several requests.
const TRIES: u32 = 5;
/// How often something is tried in an outage: for seven minutes and more.
const OUTAGE_TRIES: u32 = 12;
/// The waits between tries.
const WAITS: Backoff = Backoff {
    first: Duration::from_secs(1),
    factor: 2,
    cap: Duration::from_secs(60),
};
/// The longest pause that a server is granted.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// Tries things until they work, and shares what is found out about the servers.
pub struct Patience<'a> {
    clock: &'a dyn Clock,
    shutdown: &'a Shutdown,
    /// How many things went well.
    well: AtomicU64,
    /// Until when nobody is asked.
    quiet: Mutex<Timestamp>,
    /// Whether an outage was logged.
    told: AtomicBool,
}

/// Why something was not done.
#[derive(Debug)]
pub enum NotDone {
    /// It was tried often enough, or there is no hope.
    Failed(TelemetryError),
    /// A server is away, and that for long.
    Away(TelemetryError),
    /// It was to be tried again, and the process is about to stop.
    Stopped,
}

impl<'a> Patience<'a> {
    /// Waits by `clock`. Once `shutdown` has begun, nothing is tried again.
    pub fn new(clock: &'a dyn Clock, shutdown: &'a Shutdown) -> Self {
        let (well, quiet, told) = (
            AtomicU64::new(0),
            Mutex::new(Timestamp::MIN),
            AtomicBool::new(false),
        );
        Self {
            clock,
            shutdown,
            well,
            quiet,
            told,
        }
    }

    /// Tries until it works, or there is no use in it.
    pub async fn until_done<T, F>(&self, attempt: impl Fn() -> F) -> Result<T, NotDone>
    where
        F: Future<Output = Result<T, TelemetryError>>,
    {
        let (mut tries, mut failures) = (0, 0);
        let begun = self.well.load(Ordering::Relaxed);
        let mut seen = begun;
        loop {
            self.silence().await?;
            let error = match attempt().await {
                Ok(value) => {
                    self.well.fetch_add(1, Ordering::Relaxed);
                    if self.told.swap(false, Ordering::Relaxed) {
                        info!("it goes on");
                    }
                    return Ok(value);
                }
                Err(error) => error,
            };
            let well = self.well.load(Ordering::Relaxed);
            let outage = match error.retry() {
                Retry::Never => return Err(NotDone::Failed(error)),
                Retry::Backoff | Retry::After(_) => false,
                Retry::Defer(_) | Retry::Hold(_) => well == seen,
            };
            seen = well;
            failures += 1;
            tries += u32::from(!outage);
            if tries == TRIES {
                return Err(NotDone::Failed(error));
            }
            if failures - tries == OUTAGE_TRIES {
                // What remains at the end, when all else is done, may be what never works.
                return Err(if well == begun {
                    NotDone::Away(error)
                } else {
                    NotDone::Failed(error)
                });
            }
            if let Some(pause) = error.asked_pause() {
                self.leave_alone(pause.min(LONGEST_PAUSE));
            }
            if outage && !self.told.swap(true, Ordering::Relaxed) {
                warn!(
                    error = error_chain(&error),
                    "a service does not answer as it should, it is tried again"
                );
            }
            self.wait(WAITS.after(failures, self.clock)).await?;
        }
    }

    /// Nobody is asked for so long.
    fn leave_alone(&self, pause: Duration) {
        let until = self
            .clock
            .now()
            .checked_add(pause)
            .unwrap_or(Timestamp::MAX);
        let mut quiet = self.quiet.lock();
        *quiet = until.max(*quiet);
    }

    /// Waits for as long as a server wants to be left alone.
    async fn silence(&self) -> Result<(), NotDone> {
        loop {
            let until = *self.quiet.lock();
            match Duration::try_from(until.duration_since(self.clock.now())) {
                Ok(left) if !left.is_zero() => self.wait(left).await?,
                _ => return Ok(()),
            }
        }
    }

    async fn wait(&self, pause: Duration) -> Result<(), NotDone> {
        tokio::select! {
            () = self.clock.sleep(pause) => Ok(()),
            () = self.shutdown.stopping() => Err(NotDone::Stopped),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::{FutureExt, future::join};
    use runtime::ManualClock;

    use super::*;

    fn failing(retry_after: Option<u64>) -> TelemetryError {
        let retry_after = retry_after.map(Duration::from_secs);
        TelemetryError::Server {
            call: "a call".to_owned(),
            status: 503,
            retry_after,
        }
    }

    fn refused() -> TelemetryError {
        TelemetryError::Refused {
            node: "a".to_owned(),
            status: 413,
            advice: "it is too large",
        }
    }

    /// Lets time pass until it is settled.
    async fn settled<T>(clock: &ManualClock, work: impl Future<Output = T>) -> T {
        let passing = async {
            loop {
                clock.advance(Duration::from_secs(1));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            settled = work => settled,
            () = passing => unreachable!("time does not end"),
        }
    }

    #[tokio::test]
    async fn lone_failure_is_given_up_and_outage_is_waited_for() {
        let (clock, shutdown) = (ManualClock::new(Timestamp::UNIX_EPOCH), Shutdown::new());
        let patience = Patience::new(&clock, &shutdown);
        let tries = Cell::new(0);
        let attempt = || async {
            tries.set(tries.get() + 1);
            // Another one goes well meanwhile.
            patience.well.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(failing(None))
        };
        assert!(matches!(
            settled(&clock, patience.until_done(attempt)).await,
            Err(NotDone::Failed(_))
        ));
        assert_eq!(tries.take(), TRIES);

        let attempt = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 10 {
                Err(failing(None))
            } else {
                Ok(())
            }
        };
        settled(&clock, patience.until_done(attempt)).await.unwrap();
        assert_eq!(tries.take(), 10);
        let attempt = || async { Err::<(), _>(failing(None)) };
        assert!(matches!(
            settled(&clock, patience.until_done(attempt)).await,
            Err(NotDone::Away(_))
        ));
        let attempt = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(refused())
        };
        assert!(matches!(
            settled(&clock, patience.until_done(attempt)).await,
            Err(NotDone::Failed(_))
        ));
        assert_eq!(tries.take(), 1, "there is no hope for it");
    }

    #[tokio::test]
    async fn outage_during_concurrent_requests_is_waited_for() {
        let (clock, shutdown) = (ManualClock::new(Timestamp::UNIX_EPOCH), Shutdown::new());
        let patience = Patience::new(&clock, &shutdown);
        let tries = Cell::new(0);
        let attempt = || async {
            tries.set(tries.get() + 1);
            match tries.get() {
                // Another one goes well before it is away.
                1 => patience.well.fetch_add(1, Ordering::Relaxed),
                10 => return Ok(()),
                _ => 0,
            };
            Err(failing(None))
        };
        settled(&clock, patience.until_done(attempt)).await.unwrap();
        assert_eq!(tries.get(), 10);
    }

    #[tokio::test]
    async fn retry_after_pauses_all_requests_to_the_server() {
        let (clock, shutdown) = (ManualClock::new(Timestamp::UNIX_EPOCH), Shutdown::new());
        let patience = Patience::new(&clock, &shutdown);
        let asked = Cell::new(Vec::new());
        let ask = |who: &'static str| {
            let mut list = asked.take();
            list.push((who, clock.now().as_second()));
            let first = list.len() == 1;
            asked.set(list);
            async move {
                if first {
                    Err(failing(Some(30)))
                } else {
                    Ok(())
                }
            }
        };
        let mut one = std::pin::pin!(patience.until_done(|| ask("one")));
        assert!(one.as_mut().now_or_never().is_none());
        let (first, second) =
            settled(&clock, join(one, patience.until_done(|| ask("other")))).await;
        first.unwrap();
        second.unwrap();
        let asked = asked.take();
        assert_eq!(asked[0], ("one", 0));
        assert!(
            asked.len() == 3 && asked[1..].iter().all(|(_, at)| *at >= 30),
            "{asked:?}"
        );
    }

    #[tokio::test]
    async fn no_retries_after_shutdown_begins() {
        let (clock, shutdown) = (ManualClock::new(Timestamp::UNIX_EPOCH), Shutdown::new());
        let patience = Patience::new(&clock, &shutdown);
        let attempt = || async {
            shutdown.stop();
            Err::<(), _>(failing(None))
        };
        assert!(matches!(
            patience.until_done(attempt).await,
            Err(NotDone::Stopped)
        ));
    }
}
