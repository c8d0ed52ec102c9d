//! `events builds restart`: restarts builds that have ended, in Harbormaster.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, bail};
use build::{ALL, BuildOutcome, BuildRecord, BuildRequest, Phid};
use jiff::Timestamp;
use phabricator::{BuildOfTarget, Conduit, ConduitError};
use runtime::{Clock, SystemClock};
use serde_json::json;

use super::archive::Archive;
use crate::{
    cli::{BuildSelector, Deployment, Restart, RestartChoice},
    clients,
    commands::{counted, print_json, table::Table},
    config::Config,
    source,
};

/// The result for one build.
enum Done {
    /// It was restarted, or would be.
    Restarted,
    /// It was not restarted, for this reason.
    Skipped(String),
    /// Harbormaster refused the restart, for this reason.
    Refused(String),
}

/// Runs `events builds restart`.
pub(super) async fn restart(options: Restart, deployment: &Deployment) -> anyhow::Result<()> {
    let (config, _) = source::read(deployment.into(), Config::parse_worker).await?;
    let archive = Archive::at((&config).into())?;
    let phabricator = &config.phabricator;
    let http = http_client::client(clients::REQUEST)?;
    let conduit = Conduit::new(phabricator.url.clone(), phabricator.api_key.clone(), http);
    let (selected, more) = select(&archive, &conduit, &options).await?;
    if selected.is_empty() {
        return if deployment.output.json {
            Ok(())
        } else {
            crate::print("restarted nothing: no build matches")
        };
    }
    let targets: Vec<Phid> = selected
        .iter()
        .map(|(request, _)| request.target.clone())
        .collect();
    let builds = conduit
        .builds_of(&targets)
        .await
        .context("cannot load the builds from harbormaster")?;
    let builds: HashMap<&Phid, &BuildOfTarget> =
        builds.iter().map(|build| (&build.target, build)).collect();
    let mut table = Table::new(&["BUILD", "REVISION ", "DIFF ", "OUTCOME", "RESULT"]);
    let mut restarted = 0;
    let mut refused = 0;
    let mut failure = None;
    for (request, record) in &selected {
        let done = match restart_one(
            &archive,
            &conduit,
            request,
            record,
            builds.get(&request.target).copied(),
            options.dry_run,
        )
        .await
        {
            Ok(done) => done,
            Err(error) => {
                failure = Some(error.context(format!(
                    "cannot restart {}; the builds after it were not restarted",
                    request.target
                )));
                break;
            }
        };
        let action = match (done, options.dry_run) {
            (Done::Restarted, false) => {
                restarted += 1;
                "restarted".to_owned()
            }
            (Done::Restarted, true) => {
                restarted += 1;
                "would be restarted".to_owned()
            }
            (Done::Skipped(why), _) => format!("not restarted: {why}"),
            (Done::Refused(why), _) => {
                refused += 1;
                format!("refused: {why}")
            }
        };
        let outcome = record
            .outcome()
            .map_or(record.state().name(), BuildOutcome::name);
        if deployment.output.json {
            print_json(&json!({
                "target": request.target, "revision": request.revision_id, "diff": request.diff_id,
                "outcome": outcome, "action": action,
            }))?;
        } else {
            table.row(vec![
                request.target.to_string(),
                format!("D{}", request.revision_id),
                request.diff_id.to_string(),
                outcome.to_owned(),
                action,
            ]);
        }
    }
    if !deployment.output.json {
        table
            .lines()
            .iter()
            .try_for_each(|line| crate::print(line))?;
        let verb = if options.dry_run {
            "would restart"
        } else {
            "restarted"
        };
        crate::print(&format!("{verb} {}", counted(restarted, "build")))?;
        if more {
            crate::print(&format!(
                "more than {} builds match; run the command again, or raise --limit",
                options.limit
            ))?;
        }
    }
    match failure {
        Some(error) => Err(error),
        None if refused > 0 => bail!(
            "harbormaster refused to restart {}",
            counted(refused, "build")
        ),
        None => Ok(()),
    }
}

