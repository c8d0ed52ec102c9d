//! `events repos`

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, bail};
use build::Phid;
use runtime::{Clock, SystemClock};
use serde_json::json;
use worker::{CloneReport, Inventory, Settings, Size, Task};
use worker_hg::Mercurial;

use super::{
    counted,
    maintenance::maintain,
    print_json,
    table::{Table, span},
    terminal::confirm_removal,
};
use crate::{
    cli::{RepoAction, Repos},
    config::MercurialConfig,
    features, source,
};

/// Runs `events repos`.
pub async fn repos(options: Repos) -> anyhow::Result<()> {
    let (config, _) = source::read((&options.deployment).into(), MercurialConfig::parse).await?;
    let settings = settings(&config)?;
    let json = options.deployment.output.json;
    match options.action {
        None => show(&Inventory::new(&settings, &Mercurial::new()), json),
        Some(RepoAction::Prune { dry_run, yes }) => prune(
            &Inventory::new(&settings, &Mercurial::new()),
            dry_run,
            yes,
            json,
        ),
        Some(RepoAction::Pull { name }) => maintain(settings, &name, Task::Pull, json).await,
        Some(RepoAction::Reclone { name }) => maintain(settings, &name, Task::Reclone, json).await,
    }
}

/// The worker's settings. Phabricator need not be there for that: what it calls the repositories says nothing of their
/// clones, so any name of its kind does.
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

fn show(inventory: &Inventory, json: bool) -> anyhow::Result<()> {
    let reports = inventory.list()?;
    if json {
        return reports.iter().try_for_each(print_json);
    }
    print_table(&reports)?;
    let total = Size(reports.iter().map(|report| report.bytes).sum());
    crate::print(&format!("{total} in {}", printable(inventory.directory())))?;
    complain_of_faults(&reports)
}

fn prune(inventory: &Inventory, dry_run: bool, yes: bool, json: bool) -> anyhow::Result<()> {
    let removable = inventory.removable()?;
    let total = |reports: &[&CloneReport]| Size(reports.iter().map(|report| report.bytes).sum());
    let what = |reports: &[&CloneReport]| {
        format!("{} ({})", counted(reports.len(), "clone"), total(reports))
    };
    let all: Vec<_> = removable.iter().collect();
    if !json && !removable.is_empty() {
        print_table(&removable)?;
    }
    let mut removed = Vec::new();
    if !dry_run && !removable.is_empty() {
        confirm_removal(
            &format!("{} in {}", what(&all), printable(inventory.directory())),
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
        (0, _) => crate::print("there is nothing to remove"),
        (_, true) => crate::print(&format!("would remove {}", what(&all))),
        (_, false) => crate::print(&format!("removed {}", what(&removed))),
    }?;
    complain_of_faults(&removable)
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

/// What could not be read does not keep the rest from being shown, and is no success.
fn complain_of_faults(reports: &[CloneReport]) -> anyhow::Result<()> {
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

/// A path in one line, without what a terminal would obey.
fn printable(path: &Path) -> String {
    runtime::sanitize::escape(&path.display().to_string()).into_owned()
}
