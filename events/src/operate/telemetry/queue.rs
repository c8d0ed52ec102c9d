//! `events telemetry process-queue-messages`.
//!
//! There is no bus between Pulse and the work here. A message is acknowledged when the ping of each changeset was
//! accepted, so whatever dies before leaves it in the queue. One that can never be worked off is acknowledged when a
//! [file](DeadLetters) has it. Any other that fails stays in the queue for a later run.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bus::Backoff;
use commit_telemetry::{NotDone, Patience, PushHandler, TelemetryError};
use futures::{StreamExt, stream, stream::FuturesUnordered};
use pulse::{Inbox, PulseError, PulseMessage, Taken};
use runtime::{Clock, Shutdown, SystemClock, error_chain};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Console, GRACE, Settings, dead_letters::DeadLetters, wiring};
use crate::{cli::ProcessQueueMessages, config::HgPushesConfig, operate::counted, signals};

/// How many pushes are worked on at once.
const AT_ONCE: usize = 4;
/// How many messages RabbitMQ sends ahead. Those that fail are kept unacknowledged, so there is room for them.
const AHEAD: u16 = 200;
/// The command stops after this number of failed pushes: an operator must find their common reason first.
const MOST_FAILED: usize = 100;
/// The most messages that a run without sending reads. Pulse keeps no longer queue.
const MOST_SHOWN: usize = 10_000;
/// How often a connection is tried for without `--follow`: for five minutes.
const PATIENT: u32 = 10;
/// The waits while RabbitMQ does not answer.
const AWAY: Backoff = Backoff {
    first: Duration::from_secs(1),
    factor: 2,
    cap: Duration::from_secs(60),
};

/// Runs `events telemetry process-queue-messages`.
pub(super) async fn process(
    options: &ProcessQueueMessages,
    settings: &Settings<'_>,
    console: &Console,
) -> anyhow::Result<()> {
    let (config, pushes) = settings.read_with_pulse()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let telemetry = wiring::telemetry(&config, &clock)?;
    if options.no_send {
        // Neither is it counted: figures are of what was sent.
        let handler = wiring::push_handler(&config, telemetry.only_shown(console.show()), None);
        return look(&handler, &pushes, options.timeout).await;
    }
    let dead_letters = DeadLetters::of(options.dead_letters.as_deref(), settings.variables);
    let begun = clock.now();
    let statsd = wiring::statsd(&config).await;
    let handler = wiring::push_handler(&config, telemetry, statsd.as_ref());
    let shutdown = Shutdown::new();
    let patience = Patience::new(clock.as_ref(), &shutdown);
    signals::watch(
        shutdown.clone(),
        Duration::from_secs(GRACE),
        Arc::clone(&clock),
    )
    .context("cannot watch for signals")?;
    let work = Work {
        handler: &handler,
        pushes: &pushes,
        patience: &patience,
        shutdown: &shutdown,
        dead_letters: &dead_letters,
        options,
    };
    let outcome = work.run().await;
    if let Some(statsd) = statsd {
        statsd.time("job.time", clock.now().duration_since(begun).unsigned_abs());
    }
    outcome
}

async fn subscribe(pushes: &HgPushesConfig, ahead: u16) -> Result<Inbox, PulseError> {
    Inbox::open(
        pushes.pulse.clone(),
        &pushes.queue,
        wiring::hgpushes(pushes),
        ahead,
    )
    .await
}

/// Shows the pings of all that waits. The messages are given back before they are worked on, so nobody misses them for long.
async fn look(
    handler: &PushHandler,
    pushes: &HgPushesConfig,
    silence: Duration,
) -> anyhow::Result<()> {
    let mut inbox = subscribe(pushes, 0).await?;
    let mut messages: Vec<PulseMessage> = Vec::new();
    while messages.len() < MOST_SHOWN
        && let Ok(taken) = timeout(silence, inbox.next()).await
    {
        messages.push(taken?.message);
    }
    inbox.close().await;
    info!(
        "checking {}, which stay in the queue",
        counted(messages.len(), "message")
    );
    let outcomes = stream::iter(&messages)
        .map(|message| handler.process(message))
        .buffer_unordered(AT_ONCE);
    let failed: Vec<TelemetryError> = outcomes
        .filter_map(|outcome| std::future::ready(outcome.err()))
        .collect()
        .await;
    for failure in &failed {
        let consequence = if failure.is_final() {
            "a run that sends would keep the message aside"
        } else {
            "the message would stay"
        };
        error!(
            error = error_chain(failure),
            "cannot work off a message: {consequence}"
        );
    }
    match failed.len() {
        0 => {
            info!(
                "checked {}, sent nothing",
                counted(messages.len(), "message")
            );
            Ok(())
        }
        count => bail!("{} cannot be worked off", counted(count, "message")),
    }
}

/// Works off the queue.
struct Work<'a> {
    handler: &'a PushHandler,
    pushes: &'a HgPushesConfig,
    patience: &'a Patience<'a>,
    shutdown: &'a Shutdown,
    dead_letters: &'a DeadLetters,
    options: &'a ProcessQueueMessages,
}

