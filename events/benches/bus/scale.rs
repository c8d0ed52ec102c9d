//! The amount of work of each measure. `--smallest` shows that every measure still works; its figures mean nothing.

use std::{sync::OnceLock, time::Duration};

static SCALE: OnceLock<Scale> = OnceLock::new();

/// The amount of work of each measure.
pub struct Scale {
    /// How often each measure is taken, ours and the limit in turn; the medians are reported.
    pub rounds: usize,
    /// Messages of each measure of the bus.
    pub messages: u32,
    /// Messages that are sent one at a time.
    pub single: usize,
    /// Requests to the webhook, fewer than the bound of the queue `build:load`.
    pub requests: usize,
    /// Deferred messages while web and worker have nothing to do.
    pub deferred: usize,
    /// How long an idle process is left alone, and then how long it is watched.
    pub settle: Duration,
    pub watched: Duration,
}

const FULL: Scale = Scale {
    rounds: 3,
    messages: 60_000,
    single: 2_000,
    requests: 50_000,
    deferred: 10_000,
    settle: Duration::from_secs(5),
    watched: Duration::from_secs(20),
};

const SMALLEST: Scale = Scale {
    rounds: 1,
    messages: 1_280,
    single: 50,
    requests: 512,
    deferred: 100,
    settle: Duration::from_millis(100),
    watched: Duration::from_millis(500),
};

/// Chooses the smallest sizes, before the first measure.
pub fn smallest() {
    let _ = SCALE.set(SMALLEST);
}

pub fn scale() -> &'static Scale {
    SCALE.get_or_init(|| FULL)
}