/// The builds that the options select, each once: as they are named, or the newest first. And whether there are more.
async fn select(
    archive: &Archive,
    conduit: &Conduit,
    options: &Restart,
) -> anyhow::Result<(Vec<(BuildRequest, BuildRecord)>, bool)> {
    let mut selected = Vec::new();
    let (outcome, since, repository_name) = match &options.which {
        RestartChoice::Named(builds) => {
            let mut targets = HashSet::new();
            for which in builds {
                let build = archive.newest(which).await?;
                // A revision, its diff and its target may name one build.
                if targets.insert(build.0.target.clone()) {
                    selected.push(build);
                }
            }
            return Ok((selected, false));
        }
        RestartChoice::Ended {
            outcome,
            since,
            repository,
        } => (outcome, *since, repository),
    };
    let repository = match repository_name {
        Some(name) => Some(repository(conduit, name).await?),
        None => None,
    };
    let since = SystemClock
        .now()
        .checked_sub(since)
        .unwrap_or(Timestamp::MIN);
    let wanted = |(request, record): &(BuildRequest, BuildRecord)| {
        let found = record.outcome().map(BuildOutcome::name);
        // A restarted build has a newer target, which is a build of its own.
        found == Some(outcome.as_str())
            && !record.was_restarted()
            && record.end.as_ref().is_some_and(|end| end.at >= since)
            && repository
                .as_ref()
                .is_none_or(|repository| request.repository == *repository)
    };
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    for page in 0.. {
        let (builds, last) = archive.page(ALL, page).await?;
        selected.extend(builds.into_iter().filter(wanted));
        if last || selected.len() > limit {
            break;
        }
    }
    let more = selected.len() > limit;
    selected.truncate(limit);
    Ok((selected, more))
}

async fn repository(conduit: &Conduit, name: &str) -> anyhow::Result<Phid> {
    let found = conduit
        .repositories(&[name.to_owned()])
        .await
        .context("cannot load the repository from phabricator")?;
    found
        .get(name)
        .cloned()
        .with_context(|| format!("phabricator does not know the repository {name:?}"))
}

/// Restarts a build, unless something speaks against it. A dry run only checks that.
async fn restart_one(
    archive: &Archive,
    conduit: &Conduit,
    request: &BuildRequest,
    record: &BuildRecord,
    build: Option<&BuildOfTarget>,
    dry_run: bool,
) -> anyhow::Result<Done> {
    let skipped = |why: &str| Ok(Done::Skipped(why.to_owned()));
    if record.published_at.is_none() {
        return skipped("it has not ended yet; see `events builds show`");
    }
    let Some(build) = build else {
        return skipped("harbormaster does not show its target to our user");
    };
    if build.restarted {
        return skipped("it was already restarted");
    }
    let newest = archive
        .newest(&BuildSelector::Revision(request.revision_id))
        .await?
        .0;
    if newest.target != request.target && newest.diff_id >= request.diff_id {
        return Ok(Done::Skipped(format!(
            "{} of D{} is newer",
            newest.target, request.revision_id
        )));
    }
    if dry_run {
        return Ok(Done::Restarted);
    }
    match conduit.restart(&build.build).await {
        Ok(()) => {}
        Err(ConduitError::Refused { info, .. }) => return Ok(Done::Refused(refusal(&info))),
        Err(error) if error.had_no_effect() => return Err(error.into()),
        Err(error) => {
            return Err(anyhow::Error::new(error).context("harbormaster may have restarted it"));
        }
    }
    archive
        .log
        .mark_restarted(&archive.producer(), &request.target)
        .await
        .context("the build was restarted, but the restart cannot be recorded")?;
    Ok(Done::Restarted)
}

/// Harbormaster's refusal, behind its remedy.
fn refusal(info: &str) -> String {
    let remedy = if info.contains("Restricted Build Plan") {
        "let our user see the build plan. "
    } else if info.contains("Prevents Restart") || info.contains("Only Restartable") {
        "change \"Restartable\" of the build plan. "
    } else {
        ""
    };
    format!("{remedy}Harbormaster: {info}")
}
