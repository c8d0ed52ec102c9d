//! `events repositories`

mod maintenance;

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail};
use build::Phid;
use runtime::{Clock, SystemClock};
use serde_json::json;
use worker::{CloneReport, Inventory, Settings, Size, Task};

use self::maintenance::maintain;
use super::{
    counted, print_json,
    table::{Table, span},
    terminal::confirm_removal,
};
use crate::{
    cli::{Repositories, RepositoryAction},
    config::MercurialConfig,
    features, source,
};

/// Runs `events repositories`.
pub async fn repositories(options: Repositories) -> anyhow::Result<()> {
    let (config, _) = source::read((&options.deployment).into(), MercurialConfig::parse).await?;
    let settings = settings(&config)?;
    let json = options.deployment.output.json;
    match options.action {
        RepositoryAction::List => list(&Inventory::new(&settings), json),
        RepositoryAction::Prune { dry_run, yes } => {
            prune(&Inventory::new(&settings), dry_run, yes, json)
        }
        RepositoryAction::Pull { name } => maintain(settings, &name, Task::Pull, json).await,
        RepositoryAction::Reclone { name } => maintain(settings, &name, Task::Reclone, json).await,
    }
}

/// The settings of the worker on this machine. They are read without Phabricator: clones are found by the names of their
/// repositories, so placeholders stand for the PHIDs.
pub(super) fn settings(config: &MercurialConfig) -> anyhow::Result<Settings> {
    let names = config
        .repositories
        .iter()
        .enumerate()
        .map(|(at, repository)| {
            let phid = Phid::parse_as(Phid::REPOSITORY, &format!("PHID-REPO-{at:020}"))?;
            anyhow::Ok((repository.name.clone(), phid))
        });
    let names = names.collect::<Result<BTreeMap<_, _>, _>>()?;
    features::worker_settings(config, &names).context("cannot find the directory with the clones")
}

fn list(inventory: &Inventory, json: bool) -> anyhow::Result<()> {
    let reports = inventory.list()?;
    if json {
        return reports.iter().try_for_each(print_json);
    }
    print_table(&reports)?;
    let total = Size(reports.iter().map(|report| report.bytes).sum());
    crate::print(&format!("{total} in {}", printable(inventory.directory())))?;
    fail_on_faults(&reports)
}

fn prune(inventory: &Inventory, dry_run: bool, yes: bool, json: bool) -> anyhow::Result<()> {
    let removable = inventory.removable()?;
    let total = |reports: &[&CloneReport]| Size(reports.iter().map(|report| report.bytes).sum());
    let total_of = |reports: &[&CloneReport]| {
        format!("{} ({})", counted(reports.len(), "clone"), total(reports))
    };
    let all: Vec<_> = removable.iter().collect();
    if !json && !removable.is_empty() {
        print_table(&removable)?;
    }
    let mut removed = Vec::new();
    if !dry_run && !removable.is_empty() {
        confirm_removal(
            &format!("{} in {}", total_of(&all), printable(inventory.directory())),
            yes,
        )?;
        for report in &removable {
            if inventory.remove(report)? {
                removed.push(report);
            }
        }
    }
    if json {
        let bytes = |reports: &[&CloneReport]| total(reports).0;
        all.iter().try_for_each(print_json)?;
        return print_json(&json!({
            "removable": all.len(), "removable_bytes": bytes(&all), "removed": removed.len(), "removed_bytes": bytes(&removed),
        }));
    }
    match (removable.len(), dry_run) {
        (0, _) => crate::print("there are no clones to remove"),
        (_, true) => crate::print(&format!("would remove {}", total_of(&all))),
        (_, false) => crate::print(&format!("removed {}", total_of(&removed))),
    }?;
    fail_on_faults(&removable)
}

fn print_table(reports: &[CloneReport]) -> anyhow::Result<()> {
    let now = SystemClock.now();
    let mut table = Table::new(&[
        "CLONE",
        "SLOT ",
        "STATE",
        "SIZE ",
        "TIP",
        "LAST PULL ",
        "DIRECTORY",
    ]);
    for report in reports {
        let in_use = report.in_use && report.state == worker::CloneState::NotConfigured;
        let pulled = report
            .last_pull
            .map(|at| format!("{} ago", span(now.duration_since(at).unsigned_abs())));
        table.row(vec![
            report.repository.clone(),
            report.slot.to_string(),
            format!(
                "{}{}",
                report.state.words(),
                if in_use { ", in use" } else { "" }
            ),
            Size(report.bytes).to_string(),
            report.tip.clone().unwrap_or_else(|| "-".to_owned()),
            pulled.unwrap_or_else(|| "-".to_owned()),
            report.directory.clone(),
        ]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

/// Fails when a clone could not be read. It is called after the others were shown.
fn fail_on_faults(reports: &[CloneReport]) -> anyhow::Result<()> {
    let faults: Vec<_> = reports
        .iter()
        .filter_map(|report| report.fault.as_deref())
        .collect();
    if faults.is_empty() {
        Ok(())
    } else {
        bail!("cannot read all clones: {}", faults.join("; "))
    }
}

/// A path in one line, without control sequences.
fn printable(path: &Path) -> String {
    runtime::sanitize::escape(&path.display().to_string()).into_owned()
}
