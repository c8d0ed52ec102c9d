//! The failures of one operation: the wait before the next try, and which of them to log.

use std::{
    mem::{Discriminant, discriminant},
    time::Duration,
};

use runtime::{Backoff, Clock, FailureLog};

/// The waits between tries.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    factor: 2,
    cap: Duration::from_secs(30),
};

/// An outage with growing waits, of which each kind of failure is logged once.
pub(crate) struct Outage<E> {
    failures: u32,
    log: FailureLog<Discriminant<E>>,
}

impl<E> Outage<E> {
    pub(crate) fn new() -> Self {
        Self {
            failures: 0,
            log: FailureLog::default(),
        }
    }

    /// Counts a failure. True for the first of its kind in this outage.
    pub(crate) fn should_log(&mut self, error: &E) -> bool {
        self.count();
        self.log.should_log(discriminant(error))
    }

    /// Counts a failure that is not logged.
    pub(crate) fn count(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// The number of failures so far.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait after the failures so far.
    pub(crate) fn backoff(&self, clock: &dyn Clock) -> Duration {
        BACKOFF.after(self.failures, clock)
    }

    /// Starts the waits again at the shortest, within the same outage.
    pub(crate) fn reset_backoff(&mut self) {
        self.failures = 0;
    }

    /// Ends the outage. True if there was one.
    pub(crate) fn recovered(&mut self) -> bool {
        self.failures = 0;
        self.log.recovered()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use runtime::ManualClock;

    use super::*;

    enum Failure {
        One,
        Other,
    }

    #[test]
    fn outage_is_logged_once_unless_it_changes() {
        let mut outage = Outage::new();
        assert!(!outage.recovered());
        let logged = [Failure::One, Failure::One, Failure::Other, Failure::Other]
            .map(|next| outage.should_log(&next));
        assert_eq!(logged, [true, false, true, false]);
        assert!(!outage.should_log(&Failure::One), "it was logged before");
        outage.reset_backoff();
        assert!(!outage.should_log(&Failure::Other), "the outage goes on");
        assert!(outage.recovered() && !outage.recovered());
        assert!(outage.should_log(&Failure::Other), "another outage");
    }

    #[test]
    fn waits_grow_up_to_the_maximum() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut outage = Outage::new();
        let waits: Vec<u64> = (0..12)
            .map(|_| {
                outage.should_log(&Failure::Other);
                outage.backoff(&clock).as_secs()
            })
            .collect();
        assert!(waits[0] == 0 && waits[..6].is_sorted(), "{waits:?}");
        assert!(
            waits[7..].iter().all(|wait| (27..=33).contains(wait)),
            "{waits:?}"
        );
        outage.reset_backoff();
        outage.should_log(&Failure::Other);
        assert_eq!(outage.backoff(&clock).as_secs(), 0);
    }
}
