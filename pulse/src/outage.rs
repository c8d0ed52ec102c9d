//! A failure that repeats is logged once.

use std::{
    collections::HashSet,
    mem::{Discriminant, discriminant},
    time::Duration,
};

use bus::Backoff;
use jiff::Timestamp;
use runtime::Clock;

use crate::PulseError;

/// Failures in a row of one thing: how long to wait before the next try, and whether there is anything new to say.
pub(crate) struct Outage<E> {
    failures: u32,
    said: HashSet<Discriminant<E>>,
}

/// The waits between tries.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    factor: 2,
    cap: Duration::from_secs(30),
};

impl<E> Outage<E> {
    pub(crate) fn none() -> Self {
        Self {
            failures: 0,
            said: HashSet::new(),
        }
    }

    /// Notes a failure. True when it is the first of its kind in this outage, so that it is to be logged.
    pub(crate) fn is_news(&mut self, error: &E) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.said.insert(discriminant(error))
    }

    /// How long to wait after the failures so far.
    pub(crate) fn wait(&self, clock: &dyn Clock) -> Duration {
        BACKOFF.after(self.failures, clock)
    }

    /// Something went well, though that may not be the end: the waits begin again.
    pub(crate) fn eases(&mut self) {
        self.failures = 0;
    }

    /// Ends it. Says whether there was one.
    pub(crate) fn ends(&mut self) -> bool {
        !std::mem::replace(self, Self::none()).said.is_empty()
    }
}

/// How long a session lasts at least that ends an outage, and starts the waits again at the shortest.
pub(crate) const LASTED: Duration = Duration::from_secs(30);
/// After this number of sessions in a row that broke sooner, they are one outage: their begins and ends are not logged.
const FLAPPING: u32 = 2;

/// The sessions with a server, one after another: how long to wait before the next one, and what to log.
///
/// A server that lets its users in and then drops them (it runs short of memory, or a proxy stands before it) is away as
/// much as one that does not answer.
pub(crate) struct Sessions {
    outage: Outage<PulseError>,
    /// When the one that goes on began.
    began: Option<Timestamp>,
    /// How many in a row broke before they had lasted.
    short: u32,
    /// Whether the first try is over.
    tried: bool,
    /// Whether there was a session.
    any: bool,
}

/// A begin of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// There was one before, or a try.
    pub(crate) again: bool,
    /// It is to be logged.
    pub(crate) is_news: bool,
}

impl Sessions {
    pub(crate) fn none() -> Self {
        Self {
            outage: Outage::none(),
            began: None,
            short: 0,
            tried: false,
            any: false,
        }
    }

    /// A session begins.
    pub(crate) fn begins(&mut self, now: Timestamp) -> Begin {
        self.began = Some(now);
        let again = self.any || std::mem::replace(&mut self.tried, true);
        self.any = true;
        Begin {
            again,
            is_news: self.short < FLAPPING,
        }
    }

    /// A session has lasted. True if that is to be logged, since its begin was not.
    pub(crate) fn has_lasted(&mut self) -> bool {
        let unsettled = self.short >= FLAPPING;
        self.settle();
        unsettled
    }

    fn settle(&mut self) {
        (self.outage, self.short) = (Outage::none(), 0);
    }

    /// A session ends, whether it failed or not.
    pub(crate) fn ends(&mut self, now: Timestamp) {
        let Some(began) = self.began.take() else {
            return;
        };
        // A clock that is set back ends no outage.
        match Duration::try_from(now.duration_since(began)) {
            Ok(lasted) if lasted >= LASTED => self.settle(),
            _ => self.short = self.short.saturating_add(1),
        }
    }

    /// Notes a failure: of a session that [has ended](Self::ends), or of a try to begin one. True if it is to be logged.
    pub(crate) fn is_news(&mut self, error: &PulseError) -> bool {
        self.tried = true;
        self.outage.is_news(error)
    }

    /// Whether a failure shows at the start that only another setting ends. It is no outage: who starts this is there to
    /// read it. Later, something else in the world has changed, and may change back.
    pub(crate) fn is_fault_at_start(&self, error: &PulseError) -> bool {
        !self.tried && !self.any && error.is_permanent()
    }

    /// How long to wait before the next try.
    pub(crate) fn wait(&mut self, clock: &dyn Clock) -> Duration {
        self.outage.wait(clock)
    }

