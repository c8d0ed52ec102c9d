//! Frequent events are logged once a minute at most.

use std::time::Duration;

use jiff::Timestamp;

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(60);

/// Limits the log lines about one kind of event, such as failures of a handler, to one a minute.
#[derive(Debug, Default)]
pub struct LogRateLimiter {
    logged: Option<Timestamp>,
    unlogged: u64,
}

impl LogRateLimiter {
    /// Counts an event. When it is to be logged: the number of events since the last line, this one included.
    pub fn count(&mut self, now: Timestamp) -> Option<u64> {
        self.unlogged = self.unlogged.saturating_add(1);
        // A clock that is set back does not suppress lines.
        let is_recent = |logged: Timestamp| (logged..logged + INTERVAL).contains(&now);
        if self.logged.is_some_and(is_recent) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_line_is_logged_once_a_minute_with_count() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut limiter = LogRateLimiter::default();
        let counts = [0, 1, 59, 60, 61, 500, 2].map(|second| limiter.count(at(second)));
        assert_eq!(
            counts,
            [Some(1), None, None, Some(3), None, Some(2), Some(1)]
        );
    }
}
