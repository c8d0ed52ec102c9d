//! Retries: an error's decision whether another attempt helps, growing waits, and the one loop that tries again.

use std::{error::Error, time::Duration};

use crate::Clock;

/// An error that decides whether another attempt helps.
pub trait Retryable: Error + Send + Sync + 'static {
    /// The time of the next attempt, if there is one.
    fn retry(&self) -> Retry;
}

/// The time of the next delivery of a message whose handler failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// After the queue's backoff, until the attempts are exhausted.
    Backoff,
    /// After this time, until the attempts are exhausted.
    After(Duration),
    /// After this time; no attempt is counted. For the outage of a peer, which is no fault of the message.
    Defer(Duration),
    /// As [`Retry::Defer`], and until then this process reserves nothing of the message's partition: the outage concerns
    /// all of them. Afterwards its other messages go first.
    Hold(Duration),
    /// Never: no attempt helps.
    Never,
}

/// Waits that grow: `first`, `first × factor`, `first × factor²`, … up to `cap`.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The wait after the first failed attempt.
    pub first: Duration,
    /// The quotient of a wait and the one before it.
    pub factor: u32,
    /// The longest wait.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after attempt number `attempt` (from 1). It has a jitter of ±10 %, so that what failed together is not
    /// retried together.
    pub fn after(&self, attempt: u32, clock: &dyn Clock) -> Duration {
        let factor = self.factor.saturating_pow(attempt.saturating_sub(1));
        let base = self.first.saturating_mul(factor).min(self.cap);
        let spread = base / 5;
        let jitter = spread.mul_f64(clock.random() as f64 / u64::MAX as f64);
        base - spread / 2 + jitter
    }
}

/// The attempts within one call of a peer.
#[derive(Debug, Clone, Copy)]
pub struct Attempts {
    /// The number of attempts, the first included.
    pub most: u32,
    /// The waits between them.
    pub waits: Backoff,
}

impl Attempts {
    /// Makes `attempt`, which gets its number (from 1), until it succeeds, the attempts are exhausted, or `pause` returns
    /// `None` for its error: no further attempt. Else `pause` returns the shortest wait, such as a `Retry-After`.
    pub async fn run<T, E, F>(
        &self,
        clock: &dyn Clock,
        mut attempt: impl FnMut(u32) -> F,
        pause: impl Fn(&E) -> Option<Duration>,
    ) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        for number in 1..self.most {
            let wait = match attempt(number).await {
                Ok(value) => return Ok(value),
                Err(error) => match pause(&error) {
                    Some(shortest) => shortest.max(self.waits.after(number, clock)),
                    None => return Err(error),
                },
            };
            clock.sleep(wait).await;
        }
        attempt(self.most).await
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::ManualClock;

    #[test]
    fn waits_grow_by_the_factor_within_the_jitter_and_stop_at_the_cap() {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let backoff = Backoff {
            first: Duration::from_secs(6),
            factor: 6,
            cap: Duration::from_secs(1000),
        };
        for (attempt, expected) in [(1, 6.0), (2, 36.0), (3, 216.0), (4, 1000.0), (40, 1000.0)] {
            let wait = backoff.after(attempt, &clock).as_secs_f64();
            assert!(
                (expected * 0.9..=expected * 1.1).contains(&wait),
                "attempt {attempt}: {wait}"
            );
        }
    }

    /// Runs attempts that fail until number `success`, and returns the result, the number of attempts and the seconds that
    /// it took.
    async fn run(success: u32, pause: Option<u64>) -> (Result<u32, u32>, u32, i64) {
        let clock = ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        let attempts = Attempts {
            most: 3,
            waits: Backoff {
                first: Duration::from_secs(10),
                factor: 2,
                cap: Duration::from_secs(60),
            },
        };
        let count = Cell::new(0);
        let attempt = |number| {
            count.set(count.get() + 1);
            async move {
                if number == success {
                    Ok(number)
                } else {
                    Err(number)
                }
            }
        };
        let passing = async {
            loop {
                tokio::task::yield_now().await;
                clock.advance(Duration::from_secs(1));
            }
        };
        let result = tokio::select! {
            result = attempts.run(&clock, attempt, |_| pause.map(Duration::from_secs)) => result,
            () = passing => unreachable!("time does not end"),
        };
        (result, count.get(), clock.now().as_second())
    }

    #[tokio::test]
    async fn attempts_end_with_success_or_the_last_error() {
        let (result, count, seconds) = run(2, Some(0)).await;
        assert_eq!((result, count), (Ok(2), 2));
        assert!((9..=13).contains(&seconds), "{seconds}");
        let (result, count, seconds) = run(4, Some(0)).await;
        assert_eq!((result, count), (Err(3), 3));
        assert!((27..=36).contains(&seconds), "{seconds}");
    }

    #[tokio::test]
    async fn error_decides_whether_and_when_there_is_another_attempt() {
        assert_eq!(run(2, None).await, (Err(1), 1, 0));
        let (result, _, seconds) = run(2, Some(40)).await;
        assert_eq!(result, Ok(2));
        assert!((40..=43).contains(&seconds), "{seconds}");
    }
}