    /// How long to wait before the next session when the last one ended without a failure: not at all, unless that happens
    /// again and again.
    pub(crate) fn wait_after_end(&mut self, clock: &dyn Clock) -> Duration {
        if self.short < FLAPPING {
            return Duration::ZERO;
        }
        self.outage.failures = self.outage.failures.saturating_add(1);
        self.outage.wait(clock)
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
        let mut outage = Outage::none();
        assert!(!outage.ends());
        let news = [Failure::One, Failure::One, Failure::Other, Failure::Other]
            .map(|next| outage.is_news(&next));
        assert_eq!(news, [true, false, true, false]);
        assert!(!outage.is_news(&Failure::One), "it is known");
        outage.eases();
        assert!(!outage.is_news(&Failure::Other), "it is the same one");
        assert!(outage.ends() && !outage.ends());
        assert!(outage.is_news(&Failure::Other), "another outage");
    }

    #[test]
    fn waits_grow_up_to_the_maximum() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut outage = Outage::none();
        let waits: Vec<u64> = (0..12)
            .map(|_| {
                outage.is_news(&Failure::Other);
                outage.wait(&clock).as_secs()
            })
            .collect();
        assert!(waits[0] == 0 && waits[..6].is_sorted(), "{waits:?}");
        assert!(
            waits[7..].iter().all(|wait| (27..=33).contains(wait)),
            "{waits:?}"
        );
        outage.eases();
        outage.is_news(&Failure::Other);
        assert_eq!(outage.wait(&clock).as_secs(), 0);
    }

    fn lost() -> PulseError {
        let io = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        PulseError::Lost {
            doing: "listen".to_owned(),
            source: Box::new(io.into()),
        }
    }

    fn missing() -> PulseError {
        PulseError::Missing {
            doing: "find the exchange x".to_owned(),
            reply: "NOT_FOUND".to_owned(),
        }
    }

    #[test]
    fn sessions_that_break_at_once_are_one_outage_with_growing_waits() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut sessions = Sessions::none();
        let (mut begins, mut failures, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..10 {
            begins.push(sessions.begins(clock.now()).is_news);
            clock.advance(Duration::from_secs(1));
            sessions.ends(clock.now());
            failures.push(sessions.is_news(&lost()));
            waits.push(sessions.wait(&clock).as_secs());
        }
        assert_eq!(
            begins,
            [
                true, true, false, false, false, false, false, false, false, false
            ]
        );
        assert_eq!(
            failures,
            [
                true, false, false, false, false, false, false, false, false, false
            ]
        );
        assert!(
            waits[0] == 0 && waits[..6].is_sorted() && waits[9] >= 27,
            "{waits:?}"
        );

        // One session lasts, and that is reported once.
        sessions.begins(clock.now());
        clock.advance(LASTED);
        assert!(sessions.has_lasted() && !sessions.has_lasted());
        clock.advance(Duration::from_secs(60));
        sessions.ends(clock.now());
        assert!(sessions.is_news(&lost()), "another outage");
        assert_eq!(sessions.wait(&clock).as_secs(), 0, "the waits start again");
        assert_eq!(
            sessions.begins(clock.now()),
            Begin {
                again: true,
                is_news: true
            }
        );
    }

    #[test]
    fn queue_deleted_once_is_declared_again_at_once() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut sessions = Sessions::none();
        let waits: Vec<_> = (0..8)
            .map(|_| {
                sessions.begins(clock.now());
                sessions.ends(clock.now());
                sessions.wait_after_end(&clock).as_secs()
            })
            .collect();
        assert!(
            waits[0] == 0 && waits.is_sorted() && waits[7] > 5,
            "{waits:?}"
        );
    }

    #[test]
    fn fault_at_start_is_found_by_first_try_only() {
        let mut sessions = Sessions::none();
        assert!(sessions.is_fault_at_start(&missing()) && !sessions.is_fault_at_start(&lost()));
        assert!(sessions.is_news(&lost()));
        assert!(
            !sessions.is_fault_at_start(&missing()),
            "it was tried before"
        );
        let mut sessions = Sessions::none();
        assert_eq!(
            sessions.begins(Timestamp::UNIX_EPOCH),
            Begin {
                again: false,
                is_news: true
            }
        );
        sessions.ends(Timestamp::UNIX_EPOCH);
        assert!(!sessions.is_fault_at_start(&missing()));
    }
}
