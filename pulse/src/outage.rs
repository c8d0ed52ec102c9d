//! What goes wrong again and again is said once.

use std::{
    mem::{Discriminant, discriminant},
    time::Duration,
};

use bus::{Backoff, Clock};

/// Failures in a row of one thing: how long to wait before the next try, and whether there is anything new to say.
pub(crate) struct Outage<E> {
    failures: u32,
    said: Option<Discriminant<E>>,
}

/// The waits between tries.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), factor: 2, cap: Duration::from_secs(30) };

impl<E> Outage<E> {
    pub(crate) fn none() -> Self {
        Self { failures: 0, said: None }
    }

    /// Notes a failure. True when it is of another kind than the one before, so that it is to be logged.
    pub(crate) fn is_news(&mut self, error: &E) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.said.replace(discriminant(error)) != Some(discriminant(error))
    }

    /// How long to wait after the failures so far.
    pub(crate) fn wait(&self, clock: &dyn Clock) -> Duration {
        BACKOFF.after(self.failures, clock)
    }

    /// Something went well, though that may not be the end: the waits begin anew.
    pub(crate) fn eases(&mut self) {
        self.failures = 0;
    }

    /// Ends it. Says whether there was one.
    pub(crate) fn ends(&mut self) -> bool {
        std::mem::replace(self, Self::none()).said.is_some()
    }
}

#[cfg(test)]
mod tests {
    use bus::ManualClock;
    use jiff::Timestamp;

    use super::*;

    enum Failure {
        One,
        Other,
    }

    #[test]
    fn it_is_news_once_unless_it_changes() {
        let mut outage = Outage::none();
        assert!(!outage.ends());
        let news = [Failure::One, Failure::One, Failure::Other, Failure::Other].map(|next| outage.is_news(&next));
        assert_eq!(news, [true, false, true, false]);
        outage.eases();
        assert!(!outage.is_news(&Failure::Other), "it is the same one");
        assert!(outage.ends() && !outage.ends());
        assert!(outage.is_news(&Failure::Other), "another outage");
    }

    #[test]
    fn waits_grow_and_stop_growing() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut outage = Outage::none();
        let waits: Vec<u64> = (0..12)
            .map(|_| {
                outage.is_news(&Failure::Other);
                outage.wait(&clock).as_secs()
            })
            .collect();
        assert!(waits[0] == 0 && waits[..6].is_sorted(), "{waits:?}");
        assert!(waits[7..].iter().all(|wait| (27..=33).contains(wait)), "{waits:?}");
        outage.eases();
        outage.is_news(&Failure::Other);
        assert_eq!(outage.wait(&clock).as_secs(), 0);
    }
}