/// How a message left the queue.
enum Settled {
    Done,
    /// The file of dead letters has it.
    Kept,
}

impl Work<'_> {
    async fn run(&self) -> anyhow::Result<()> {
        // What is wrong with the settings shows here.
        let mut inbox = subscribe(self.pushes, AHEAD).await?;
        info!("reading messages from {}", self.pushes.queue);
        let (mut done, mut kept, mut failed) = (0, 0, 0);
        let mut kept_in_a_row = 0;
        let mut under_way = FuturesUnordered::new();
        // One at most: the connection that is opened again, while what is under way goes on.
        let mut opening = FuturesUnordered::new();
        loop {
            let stopping = self.shutdown.is_stopping() || failed + kept_in_a_row >= MOST_FAILED;
            if stopping && under_way.is_empty() {
                break;
            }
            let room = !stopping && under_way.len() < AT_ONCE && opening.is_empty();
            let idle = !self.options.follow && under_way.is_empty();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(outcome) = under_way.next() => match outcome {
                    Ok(Settled::Done) => (done, kept_in_a_row) = (done + 1, 0),
                    Ok(Settled::Kept) => (kept, kept_in_a_row) = (kept + 1, kept_in_a_row + 1),
                    Err(NotDone::Stopped) => {}
                    Err(NotDone::Away(failure)) => {
                        self.shutdown.stop();
                        failed += 1;
                        error!("given up for now: {}", error_chain(&failure));
                    }
                    Err(NotDone::Failed(failure)) => {
                        failed += 1;
                        error!("a message stays in the queue: {}", error_chain(&failure));
                    }
                },
                () = self.shutdown.stopping(), if !stopping => {}
                taken = inbox.next(), if room => match taken {
                    Ok(taken) => under_way.push(self.work(taken)),
                    Err(error) => opening.push(self.again(error)),
                },
                Some(opened) = opening.next() => if let Some(opened) = opened? {
                    inbox = opened;
                },
                () = SystemClock.sleep(self.options.timeout), if idle && room => break,
            }
        }
        drop(under_way);
        inbox.close().await;
        info!("{} done", counted(done, "message"));
        let kept = (kept > 0).then(|| {
            let file = self.dead_letters.name();
            format!(
                "{} could never be worked off: kept in {file}, and taken off the queue",
                counted(kept, "message")
            )
        });
        let stay = (failed > 0).then(|| {
            format!(
                "{} could not be worked off, and left in the queue for a later run",
                counted(failed, "message")
            )
        });
        match [kept, stay].into_iter().flatten().collect::<Vec<_>>() {
            failures if failures.is_empty() => Ok(()),
            failures => bail!("{}", failures.join("; ")),
        }
    }

    async fn work(&self, taken: Taken) -> Result<Settled, NotDone> {
        let settled = loop {
            match self
                .patience
                .until_done(|| self.handler.process(&taken.message))
                .await
            {
                Err(NotDone::Away(_)) if self.options.follow => {}
                Err(NotDone::Failed(error)) if never(&taken, &error) => {
                    break self.keep(&taken, error)?;
                }
                Err(not_done) => return Err(not_done),
                Ok(()) => break Settled::Done,
            }
        };
        if !taken.acknowledge().await {
            // Then its pings are sent again too, and dropped as the repetitions that they are.
            warn!("the connection was lost before a message could be acknowledged: it comes again");
        }
        Ok(settled)
    }

    fn keep(&self, taken: &Taken, failure: TelemetryError) -> Result<Settled, NotDone> {
        let reason = error_chain(&failure);
        let file = self.dead_letters.name();
        match self.dead_letters.keep(&taken.message, &reason) {
            Ok(()) => {
                error!(
                    file,
                    error = reason,
                    "a message can never be worked off: kept it in a file, took it off the queue"
                );
                Ok(Settled::Kept)
            }
            Err(problem) => {
                error!(
                    error = error_chain(problem.as_ref()),
                    "cannot keep a message aside"
                );
                Err(NotDone::Failed(failure))
            }
        }
    }

    /// Connects again: for some minutes, and for as long as it takes when it is to follow. The messages that were under way
    /// come again. `None` when it is to stop.
    async fn again(&self, lost: PulseError) -> anyhow::Result<Option<Inbox>> {
        warn!(
            error = error_chain(&lost),
            "pulse cannot be read, it is tried until it can"
        );
        for attempt in 1.. {
            tokio::select! {
                () = SystemClock.sleep(AWAY.after(attempt, &SystemClock)) => {}
                () = self.shutdown.stopping() => break,
            }
            match subscribe(self.pushes, AHEAD).await {
                Ok(opened) => return Ok(Some(opened)),
                Err(error) if attempt == PATIENT && !self.options.follow => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
        }
        Ok(None)
    }
}

/// Whether no later run could work it off either. A changeset that its repository still does not have when its message comes
/// again was stripped from it.
fn never(taken: &Taken, error: &TelemetryError) -> bool {
    error.is_final() || (taken.redelivered && error.is_missing())
}
