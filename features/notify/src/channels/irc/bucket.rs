//! The rate of lines: a burst, and then one line for each interval.

use std::time::Duration;

use jiff::Timestamp;

/// The number of lines that may be sent without a pause.
const BURST: u32 = 4;
/// The interval after which a token returns: servers count two seconds for a line (RFC 1459, section 8.10).
const PACE: Duration = Duration::from_secs(2);

/// A token bucket, as the time at which it is full again.
#[derive(Debug)]
pub(super) struct Bucket {
    full: Timestamp,
}

impl Bucket {
    pub(super) fn full() -> Self {
        Self {
            full: Timestamp::MIN,
        }
    }

    /// The time until a line may be sent.
    pub(super) fn wait(&self, now: Timestamp) -> Duration {
        self.lacking(now).saturating_sub(PACE * (BURST - 1))
    }

    /// Takes a token for a line that is sent now.
    pub(super) fn take(&mut self, now: Timestamp) {
        let lacking = (self.lacking(now) + PACE).min(PACE * BURST);
        self.full = now.checked_add(lacking).unwrap_or(now);
    }

    /// The time until it is full: at most that of an empty bucket, also if the clock was set back.
    fn lacking(&self, now: Timestamp) -> Duration {
        if self.full <= now {
            Duration::ZERO
        } else {
            self.full
                .duration_since(now)
                .unsigned_abs()
                .min(PACE * BURST)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn token_bucket_allows_four_lines_then_one_per_two_seconds() {
        let mut bucket = Bucket::full();
        let mut sent = Vec::new();
        let mut now = 0;
        while sent.len() < 8 {
            if bucket.wait(at(now)).is_zero() {
                bucket.take(at(now));
                sent.push(now);
            } else {
                now += 1;
            }
        }
        assert_eq!(sent, [0, 0, 0, 0, 2, 4, 6, 8]);
        assert_eq!(bucket.wait(at(9)), Duration::from_secs(1));
        for _ in 0..4 {
            assert!(bucket.wait(at(60)).is_zero(), "it fills again");
            bucket.take(at(60));
        }
        assert!(!bucket.wait(at(60)).is_zero());
    }

    #[test]
    fn token_bucket_survives_clock_set_back() {
        let mut bucket = Bucket::full();
        bucket.take(at(86_400));
        assert_eq!(bucket.wait(at(0)), Duration::from_secs(2));
    }
}
