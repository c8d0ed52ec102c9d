//! The processor time that a version control may use to apply patches: for one build, and for the builds of one author.
//!
//! Each author has a limit within each [`WINDOW`]. One record for each author and window holds the time of each build,
//! refused or not. When the sum reaches the limit, further builds of this author are deferred until the next window
//! begins, and builds of other authors go first.

use std::time::Duration;

use build::Phid;
use bus::{Context, RecordStore};
use jiff::Timestamp;

use crate::{Limits, WorkerError};

/// The length of a window. Windows begin at whole multiples of it since the epoch.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);

/// One record for each author and window. Its entries are milliseconds.
const USED: RecordStore = RecordStore {
    name: "authors",
    retention: WINDOW,
};

/// The processor time that is left for one build.
#[derive(Debug)]
pub struct ProcessorTime {
    left: Duration,
    /// The part of it for patches whose hunks have to be searched for.
    searching: Duration,
    used: Duration,
}

impl ProcessorTime {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            left: limits.apply_time,
            searching: limits.search_time,
            used: Duration::ZERO,
        }
    }

    /// The time for the next patch; `searches` if its hunks have to be searched for.
    pub fn left(&self, searches: bool) -> Duration {
        if searches {
            self.left.min(self.searching)
        } else {
            self.left
        }
    }

    /// Subtracts the time that a patch used.
    pub fn spend(&mut self, used: Duration, searches: bool) {
        self.left = self.left.saturating_sub(used);
        if searches {
            self.searching = self.searching.saturating_sub(used);
        }
        self.used += used;
    }

    /// The time that was used so far.
    pub(crate) fn used(&self) -> Duration {
        self.used
    }
}

/// Adds the time of a build to the record of its author.
pub(crate) async fn record(cx: &Context, author: &Phid, used: Duration) -> Result<(), WorkerError> {
    if used.is_zero() {
        return Ok(());
    }
    let (id, _) = window(author, cx.clock().now());
    let milliseconds = u64::try_from(used.as_millis()).unwrap_or(u64::MAX);
    Ok(cx.record_now(vec![USED.add(&id, &milliseconds)?]).await?)
}

/// The time for which a build is deferred, if earlier builds have used up the time of this author.
pub(crate) async fn exceeded(
    cx: &Context,
    author: &Phid,
    allowed: Duration,
) -> Result<Option<Duration>, WorkerError> {
    let (id, pause) = window(author, cx.clock().now());
    let record = cx.recorded(&USED, &id).await?;
    // Entries of another release that cannot be parsed defer no build.
    let used: Vec<u64> = record.events().unwrap_or_default();
    let used = used.into_iter().fold(0, u64::saturating_add);
    let exceeded = Duration::from_millis(used) >= allowed;
    Ok(exceeded.then_some(pause))
}

/// The record of an author at this moment, and the time until the next window begins.
fn window(author: &Phid, now: Timestamp) -> (String, Duration) {
    let seconds = u64::try_from(now.as_second()).unwrap_or_default();
    let (number, since) = (seconds / WINDOW.as_secs(), seconds % WINDOW.as_secs());
    let id = format!("{author}:{number}");
    (id, WINDOW.saturating_sub(Duration::from_secs(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_takes_from_both_budgets() {
        let seconds = Duration::from_secs;
        let mut work = ProcessorTime::new(&Limits {
            apply_time: seconds(60),
            search_time: seconds(3),
            ..Limits::default()
        });
        work.spend(seconds(2), true);
        assert_eq!(
            (work.left(true), work.left(false)),
            (seconds(1), seconds(58))
        );
        work.spend(seconds(57) + Duration::from_millis(500), false);
        assert_eq!(
            work.left(true),
            Duration::from_millis(500),
            "the smaller one"
        );
        work.spend(seconds(5), true);
        assert_eq!(
            (work.left(true), work.left(false)),
            (Duration::ZERO, Duration::ZERO)
        );
        assert_eq!(work.used(), seconds(64) + Duration::from_millis(500));
    }

    #[test]
    fn windows_begin_every_ten_minutes() {
        let author = Phid::parse("PHID-USER-ada").expect("a PHID");
        let at = |text: &str| window(&author, text.parse().expect("a time"));
        let (first, pause) = at("2026-11-21T12:00:00Z");
        assert_eq!(pause, WINDOW);
        assert_eq!(
            at("2026-11-21T12:09:59.9Z"),
            (first.clone(), Duration::from_secs(1))
        );
        assert_ne!(at("2026-11-21T12:10:00Z").0, first);
    }
}
