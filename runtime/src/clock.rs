//! Time and randomness, the two sources of difference between two runs. All code takes both from a [`Clock`], so a test can
//! control them.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

/// A source of time and randomness.
#[async_trait]
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// Returns once `duration` has passed on this clock. The future may be dropped at any time.
    async fn sleep(&self, duration: Duration);

    /// A uniformly distributed random number. Not for secrets.
    fn random(&self) -> u64;

    /// A new id that sorts by its time of creation (UUID version 7).
    fn new_id(&self) -> Uuid {
        self.id_at(self.now())
    }

    /// A new id of something that is created at `now`.
    fn id_at(&self, now: Timestamp) -> Uuid {
        let mut bytes = [0_u8; 10];
        bytes[..8].copy_from_slice(&self.random().to_be_bytes());
        bytes[8..].copy_from_slice(&self.random().to_be_bytes()[..2]);
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the time of the machine"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that sleeps")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that draws random numbers"
    )]
    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

/// A clock for tests: it stands still until [`ManualClock::advance`] moves it, and its random numbers are a fixed
/// sequence.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<ManualState>,
    moved: Notify,
}

#[derive(Debug)]
struct ManualState {
    now: Timestamp,
    seed: u64,
}

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self {
            state: Mutex::new(ManualState { now, seed: 0 }),
            moved: Notify::new(),
        }
    }

    /// Moves the clock forward and wakes the sleepers that are due.
    pub fn advance(&self, by: Duration) {
        {
            let mut state = self.state.lock();
            state.now = state.now.checked_add(by).unwrap_or(Timestamp::MAX);
        }
        self.moved.notify_waiters();
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.state.lock().now
    }

    async fn sleep(&self, duration: Duration) {
        let due = self.now().checked_add(duration).unwrap_or(Timestamp::MAX);
        loop {
            let moved = self.moved.notified();
            if self.now() >= due {
                return;
            }
            moved.await;
        }
    }

    fn random(&self) -> u64 {
        // SplitMix64: short, and good enough to keep ids apart.
        let mut state = self.state.lock();
        state.seed = state.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
