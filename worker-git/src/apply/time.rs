//! The processor time for applying a patch.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

/// The calls of [`Time::tick`] for each reading of the clock, which costs as much as some hundred bytes.
const TICKS: u32 = 64;

/// The processor time of this thread that is left for patches. It stays on the thread that made it.
#[derive(Debug)]
pub(crate) struct Time {
    start: Duration,
    allowed: Duration,
    cancelled: Arc<AtomicBool>,
    ticks: Cell<u32>,
}

/// The time is over, or nobody waits for the result any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over;

impl Time {
    /// Begins to count. Who sets `cancelled` ends the work early.
    pub(crate) fn new(allowed: Duration, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            start: now(),
            allowed,
            cancelled,
            ticks: Cell::new(0),
        }
    }

    /// The time that was used so far.
    pub(crate) fn used(&self) -> Duration {
        now().saturating_sub(self.start)
    }

    /// Fails when the time is over.
    pub(crate) fn check(&self) -> Result<(), Over> {
        if self.cancelled.load(Ordering::Relaxed) || self.used() > self.allowed {
            return Err(Over);
        }
        Ok(())
    }

    /// As [`Self::check`], for short steps: reads the clock now and then.
    pub(crate) fn tick(&self) -> Result<(), Over> {
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(TICKS) {
            self.check()
        } else {
            Ok(())
        }
    }
}

/// The processor time that this thread has used since it began.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
impl Time {
    /// More time than a test takes.
    pub(crate) fn ample() -> Self {
        Self::new(Duration::from_secs(600), Arc::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_ends_when_it_is_used_or_cancelled() {
        assert_eq!(Time::ample().check(), Ok(()));
        let none = Time::new(Duration::ZERO, Arc::default());
        let mut work = 0_u64;
        while none.used().is_zero() {
            work = std::hint::black_box(work + 1);
        }
        assert_eq!(none.check(), Err(Over));
        assert_eq!((0..TICKS).try_for_each(|_| none.tick()), Err(Over));
        let cancelled = Arc::new(AtomicBool::new(false));
        let time = Time::new(Duration::from_secs(600), Arc::clone(&cancelled));
        assert_eq!(time.check(), Ok(()));
        cancelled.store(true, Ordering::Relaxed);
        assert_eq!(time.check(), Err(Over));
    }
}
