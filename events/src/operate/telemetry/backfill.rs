//! `events telemetry backfill-pushlog`.

use std::{pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use commit_telemetry::{Backfill, Ended, NotDone, Place, Span};
use futures::StreamExt;
use jiff::Timestamp;
use runtime::{Clock, Shutdown, SystemClock};

use super::{
    Console, GRACE, Settings,
    console::Progress,
    stopped::{Failure, StateFile, Stopped, command},
    wiring,
};
use crate::{
    cli::BackfillPushlog,
    operate::{counted, terminal::confirm_sending},
    signals,
};

/// How many changesets are worked on at once: each asks one server after another.
const AT_ONCE: usize = 32;
/// The command stops after this number of changesets in a row without a ping: an operator must find their common
/// reason. The next run begins with them.
const MOST_FAILED: usize = 100;
/// How often it is kept how far it is.
const KEEP: Duration = Duration::from_secs(1);

/// Runs `events telemetry backfill-pushlog`.
pub(super) async fn backfill(
    options: &BackfillPushlog,
    settings: &Settings<'_>,
    console: &Console,
) -> anyhow::Result<()> {
    let (start, end, repository) = (options.start, options.end, &options.repository);
    ensure!(
        start < end,
        "nothing comes after push {start} up to push {end}: START is the push before the first one"
    );
    let config = settings.read()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let telemetry = wiring::telemetry(&config, &clock)?;
    let telemetry = if options.no_send {
        telemetry.only_shown(console.show())
    } else {
        telemetry
    };
    let file = (!options.no_send)
        .then(|| StateFile::of(options, settings.variables))
        .transpose()?;
    let earlier = if options.resume {
        file.as_ref().map(StateFile::load).transpose()?.flatten()
    } else {
        None
    };
    if options.resume && earlier.is_none() {
        console.say(&format!(
            "no earlier run of this is known that did not end: it begins after push {start}"
        ));
    }
    let mut stopped = earlier.unwrap_or(Stopped {
        place: Place {
            push: start,
            changesets: 0,
        },
        failed: Vec::new(),
    });

    let shutdown = Shutdown::new();
    let backfill = Backfill::new(&telemetry, repository, clock.as_ref(), &shutdown);
    let newest = backfill.newest().await.map_err(reason)?;
    let end = end.min(newest);
    let pushes = end.saturating_sub(stopped.place.push);
    if pushes == 0 {
        file.as_ref().map_or(Ok(()), StateFile::forget)?;
        console.say(&format!(
            "nothing is left to do: the newest push of {repository} is {newest}"
        ));
        return ending(&stopped.failed, console);
    }
    let first = stopped.place.push + 1;
    let what = format!("the pings of {pushes} pushes ({first} to {end}) to {repository}");
    if !options.no_send {
        let host = config.edge.base.host_str().unwrap_or_default();
        confirm_sending(&format!("{what} to {host}"), options.yes)?;
    }
    signals::watch(
        shutdown.clone(),
        Duration::from_secs(GRACE),
        Arc::clone(&clock),
    )
    .context("cannot watch for signals")?;

    let span = Span {
        from: stopped.place,
        end,
        at_once: AT_ONCE,
    };
    let run = Run {
        backfill: &backfill,
        shutdown: &shutdown,
        file: file.as_ref(),
        kept: Timestamp::MIN,
        before_the_row: stopped.clone(),
        row: 0,
    };
    let outcome = run
        .until_the_end(span, &mut stopped, console.progress(pushes)?)
        .await;
    if matches!(outcome, Ok(Outcome::Complete)) {
        file.as_ref().map_or(Ok(()), StateFile::forget)?;
        return ending(&stopped.failed, console);
    }
    let Some(file) = &file else {
        list(&stopped.failed, console);
        return outcome.and_then(|_| {
            bail!(
                "stopped after push {}; nothing was sent",
                stopped.place.push
            )
        });
    };
    list(&stopped.failed, console);
    if let Err(error) = file.save(&stopped) {
        console.say(&format!("where to go on is not kept: {error:#}"));
    }
    let (push, command, path) = (stopped.place.push, command(options)?, file.path().display());
    let on = format!(
        "everything up to push {push} is done, which is kept in {path}. Go on with\n  {command}"
    );
    match outcome {
        Ok(_) => bail!("stopped: {on}"),
        Err(error) => Err(error.context(format!("{on}\nIt ended because"))),
    }
}

/// How a run ended that nothing kept from it.
enum Outcome {
    Complete,
    Stopped,
}

struct Run<'a> {
    backfill: &'a Backfill<'a>,
    shutdown: &'a Shutdown,
    file: Option<&'a StateFile>,
    kept: Timestamp,
    /// How many have failed since the last one that did not.
    row: usize,
    /// How far it was before them.
    before_the_row: Stopped,
}

impl Run<'_> {
    /// Works on the span until it is done, a signal, or something that keeps it from going on.
    async fn until_the_end(
        mut self,
        span: Span,
        stopped: &mut Stopped,
        mut progress: Progress<'_>,
    ) -> anyhow::Result<Outcome> {
        let mut failure = None;
        let mut all = pin!(self.backfill.run(span));
        loop {
            let next = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                next = all.next() => next,
            };
            match next {
                None => break,
                Some(Ok(ended)) => {
                    self.ended(&ended, stopped)?;
                    if ended.last {
                        progress.push();
                    }
                    if self.row >= MOST_FAILED {
                        *stopped = self.before_the_row;
                        let last = ended
                            .failure
                            .map(anyhow::Error::from)
                            .unwrap_or_else(|| anyhow::anyhow!("unknown"));
                        return Err(last.context(format!(
                            "{MOST_FAILED} changesets in a row failed, the last one with"
                        )));
                    }
                }
                Some(Err(error)) => failure = failure.or(Some(error.into())),
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None if self.shutdown.is_stopping() && stopped.place.push < span.end => {
                Ok(Outcome::Stopped)
            }
            None => Ok(Outcome::Complete),
        }
    }

    fn ended(&mut self, ended: &Ended, stopped: &mut Stopped) -> anyhow::Result<()> {
        stopped.place = ended.place;
        // What is done again is listed by its last outcome.
        stopped
            .failed
            .retain(|failure| failure.node != ended.node.as_str());
        stopped.failed.extend(Failure::of(ended));
        if ended.failure.is_none() {
            self.row = 0;
            self.before_the_row.clone_from(stopped);
        } else {
            self.row += 1;
        }
        let now = SystemClock.now();
        if let Some(file) = self.file
            && now.duration_since(self.kept).unsigned_abs() >= KEEP
        {
            file.save(stopped)?;
            self.kept = now;
        }
        Ok(())
    }
}

fn reason(not_done: NotDone) -> anyhow::Error {
    match not_done {
        NotDone::Failed(error) | NotDone::Away(error) => error.into(),
        NotDone::Stopped => anyhow::anyhow!("stopped"),
    }
}

fn list(failed: &[Failure], console: &Console) {
    let mut failed: Vec<_> = failed.iter().collect();
    failed.sort_by_key(|failure| failure.push);
    for Failure { push, node, reason } in failed {
        console.say(&format!(
            "push {push}: changeset {node} has no ping: {reason}"
        ));
    }
}

/// What a run that came to its end says.
fn ending(failed: &[Failure], console: &Console) -> anyhow::Result<()> {
    list(failed, console);
    match failed.len() {
        0 => Ok(()),
        count => {
            bail!(
                "{} without a ping; a push N is done again with START N-1 and END N",
                counted(count, "changeset")
            )
        }
    }
}
