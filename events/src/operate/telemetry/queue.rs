//! `events telemetry process-queue-messages`.
//!
//! There is no bus between Pulse and the work here. A message is acknowledged when the ping of each changeset was
//! accepted, so whatever dies before leaves it in the queue. One that fails for good stays there too, and is told of.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use bus::{Backoff, Classify, Clock, Disposition, Shutdown, SystemClock, error_chain};
use commit_telemetry::{NotDone, Patience, PushHandler, TelemetryError};
use futures::{StreamExt, stream, stream::FuturesUnordered};
use pulse::{Inbox, PulseError, PulseMessage, Taken};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Console, GRACE, wiring};
use crate::{
    cli::ProcessQueueMessages,
    config::{HgPushesConfig, TelemetryConfig},
    environment,
    operate::counted,
    signals,
};

/// How many pushes are worked on at once.
const AT_ONCE: usize = 4;
/// How many messages RabbitMQ sends ahead. Those that fail are kept unacknowledged, so there is room for them.
const AHEAD: u16 = 200;
/// So many pushes that failed have a common reason, which somebody has to look at first.
const MOST_FAILED: usize = 100;
/// The most messages that are only looked at. Pulse keeps no longer queue.
const MOST_SHOWN: usize = 10_000;
/// How often a connection is tried for without `--follow`: for five minutes.
const PATIENT: u32 = 10;
/// The waits while RabbitMQ does not answer.
const AWAY: Backoff = Backoff { first: Duration::from_secs(1), factor: 2, cap: Duration::from_secs(60) };

/// Runs `events telemetry process-queue-messages`.
pub(super) async fn process(options: &ProcessQueueMessages, console: &Console) -> anyhow::Result<()> {
    let (config, pushes) = TelemetryConfig::read_with_pulse(&environment::with_dotenv()?)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (begun, statsd) = (clock.now(), wiring::statsd(&config).await);
    let telemetry = wiring::telemetry(&config, &clock)?;
    let telemetry = if options.no_send { telemetry.only_shown(console.show()) } else { telemetry };
    let handler = wiring::push_handler(&config, telemetry, statsd.as_ref());
    let outcome = if options.no_send {
        look(&handler, &pushes, options.timeout).await
    } else {
        let shutdown = Shutdown::new();
        let patience = Patience::new(clock.as_ref(), &shutdown);
        let (grace, waiting) = (Duration::from_secs(GRACE), Arc::clone(&clock));
        signals::watch(shutdown.clone(), grace, waiting).context("cannot watch for signals")?;
        Work { handler: &handler, pushes: &pushes, patience: &patience, shutdown: &shutdown, options }.run().await
    };
    if let Some(statsd) = statsd {
        statsd.time("job.time", clock.now().duration_since(begun).unsigned_abs());
    }
    outcome
}

async fn subscribe(pushes: &HgPushesConfig, ahead: u16) -> Result<Inbox, PulseError> {
    Inbox::open(pushes.pulse.clone(), &pushes.queue, wiring::hgpushes(pushes), ahead).await
}

/// Shows the pings of all that waits. The messages are given back before they are worked on, so nobody misses them for long.
async fn look(handler: &PushHandler, pushes: &HgPushesConfig, silence: Duration) -> anyhow::Result<()> {
    let mut inbox = subscribe(pushes, 0).await?;
    let mut messages: Vec<PulseMessage> = Vec::new();
    while messages.len() < MOST_SHOWN
        && let Ok(taken) = timeout(silence, inbox.next()).await
    {
        messages.push(taken?.message);
    }
    inbox.close().await;
    info!("looking at {}, which stay in the queue", counted(messages.len(), "message"));
    let outcomes = stream::iter(&messages).map(|message| handler.process(message)).buffer_unordered(AT_ONCE);
    let failed: Vec<TelemetryError> = outcomes.filter_map(|outcome| std::future::ready(outcome.err())).collect().await;
    for failure in &failed {
        error!("{}", error_chain(failure));
    }
    match failed.len() {
        0 => Ok(()),
        count => bail!("{} cannot be worked off", counted(count, "message")),
    }
}

/// Works off the queue.
struct Work<'a> {
    handler: &'a PushHandler,
    pushes: &'a HgPushesConfig,
    patience: &'a Patience<'a>,
    shutdown: &'a Shutdown,
    options: &'a ProcessQueueMessages,
}

impl Work<'_> {
    async fn run(&self) -> anyhow::Result<()> {
        // What is wrong with the settings shows here.
        let mut inbox = subscribe(self.pushes, AHEAD).await?;
        info!("reading messages from {}", self.pushes.queue);
        let (mut done, mut failed) = (0, 0);
        let mut under_way = FuturesUnordered::new();
        // One at most: the connection that is made anew, while what is under way goes on.
        let mut opening = FuturesUnordered::new();
        loop {
            let stopping = self.shutdown.is_stopping() || failed >= MOST_FAILED;
            if stopping && under_way.is_empty() {
                break;
            }
            let room = !stopping && under_way.len() < AT_ONCE && opening.is_empty();
            let idle = !self.options.follow && under_way.is_empty();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(outcome) = under_way.next() => match outcome {
                    Ok(()) => done += 1,
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
        match failed {
            0 => Ok(()),
            count => bail!("{} could not be worked off, and stay in the queue", counted(count, "message")),
        }
    }

    async fn work(&self, taken: Taken) -> Result<(), NotDone> {
        loop {
            match self.patience.until_done(|| self.handler.process(&taken.message)).await {
                Err(NotDone::Away(_)) if self.options.follow => {}
                Err(not_done) => return Err(not_done),
                Ok(()) => break,
            }
        }
        if !taken.acknowledge().await {
            // Then its pings are sent again too, and dropped as the repetitions that they are.
            warn!("the connection was lost before a message could be acknowledged: it comes again");
        }
        Ok(())
    }

    /// Connects again: for some minutes, and for as long as it takes when it is to follow. The messages that were under way
    /// come again. `None` when it is to stop.
    async fn again(&self, lost: PulseError) -> anyhow::Result<Option<Inbox>> {
        warn!(error = error_chain(&lost), "pulse cannot be read, it is tried until it can");
        for attempt in 1.. {
            tokio::select! {
                () = SystemClock.sleep(AWAY.after(attempt, &SystemClock)) => {}
                () = self.shutdown.stopping() => break,
            }
            match subscribe(self.pushes, AHEAD).await {
                Ok(opened) => return Ok(Some(opened)),
                Err(error) if error.disposition() == Disposition::Dead => return Err(error.into()),
                Err(error) if attempt == PATIENT && !self.options.follow => return Err(error.into()),
                Err(_) => {}
            }
        }
        Ok(None)
    }
}
