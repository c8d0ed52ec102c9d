//! `events refs`

use std::sync::Arc;

use anyhow::bail;
use bus::Bus;
use jiff::Timestamp;
use phabricator::Conduit;
use runtime::{Clock, SystemClock, error_chain};
use worker::{Due, PruneOptions, Pruned, RefAction, RefPruner, RefReport};

use super::{
    builds::archive::Archive,
    counted, print_json, repositories,
    table::{Table, span},
};
use crate::{
    cli::{Refs, RefsAction},
    clients,
    config::Config,
    features, source,
};

/// Runs `events refs`.
pub async fn refs(options: Refs) -> anyhow::Result<()> {
    let (config, _) = source::read((&options.deployment).into(), Config::parse_worker).await?;
    let bus = Archive::at((&config).into())?.bus;
    let json = options.deployment.output.json;
    match options.action {
        RefsAction::List { repository } => {
            list(&config, &bus, named(&config, repository.as_deref())?, json).await
        }
        RefsAction::Prune {
            dry_run,
            repository,
        } => {
            let options = PruneOptions {
                repository: named(&config, repository.as_deref())?,
                dry_run,
                // The operator may have mended the cause.
                retry_refused: true,
            };
            prune(&config, bus, options, json).await
        }
    }
}

/// Refuses the name of a repository without refs.
fn named<'a>(config: &Config, name: Option<&'a str>) -> anyhow::Result<Option<&'a str>> {
    let known = config.repositories.iter();
    let known =
        known.filter(|repository| repository.vcs.git().is_some() && repository.lando.is_none());
    let known: Vec<&str> = known.map(|repository| repository.name.as_str()).collect();
    match name {
        Some(name) if !known.contains(&name) && known.is_empty() => {
            bail!(
                "there is no repository {name:?} with vcs: git in the configuration, and no other one"
            )
        }
        Some(name) if !known.contains(&name) => bail!(
            "there is no repository {name:?} with vcs: git in the configuration; it has {}",
            known.join(", ")
        ),
        name => Ok(name),
    }
}

async fn list(
    config: &Config,
    bus: &Arc<dyn Bus>,
    only: Option<&str>,
    json: bool,
) -> anyhow::Result<()> {
    let refs = RefPruner::list(bus, &repositories::settings(&config.into())?, only).await?;
    if json {
        return refs.iter().try_for_each(print_json);
    }
    if refs.is_empty() {
        return crate::print("there are no refs of ours");
    }
    let now = SystemClock.now();
    let mut table = Table::new(&[
        "REPOSITORY",
        "REF",
        "REVISION ",
        "HEAD",
        "PUSHED ",
        "DELETION REFUSED",
    ]);
    for one in &refs {
        let refused = one.refused.as_ref();
        table.row(vec![
            one.repository.clone(),
            one.reference.clone(),
            format!("D{}", one.revision_id),
            one.head.chars().take(12).collect(),
            ago(one.pushed_at, now),
            refused.map_or_else(String::new, |refused| {
                format!("{}: {}", ago(refused.at, now), refused.error)
            }),
        ]);
    }
    table.lines().iter().try_for_each(|line| crate::print(line))
}

async fn prune(
    config: &Config,
    bus: Arc<dyn Bus>,
    options: PruneOptions<'_>,
    json: bool,
) -> anyhow::Result<()> {
    let phabricator = &config.phabricator;
    let http = http_client::client(clients::REQUEST)?;
    let conduit = Conduit::new(phabricator.url.clone(), phabricator.api_key.clone(), http);
    let slot = format!("refs-{}", std::process::id());
    let pruner = RefPruner::new(
        repositories::settings(&config.into())?,
        features::backend_of,
        features::build_log(config.build_retention),
        Arc::new(conduit),
        bus,
        Arc::new(SystemClock),
        &slot,
    );
    let Pruned { refs, failures } = pruner.prune(options).await;
    if json {
        refs.iter().try_for_each(print_json)?;
    } else {
        print_pruned(&refs, options.dry_run)?;
    }
    if failures.is_empty() {
        return Ok(());
    }
    let failures: Vec<String> = failures
        .iter()
        .map(|failure| error_chain(failure))
        .collect();
    bail!("{}", failures.join("\n"))
}

fn print_pruned(refs: &[RefReport], dry_run: bool) -> anyhow::Result<()> {
    if refs.is_empty() {
        return crate::print("no ref is to be deleted");
    }
    let now = SystemClock.now();
    let headings: &[&str] = match dry_run {
        true => &[
            "REPOSITORY",
            "REF",
            "REVISION ",
            "PUSHED ",
            "REASON",
            "TO DO",
        ],
        false => &[
            "REPOSITORY",
            "REF",
            "REVISION ",
            "PUSHED ",
            "REASON",
            "DONE",
        ],
    };
    let mut table = Table::new(headings);
    for one in refs {
        table.row(vec![
            one.repository.clone(),
            one.reference.clone(),
            format!("D{}", one.revision_id),
            ago(one.pushed_at, now),
            one.due.map_or("", reason).to_owned(),
            done(one),
        ]);
    }
    table
        .lines()
        .iter()
        .try_for_each(|line| crate::print(line))?;
    let (action, text) = match dry_run {
        true => (RefAction::WouldDelete, "would delete"),
        false => (RefAction::Deleted, "deleted"),
    };
    let count = refs.iter().filter(|one| one.action == action).count();
    crate::print(&format!("{text} {}", counted(count, "ref")))
}

fn reason(due: Due) -> &'static str {
    match due {
        Due::Old => "older than ref_retention",
        Due::Closed => "the revision is closed",
    }
}

fn done(one: &RefReport) -> String {
    match one.action {
        RefAction::Kept | RefAction::Waiting => "kept",
        RefAction::Busy => "kept: its build has not ended, or another process deletes it",
        RefAction::WouldDelete => "delete",
        RefAction::Deleted => "deleted",
        RefAction::Missing => "was gone already",
        RefAction::Moved => "left, since somebody else has moved it",
        RefAction::Failed => "kept: the destination failed",
        RefAction::Refused => {
            let error = one.refused.as_ref().map_or("", |refused| &refused.error);
            return format!("refused: {error}");
        }
    }
    .to_owned()
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.duration_since(then).unsigned_abs()))
}
