//! `events repositories pull` and `reclone`: in this process, or in the worker that uses the clones.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use build::VersionControl;
use futures::StreamExt;
use runtime::{Clock, SystemClock};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};
use worker::{
    CloneReport, CloneState, Inventory, Outcome, Progress, Requests, Settings, Size, Task,
    WorkerError,
};

use crate::{
    commands::{counted, print_json, terminal},
    features::backend_of,
};

/// The interval between two polls of the progress.
const POLL: Duration = Duration::from_secs(1);

/// Does `task` on the clones of the repository `name`, or requests it from the worker that uses them.
pub(super) async fn maintain(
    settings: Settings,
    name: &str,
    task: Task,
    json: bool,
) -> anyhow::Result<()> {
    let repositories = &settings.repositories;
    let Some(repository) = repositories.iter().find(|known| known.name == name) else {
        let known: Vec<&str> = repositories
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        bail!(
            "the configuration has no repository {name:?}; it has {}",
            known.join(", ")
        );
    };
    let vcs = repository.vcs.kind();
    if !std::io::stderr().is_terminal() {
        tracing_subscriber::registry()
            .with(crate::log_layer("info")?)
            .init();
    }
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let clock = Arc::new(SystemClock);
    let progress = follow(&settings, name, task);
    let here = tokio::select! {
        outcome = worker::maintain(settings.clone(), backend_of, name, task, clock) => outcome,
        never = progress => match never? {},
        _ = signals.next() => bail!("interrupted; the clones of {name} are kept"),
    };
    let outcome = match here {
        Err(WorkerError::InUse { .. }) => by_worker(&settings, name, task, &mut signals).await?,
        here => here?,
    };
    show(name, vcs, task, &outcome, json)
}

/// Submits a request to the worker, and waits for its outcome.
async fn by_worker(
    settings: &Settings,
    name: &str,
    task: Task,
    signals: &mut Signals,
) -> anyhow::Result<Outcome> {
    let requests = Requests::new(&settings.clones_dir, name);
    let id = requests.submit(task, &SystemClock.new_id().to_string())?;
    let waiting = async {
        loop {
            match requests.progress(&id)? {
                Progress::Pending => SystemClock.sleep(POLL / 4).await,
                Progress::Done(outcome) => return Ok(outcome),
                Progress::Gone => bail!(
                    "the outcome of the {} of {name} is gone; see the log of the worker",
                    task.name()
                ),
            }
        }
    };
    tokio::select! {
        outcome = waiting => outcome,
        never = follow(settings, name, task) => match never? {},
        _ = signals.next() => bail!(
            "interrupted; the request remains, and the worker, or the next one, does the {} of {name}",
            task.name()
        ),
    }
}

/// Shows the progress on a terminal, without end.
async fn follow(
    settings: &Settings,
    name: &str,
    task: Task,
) -> anyhow::Result<std::convert::Infallible> {
    let line = terminal::progress();
    let inventory = Inventory::new(settings);
    loop {
        SystemClock.sleep(POLL).await;
        if line.is_hidden() {
            continue;
        }
        let inventory = inventory.clone();
        let repository = name.to_owned();
        let reports = tokio::task::spawn_blocking(move || inventory.of(&repository)).await??;
        line.set_message(format!("{} of {name}: {}", task.name(), state(&reports)));
    }
}

fn state(reports: &[CloneReport]) -> String {
    let cloning = reports
        .iter()
        .filter(|report| report.state == CloneState::Cloning);
    let cloning: Vec<_> = cloning
        .map(|report| format!("{} has {} so far", report.name(), Size(report.bytes)))
        .collect();
    if !cloning.is_empty() {
        cloning.join(", ")
    } else if reports.iter().any(|report| report.in_use) {
        "in progress".to_owned()
    } else {
        "no worker uses the clones; the next one does it".to_owned()
    }
}

fn show(
    name: &str,
    vcs: VersionControl,
    task: Task,
    outcome: &Outcome,
    json: bool,
) -> anyhow::Result<()> {
    if json {
        print_json(
            &json!({"repository": name, "task": task.name(), "done": outcome.done, "error": outcome.error}),
        )?;
    } else {
        for one in &outcome.done {
            let what = match one.new_changesets {
                None => "recloned".to_owned(),
                Some(0) => "nothing new".to_owned(),
                Some(new) => counted(usize::try_from(new)?, &format!("new {}", vcs.commit())),
            };
            crate::print(&format!("{}: {what}, at {}", one.clone, one.tip))?;
        }
    }
    match &outcome.error {
        None => Ok(()),
        Some(error) => bail!(
            "the {} of {name} failed: {}",
            task.name(),
            runtime::sanitize::escape(error)
        ),
    }
}
