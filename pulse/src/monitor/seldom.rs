//! Frequent events are logged once a minute at most.

use std::time::Duration;

use jiff::Timestamp;

/// The least time between two lines.
const QUIET: Duration = Duration::from_secs(60);

/// Things of one kind that happen, such as failures in a handler: the first one is to be said, and one a minute at most after it.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Option<Timestamp>,
    unsaid: u64,
}

impl Seldom {
    /// Notes that it happened. When that is to be said: how often it happened since the last time, this time included.
    pub fn happens(&mut self, now: Timestamp) -> Option<u64> {
        self.unsaid = self.unsaid.saturating_add(1);
        // A clock that is set back does not keep it quiet.
        let quiet = |said: Timestamp| (said..said + QUIET).contains(&now);
        if self.said.is_some_and(quiet) {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_line_is_logged_once_a_minute_with_count() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut seldom = Seldom::default();
        let said = [0, 1, 59, 60, 61, 500, 2].map(|second| seldom.happens(at(second)));
        assert_eq!(said, [Some(1), None, None, Some(3), None, Some(2), Some(1)]);
    }
}
