//! Room on the disk, for another clone and for builds. The functions block.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, MutexGuard};

use jiff::Timestamp;
use runtime::{Clock, error_chain};
use tracing::{error, info};

use crate::{
    Settings, Size, WorkerError,
    clone::inventory::{CloneReport, Inventory},
    disk::{self, Usage},
};

/// A full disk counts as over when an operation succeeds, and either this much more is free than when it began, or no
/// operation has found it full for `QUIET`.
const GROWTH: u64 = 16 << 20;
const QUIET: Duration = Duration::from_secs(600);

/// The outage of a full disk, as builds and clones find it. It is logged when it begins and when it ends, and not each
/// time: a large build may find no room between small ones that do.
#[derive(Debug, Default)]
pub(crate) struct FullDisk(Mutex<Option<Full>>);

#[derive(Debug)]
struct Full {
    /// The last error of a full disk, and its time.
    words: String,
    last: Timestamp,
    /// The bytes that were free when it began.
    free: u64,
}

impl FullDisk {
    /// Records that an operation found the disk full. Returns whether the outage began with it.
    pub(crate) fn begins(
        &self,
        error: &WorkerError,
        settings: &Settings,
        clock: &dyn Clock,
    ) -> bool {
        let directory = &settings.clones_dir;
        let WorkerError::DiskFull { words, .. } = error else {
            return false;
        };
        let (last, free) = (clock.now(), disk::free(directory).unwrap_or_default());
        let mut state = self.state();
        let begins = state.is_none();
        let free = state.as_ref().map_or(free, |full| full.free);
        if begins {
            error!(
                step = "disk-full",
                error = error_chain(error),
                "our disk is full; builds wait until there is room: free some in {} ({} free; `events repositories prune` removes \
                 clones that are not needed)",
                directory.display(),
                Size(free),
            );
        }
        *state = Some(Full {
            words: words.clone(),
            last,
            free,
        });
        begins
    }

    /// Records that an operation succeeded that needs room.
    pub(crate) fn ends(&self, settings: &Settings, clock: &dyn Clock) {
        let mut state = self.state();
        let Some(full) = state.as_ref() else { return };
        let free = disk::free(&settings.clones_dir).unwrap_or_default();
        let quiet = clock.now().duration_since(full.last).as_secs_f64() >= QUIET.as_secs_f64();
        if quiet || free >= full.free.saturating_add(GROWTH) {
            info!(
                step = "disk-room",
                "our disk has room again, {} are free; the builds go on",
                Size(free)
            );
            *state = None;
        }
    }

    /// The last error, while the outage lasts.
    pub(crate) fn words(&self) -> Option<String> {
        self.state().as_ref().map(|full| full.words.clone())
    }

    fn state(&self) -> MutexGuard<'_, Option<Full>> {
        self.0.lock()
    }
}

/// The disk usage of a directory, in bytes.
pub(crate) fn taken(directory: &Path) -> u64 {
    Usage::default().of(directory)
}

/// Makes room for `needed` more bytes, within the budget and on the disk. If they do not fit, removes clones that are
/// not needed, the oldest first, until they do. Returns the inner `Err` with the reason when they still do not fit.
pub(crate) fn make(
    inventory: &Inventory,
    budget: Option<u64>,
    needed: u64,
) -> Result<Result<(), String>, WorkerError> {
    let Some(mut reason) = lack(inventory, budget, needed)? else {
        return Ok(Ok(()));
    };
    let mut removable = inventory.removable()?;
    removable.sort_by_cached_key(|report| age(inventory, report));
    for report in removable {
        if inventory.remove(&report)? {
            let (words, size) = (report.state.words(), Size(report.bytes));
            info!(
                repository = report.name(),
                "removed the clone {} ({words}, {size}) to make room", report.directory
            );
            match lack(inventory, budget, needed)? {
                Some(still) => reason = still,
                None => return Ok(Ok(())),
            }
        }
    }
    Ok(Err(reason))
}

/// The reason for which `needed` bytes do not fit, if they do not.
fn lack(
    inventory: &Inventory,
    budget: Option<u64>,
    needed: u64,
) -> Result<Option<String>, WorkerError> {
    if let Some(budget) = budget {
        let taken = inventory
            .list()?
            .iter()
            .map(|report| report.bytes)
            .sum::<u64>();
        if taken.saturating_add(needed) > budget {
            let (taken, needed, budget) = (Size(taken), Size(needed), Size(budget));
            return Ok(Some(format!(
                "the clones take {taken}, it would take {needed} more, the budget is {budget}"
            )));
        }
    }
    let directory = inventory.directory();
    let free = disk::free(directory).map_err(WorkerError::io(format!(
        "read the free space of the disk of {}",
        directory.display()
    )))?;
    Ok((needed > free).then(|| {
        let (needed, free) = (Size(needed), Size(free));
        format!(
            "it would take {needed}, and {} has {free} free",
            directory.display()
        )
    }))
}

/// The time of its last use.
fn age(inventory: &Inventory, report: &CloneReport) -> SystemTime {
    let changed =
        || std::fs::symlink_metadata(inventory.directory().join(&report.directory))?.modified();
    report.last_pull.map_or_else(
        || changed().unwrap_or(SystemTime::UNIX_EPOCH),
        SystemTime::from,
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use runtime::ManualClock;

    use super::*;

    #[test]
    fn full_disk_begins_once_until_it_has_been_quiet() {
        let settings = Settings::new(Vec::new(), PathBuf::from("/nowhere"));
        let clock = ManualClock::new(Timestamp::UNIX_EPOCH);
        let (outage, error) = (
            FullDisk::default(),
            WorkerError::io("write")(std::io::ErrorKind::QuotaExceeded.into()),
        );
        assert!(outage.begins(&error, &settings, &clock));
        for _ in 0..3 {
            clock.advance(Duration::from_secs(300));
            outage.ends(&settings, &clock);
            assert!(
                !outage.begins(&error, &settings, &clock),
                "a small build had room, a large one has none"
            );
        }
        assert_eq!(outage.words().as_deref(), Some("quota exceeded"));
        clock.advance(QUIET);
        outage.ends(&settings, &clock);
        assert_eq!(outage.words(), None);
        assert!(outage.begins(&error, &settings, &clock));
    }
}
