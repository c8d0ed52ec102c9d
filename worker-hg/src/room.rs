//! Whether there is room for another clone. These functions block.

use std::{path::Path, time::SystemTime};

use tracing::info;

use crate::{
    HgError, Settings, Size,
    disk::{self, Usage},
    inventory::{CloneReport, Inventory},
};

/// What a directory takes on the disk, in bytes.
pub(crate) fn taken(directory: &Path) -> u64 {
    Usage::default().of(directory)
}

/// Sees to it that `needed` more bytes find room for good, within the budget and on the disk: if they do not, what
/// nobody needs goes, the oldest first, until they do. `Err` with the reason when they still do not.
pub(crate) fn make(settings: &Settings, needed: u64) -> Result<Result<(), String>, HgError> {
    make_within(settings, settings.disk_budget, needed)
}

/// As [`make`], for a time: the budget does not count.
pub(crate) fn make_for_a_time(settings: &Settings, needed: u64) -> Result<Result<(), String>, HgError> {
    make_within(settings, None, needed)
}

fn make_within(settings: &Settings, budget: Option<u64>, needed: u64) -> Result<Result<(), String>, HgError> {
    let inventory = Inventory::new(settings);
    let Some(mut reason) = lack(&inventory, budget, needed)? else { return Ok(Ok(())) };
    let mut removable = inventory.removable()?;
    removable.sort_by_cached_key(|report| age(&inventory, report));
    for report in removable {
        if inventory.remove(&report)? {
            let (words, size) = (report.state.words(), Size(report.bytes));
            info!(
                repository = report.name(),
                "to make room, the clone {} ({words}, {size}) is removed", report.directory
            );
            match lack(&inventory, budget, needed)? {
                Some(still) => reason = still,
                None => return Ok(Ok(())),
            }
        }
    }
    Ok(Err(reason))
}

/// What is lacking, in words.
fn lack(inventory: &Inventory, budget: Option<u64>, needed: u64) -> Result<Option<String>, HgError> {
    if let Some(budget) = budget {
        let taken = inventory.list()?.iter().map(|report| report.bytes).sum::<u64>();
        if taken.saturating_add(needed) > budget {
            let (taken, needed, budget) = (Size(taken), Size(needed), Size(budget));
            return Ok(Some(format!("the clones take {taken}, it would take {needed} more, the budget is {budget}")));
        }
    }
    let directory = inventory.directory();
    let free =
        disk::free(directory).map_err(HgError::io(format!("ask how full the disk of {} is", directory.display())))?;
    Ok((needed > free).then(|| {
        let (needed, free) = (Size(needed), Size(free));
        format!("it would take {needed}, and {} has {free} free", directory.display())
    }))
}

/// When it was last of use.
fn age(inventory: &Inventory, report: &CloneReport) -> SystemTime {
    let changed = || std::fs::symlink_metadata(inventory.directory().join(&report.directory))?.modified();
    report.last_pull.map_or_else(|| changed().unwrap_or(SystemTime::UNIX_EPOCH), SystemTime::from)
}
