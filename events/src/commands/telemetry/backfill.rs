//! `events telemetry backfill-pushlog`.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, bail, ensure};
use commit_telemetry::{Backfill, ChangesetResult, PushRange, RetryError};
use futures::StreamExt;
use jiff::Timestamp;
use runtime::{Clock, Shutdown, SystemClock};

use super::{
    Console, GRACE, Settings,
    checkpoint::{Checkpoint, CheckpointFile, Failure, command},
    console::Progress,
    wiring,
};
use crate::{
    cli::BackfillPushlog,
    commands::{counted, terminal::confirm_sending},
    signals,
};

/// The number of changesets that are processed concurrently; each sends one request after another.
const CONCURRENCY: usize = 32;
/// The command stops after this number of consecutive failures, which have a common cause that an operator must find. The
/// next run begins with them.
const MAX_CONSECUTIVE_FAILURES: usize = 100;
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// Runs `events telemetry backfill-pushlog`.
pub(super) async fn backfill(
    options: &BackfillPushlog,
    settings: &Settings<'_>,
    console: &Console,
) -> anyhow::Result<()> {
    let start = options.start;
    let repository = &options.repository;
    ensure!(
        start < options.end,
        "there is no push after {start} up to {}: START is the push before the first one",
        options.end
    );
    let config = settings.read()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut telemetry = wiring::telemetry(&config, &clock)?;
    if options.no_send {
        telemetry = telemetry.dry_run(console.ping_printer());
    }
    let file = (!options.no_send)
        .then(|| CheckpointFile::of(options, settings.variables))
        .transpose()?;
    let earlier = match &file {
        Some(file) if options.resume => file.load()?,
        _ => None,
    };
    if options.resume && earlier.is_none() {
        console.print(&format!(
            "no earlier run to resume; beginning after push {start}"
        ));
    }
    let mut checkpoint = earlier.unwrap_or_else(|| Checkpoint::behind(start));

    let shutdown = Shutdown::new();
    let backfill = Backfill::new(&telemetry, repository, clock.as_ref(), &shutdown);
    let newest = backfill.newest().await.map_err(reason)?;
    let end = options.end.min(newest);
    let pushes = end.saturating_sub(checkpoint.cursor.push);
    if pushes == 0 {
        console.print(&format!(
            "nothing is left to do: the newest push of {repository} is {newest}"
        ));
        return finish(file.as_ref(), &checkpoint, console);
    }
    if !options.no_send {
        let first = checkpoint.cursor.push + 1;
        let host = config.edge.base.host_str().unwrap_or_default();
        let what =
            format!("the pings of {pushes} pushes ({first} to {end}) to {repository} to {host}");
        confirm_sending(&what, options.yes)?;
    }
    signals::watch(
        shutdown.clone(),
        Duration::from_secs(GRACE),
        Arc::clone(&clock),
    )
    .context("cannot watch for signals")?;

    let range = PushRange {
        from: checkpoint.cursor,
        end,
        concurrency: CONCURRENCY,
    };
    let run = Run {
        backfill: &backfill,
        shutdown: &shutdown,
        file: file.as_ref(),
        saved: Timestamp::MIN,
        before_failures: checkpoint.clone(),
        consecutive_failures: 0,
    };
    let progress = console.progress(pushes)?;
    let outcome = run.run(range, &mut checkpoint, progress).await;
    if matches!(outcome, Ok(Outcome::Complete)) {
        return finish(file.as_ref(), &checkpoint, console);
    }
    list(&checkpoint.failures, console);
    let push = checkpoint.cursor.push;
    let Some(file) = &file else {
        outcome?;
        bail!("stopped after push {push}; nothing was sent");
    };
    if let Err(error) = file.save(&checkpoint) {
        console.print(&format!("{error:#}"));
    }
    let remedy = format!(
        "everything up to push {push} is done, as saved in {}. Resume with\n  {}",
        file.path().display(),
        command(options)?
    );
    match outcome {
        Ok(_) => bail!("stopped: {remedy}"),
        Err(error) => Err(error.context(format!("{remedy}\nThe run failed"))),
    }
}

/// The end of a run without an error.
enum Outcome {
    Complete,
    Interrupted,
}

struct Run<'a> {
    backfill: &'a Backfill<'a>,
    shutdown: &'a Shutdown,
    file: Option<&'a CheckpointFile>,
    /// The time of the last checkpoint.
    saved: Timestamp,
    consecutive_failures: usize,
    /// The checkpoint before the consecutive failures.
    before_failures: Checkpoint,
}

impl Run<'_> {
    /// Processes the range until it is complete, a signal interrupts it, or an error stops it.
    async fn run(
        mut self,
        range: PushRange,
        checkpoint: &mut Checkpoint,
        mut progress: Progress<'_>,
    ) -> anyhow::Result<Outcome> {
        let mut failure = None;
        let mut results = pin!(self.backfill.run(range));
        loop {
            let next = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                next = results.next() => next,
            };
            match next {
                None => break,
                Some(Ok(result)) => {
                    self.add(&result, checkpoint)?;
                    if result.is_last_of_push {
                        progress.push();
                    }
                    if self.consecutive_failures >= MAX_CONSECUTIVE_FAILURES
                        && let Some(last) = result.failure
                    {
                        *checkpoint = self.before_failures;
                        return Err(anyhow::Error::from(last).context(format!(
                            "{MAX_CONSECUTIVE_FAILURES} consecutive changesets failed, the last one with"
                        )));
                    }
                }
                Some(Err(error)) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(failure) => Err(failure.into()),
            None if self.shutdown.is_stopping() && checkpoint.cursor.push < range.end => {
                Ok(Outcome::Interrupted)
            }
            None => Ok(Outcome::Complete),
        }
    }

    fn add(&mut self, result: &ChangesetResult, checkpoint: &mut Checkpoint) -> anyhow::Result<()> {
        checkpoint.add(result);
        if result.failure.is_none() {
            self.consecutive_failures = 0;
            self.before_failures.clone_from(checkpoint);
        } else {
            self.consecutive_failures += 1;
        }
        let now = SystemClock.now();
        if let Some(file) = self.file
            && now.duration_since(self.saved).unsigned_abs() >= CHECKPOINT_INTERVAL
        {
            file.save(checkpoint)?;
            self.saved = now;
        }
        Ok(())
    }
}

fn reason(error: RetryError) -> anyhow::Error {
    match error {
        RetryError::Failed(error) | RetryError::Outage(error) => error.into(),
        RetryError::Shutdown => anyhow!("stopped"),
    }
}

fn list(failures: &[Failure], console: &Console) {
    let mut failures: Vec<_> = failures.iter().collect();
    failures.sort_by_key(|failure| failure.push);
    for Failure { push, node, reason } in failures {
        console.print(&format!(
            "push {push}: changeset {node} has no ping: {reason}"
        ));
    }
}

/// Ends a complete run: removes its checkpoint and lists its failures.
fn finish(
    file: Option<&CheckpointFile>,
    checkpoint: &Checkpoint,
    console: &Console,
) -> anyhow::Result<()> {
    if let Some(file) = file {
        file.remove()?;
    }
    list(&checkpoint.failures, console);
    match checkpoint.failures.len() {
        0 => Ok(()),
        count => bail!(
            "{} without a ping; to send push N again, use START N-1 and END N",
            counted(count, "changeset")
        ),
    }
}
