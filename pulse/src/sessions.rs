//! The sessions with RabbitMQ, one after another.

use std::time::Duration;

use jiff::Timestamp;
use runtime::Clock;

use crate::{PulseError, outage::Outage};

/// The shortest session that ends an outage, and starts the waits again at the shortest.
pub(crate) const STABLE: Duration = Duration::from_secs(30);
/// From this number of shorter sessions in a row on, they are one outage: their beginnings and ends are not logged.
const FLAPPING: u32 = 2;

/// The wait before the next session, and what to log of all of them.
///
/// A server that accepts its users and then drops them (it runs short of memory, or a proxy stands before it) is away as
/// much as one that does not answer.
pub struct Sessions {
    outage: Outage<PulseError>,
    /// The beginning of the current session.
    began: Option<Timestamp>,
    /// How many in a row ended before they were stable.
    short: u32,
    /// Whether the first try is over.
    tried: bool,
    /// Whether there was a session.
    any: bool,
}

/// The beginning of a session.
#[derive(Debug, PartialEq, Eq)]
pub struct Begin {
    /// There was a session or a try before.
    pub again: bool,
    /// Whether the beginning is to be logged: the sessions before it were not all short.
    pub should_log: bool,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new()
    }
}

impl Sessions {
    /// No session yet.
    pub fn new() -> Self {
        Self {
            outage: Outage::new(),
            began: None,
            short: 0,
            tried: false,
            any: false,
        }
    }

    /// Whether there was neither a session nor a try.
    pub(crate) fn is_first(&self) -> bool {
        !self.tried && !self.any
    }

    /// Begins a session.
    pub fn begin(&mut self, now: Timestamp) -> Begin {
        self.began = Some(now);
        let again = !self.is_first();
        (self.tried, self.any) = (true, true);
        Begin {
            again,
            should_log: self.short < FLAPPING,
        }
    }

    /// Marks the current session as stable. True if that is to be logged, since its beginning was not.
    pub(crate) fn mark_stable(&mut self) -> bool {
        let was_flapping = self.short >= FLAPPING;
        self.recover();
        was_flapping
    }

    fn recover(&mut self) {
        self.outage.recovered();
        self.short = 0;
    }

    /// Ends the current session, with or without a failure.
    pub fn end(&mut self, now: Timestamp) {
        let Some(began) = self.began.take() else {
            return;
        };
        // A clock that is set back ends no outage.
        match Duration::try_from(now.duration_since(began)) {
            Ok(length) if length >= STABLE => self.recover(),
            _ => self.short = self.short.saturating_add(1),
        }
    }

    /// Counts a failure of a session that [has ended](Self::end), or of a try to begin one. True if it is to be logged.
    pub fn should_log(&mut self, error: &PulseError) -> bool {
        self.tried = true;
        self.outage.should_log(error)
    }

    /// The number of failures since the last stable session.
    pub fn failures(&self) -> u32 {
        self.outage.failures()
    }

    /// Whether the first try shows a failure that only another setting ends. Later it is an outage: what has changed
    /// outside may change back.
    pub(crate) fn is_fault_at_start(&self, error: &PulseError) -> bool {
        self.is_first() && error.is_permanent()
    }

    /// The wait before the next try.
    pub fn backoff(&self, clock: &dyn Clock) -> Duration {
        self.outage.backoff(clock)
    }

    /// The wait after the queue was deleted: none, unless that happens again and again.
    pub(crate) fn backoff_after_deletion(&mut self, clock: &dyn Clock) -> Duration {
        if self.short < FLAPPING {
            return Duration::ZERO;
        }
        self.outage.count();
        self.outage.backoff(clock)
    }
}

#[cfg(test)]
mod tests {
    use runtime::ManualClock;

    use super::*;

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
        let mut sessions = Sessions::new();
        let (mut begins, mut failures, mut waits) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..10 {
            begins.push(sessions.begin(clock.now()).should_log);
            clock.advance(Duration::from_secs(1));
            sessions.end(clock.now());
            failures.push(sessions.should_log(&lost()));
            waits.push(sessions.backoff(&clock).as_secs());
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
        assert_eq!(sessions.failures(), 10);

        // One session is stable, which is logged once.
        sessions.begin(clock.now());
        clock.advance(STABLE);
        assert!(sessions.mark_stable() && !sessions.mark_stable());
        clock.advance(Duration::from_secs(60));
        sessions.end(clock.now());
        assert!(sessions.should_log(&lost()), "another outage");
        assert_eq!(sessions.failures(), 1);
        assert_eq!(
            sessions.backoff(&clock).as_secs(),
            0,
            "the waits start again"
        );
        assert_eq!(
            sessions.begin(clock.now()),
            Begin {
                again: true,
                should_log: true
            }
        );
    }

    #[test]
    fn queue_deleted_once_is_declared_again_at_once() {
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let mut sessions = Sessions::new();
        let waits: Vec<_> = (0..8)
            .map(|_| {
                sessions.begin(clock.now());
                sessions.end(clock.now());
                sessions.backoff_after_deletion(&clock).as_secs()
            })
            .collect();
        assert!(
            waits[0] == 0 && waits.is_sorted() && waits[7] > 5,
            "{waits:?}"
        );
    }

    #[test]
    fn fault_at_start_is_found_by_first_try_only() {
        let mut sessions = Sessions::new();
        assert!(sessions.is_fault_at_start(&missing()) && !sessions.is_fault_at_start(&lost()));
        assert!(sessions.should_log(&lost()));
        assert!(
            !sessions.is_fault_at_start(&missing()),
            "not at the first try"
        );
        let mut sessions = Sessions::new();
        assert_eq!(
            sessions.begin(Timestamp::UNIX_EPOCH),
            Begin {
                again: false,
                should_log: true
            }
        );
        sessions.end(Timestamp::UNIX_EPOCH);
        assert!(!sessions.is_fault_at_start(&missing()));
    }
}
