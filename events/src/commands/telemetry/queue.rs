//! `events telemetry process-queue-messages`.
//!
//! No bus stores the messages of Pulse here. A message is acknowledged when the ping of each of its changesets was accepted,
//! so a crash before leaves it in the queue. A message that can never be processed is acknowledged when the
//! [file](DeadLetters) of dead letters has it. Any other message that fails stays in the queue for a later run.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use commit_telemetry::{OutageRetry, PushHandler, RetryError, TelemetryError};
use futures::{StreamExt, stream, stream::FuturesUnordered};
use parking_lot::Mutex;
use pulse::{Delivery, ManualAckConsumer, PulseError, PulseMessage, Sessions, Subscription};
use runtime::{Clock, Shutdown, SystemClock, error_chain};
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Console, GRACE, Settings, dead_letters::DeadLetters, wiring};
use crate::{cli::ProcessQueueMessages, commands::counted, config::HgPushesConfig, signals};

/// The number of pushes that are processed concurrently.
const CONCURRENCY: usize = 4;
/// The number of unacknowledged messages that RabbitMQ sends. Messages that fail stay unacknowledged, so there is room for
/// them.
const PREFETCH: u16 = 200;
/// The command stops after this number of failed pushes, which have a common cause that an operator must find.
const MAX_FAILURES: usize = 100;
/// The most messages of a dry run. Pulse allows no longer queue.
const MAX_PREVIEW: usize = 10_000;
/// The tries to reconnect without `--follow`: they take five minutes.
const RECONNECT_TRIES: u32 = 15;

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
        // Without StatsD, which counts what was sent.
        let telemetry = telemetry.dry_run(console.ping_printer());
        let handler = wiring::push_handler(&config, telemetry, None);
        return preview(&handler, &pushes, options.timeout).await;
    }
    let dead_letters = DeadLetters::of(options.dead_letters.as_deref(), settings.variables);
    let begun = clock.now();
    let statsd = wiring::statsd(&config).await;
    let handler = wiring::push_handler(&config, telemetry, statsd.as_ref());
    let shutdown = Shutdown::new();
    let retry = OutageRetry::new(clock.as_ref(), &shutdown);
    signals::watch(
        shutdown.clone(),
        Duration::from_secs(GRACE),
        Arc::clone(&clock),
    )
    .context("cannot watch for signals")?;
    let run = Run {
        handler: &handler,
        pushes: &pushes,
        retry: &retry,
        shutdown: &shutdown,
        dead_letters: &dead_letters,
        options,
        sessions: Mutex::default(),
    };
    let result = run.run().await;
    if let Some(statsd) = statsd {
        statsd.time("job.time", clock.now().duration_since(begun).unsigned_abs());
    }
    result
}

async fn subscribe(
    pushes: &HgPushesConfig,
    prefetch: u16,
) -> Result<ManualAckConsumer, PulseError> {
    let binding = (&wiring::hgpushes(pushes)).into();
    let subscription = Subscription::durable(pushes.pulse.clone(), &pushes.queue, vec![binding])?
        .prefetch(prefetch);
    ManualAckConsumer::open(subscription, &SystemClock).await
}

/// Prints the pings of all messages in the queue. The messages return to the queue before they are processed, so other
/// consumers miss them only for a moment.
async fn preview(
    handler: &PushHandler,
    pushes: &HgPushesConfig,
    silence: Duration,
) -> anyhow::Result<()> {
    let mut inbox = subscribe(pushes, 0).await?;
    let mut messages: Vec<PulseMessage> = Vec::new();
    while messages.len() < MAX_PREVIEW
        && let Ok(taken) = timeout(silence, inbox.next()).await
    {
        messages.push(taken?.message);
    }
    inbox.close().await;
    let count = counted(messages.len(), "message");
    info!("checking {count}; they stay in the queue");
    let failures: Vec<TelemetryError> = stream::iter(&messages)
        .map(|message| handler.process(message))
        .buffer_unordered(CONCURRENCY)
        .filter_map(|result| std::future::ready(result.err()))
        .collect()
        .await;
    for failure in &failures {
        let consequence = if failure.is_final() {
            "a run that sends would move it to the file of dead letters"
        } else {
            "it would stay in the queue"
        };
        error!(
            error = error_chain(failure),
            "cannot process a message; {consequence}"
        );
    }
    if !failures.is_empty() {
        bail!("cannot process {}", counted(failures.len(), "message"));
    }
    info!("checked {count}, sent nothing");
    Ok(())
}

/// A run that sends.
struct Run<'a> {
    handler: &'a PushHandler,
    pushes: &'a HgPushesConfig,
    retry: &'a OutageRetry<'a>,
    shutdown: &'a Shutdown,
    dead_letters: &'a DeadLetters,
    options: &'a ProcessQueueMessages,
    sessions: Mutex<Sessions>,
}

/// The way of a message out of the queue.
enum Settled {
    Done,
    DeadLettered,
}

/// The numbers of messages by their results.
#[derive(Default)]
struct Counts {
    done: usize,
    dead_lettered: usize,
    consecutive_dead_letters: usize,
    failed: usize,
}

impl Run<'_> {
    async fn run(&self) -> anyhow::Result<()> {
        // Wrong settings fail here, before any work.
        let inbox = self.open().await?;
        let mut counts = Counts::default();
        let lost = self.read(inbox, &mut counts).await.err();
        counts.into_result(&self.dead_letters.name(), lost)
    }

    async fn open(&self) -> Result<ManualAckConsumer, PulseError> {
        let inbox = subscribe(self.pushes, PREFETCH).await?;
        let begin = self.sessions.lock().begin(SystemClock.now());
        if begin.should_log {
            info!(
                queue = self.pushes.queue,
                "reading messages from {}", self.pushes.queue
            );
        }
        Ok(inbox)
    }

    /// Processes messages until the queue is empty, or a reason to stop.
    async fn read(&self, mut inbox: ManualAckConsumer, counts: &mut Counts) -> anyhow::Result<()> {
        let mut in_flight = FuturesUnordered::new();
        // One future at most: it reconnects while the messages in flight are processed.
        let mut reconnecting = FuturesUnordered::new();
        loop {
            let stopping = self.shutdown.is_stopping() || counts.has_common_cause();
            if stopping && in_flight.is_empty() {
                break;
            }
            let has_room = !stopping && in_flight.len() < CONCURRENCY && reconnecting.is_empty();
            let is_idle = !self.options.follow && in_flight.is_empty();
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                Some(result) = in_flight.next() => self.add(result, counts),
                () = self.shutdown.stopping(), if !stopping => {}
                taken = inbox.next(), if has_room => match taken {
                    Ok(taken) => in_flight.push(self.process(taken)),
                    Err(error) => reconnecting.push(self.reconnect(error)),
                },
                Some(reconnected) = reconnecting.next() => if let Some(reconnected) = reconnected? {
                    inbox = reconnected;
                },
                () = SystemClock.sleep(self.options.timeout), if is_idle && has_room => break,
            }
        }
        drop(in_flight);
        inbox.close().await;
        Ok(())
    }

    fn add(&self, result: Result<Settled, RetryError>, counts: &mut Counts) {
        match result {
            Ok(Settled::Done) => {
                counts.done += 1;
                counts.consecutive_dead_letters = 0;
            }
            Ok(Settled::DeadLettered) => {
                counts.dead_lettered += 1;
                counts.consecutive_dead_letters += 1;
            }
            Err(RetryError::Shutdown) => {}
            Err(RetryError::Outage(failure)) => {
                self.shutdown.stop();
                counts.failed += 1;
                error!(
                    error = error_chain(&failure),
                    "a service does not recover; stopping"
                );
            }
            Err(RetryError::Failed(failure)) => {
                counts.failed += 1;
                error!(
                    error = error_chain(&failure),
                    "cannot process a message; it stays in the queue"
                );
            }
        }
    }

    async fn process(&self, taken: Delivery) -> Result<Settled, RetryError> {
        let settled = loop {
            let result = self.retry.run(|| self.handler.process(&taken.message));
            match result.await {
                Err(RetryError::Outage(_)) if self.options.follow => {}
                Err(RetryError::Failed(error)) if is_permanent(&taken, &error) => {
                    break self.dead_letter(&taken, error)?;
                }
                Err(error) => return Err(error),
                Ok(()) => break Settled::Done,
            }
        };
        if !taken.acknowledge().await {
            // Its pings are sent again too, and dropped as duplicates.
            warn!("cannot acknowledge a message: the connection was lost; it is delivered again");
        }
        Ok(settled)
    }

    fn dead_letter(
        &self,
        taken: &Delivery,
        failure: TelemetryError,
    ) -> Result<Settled, RetryError> {
        let reason = error_chain(&failure);
        let file = self.dead_letters.name();
        match self.dead_letters.add(&taken.message, &reason) {
            Ok(()) => {
                self.handler.count_given_up(&failure);
                error!(
                    file,
                    error = reason,
                    "a message can never be processed; moved it from the queue to the file of dead letters"
                );
                Ok(Settled::DeadLettered)
            }
            Err(problem) => {
                error!(
                    error = error_chain(problem.as_ref()),
                    "cannot add a message to the file of dead letters"
                );
                Err(RetryError::Failed(failure))
            }
        }
    }

    /// Reconnects: without end with `--follow`, else with [`RECONNECT_TRIES`]. A server that accepts connections and drops
    /// them at once uses up tries too. Pulse delivers the messages in flight again. `None` during shutdown.
    async fn reconnect(&self, lost: PulseError) -> anyhow::Result<Option<ManualAckConsumer>> {
        self.sessions.lock().end(SystemClock.now());
        let mut error = lost;
        loop {
            let wait = self.failed(error)?;
            let reconnecting = async {
                SystemClock.sleep(wait).await;
                self.open().await
            };
            error = tokio::select! {
                inbox = reconnecting => match inbox {
                    Ok(inbox) => return Ok(Some(inbox)),
                    Err(error) => error,
                },
                () = self.shutdown.stopping() => return Ok(None),
            };
        }
    }

    /// Counts a failure of the connection. Returns the wait before the next try, or an error if there is none.
    fn failed(&self, error: PulseError) -> anyhow::Result<Duration> {
        let mut sessions = self.sessions.lock();
        if sessions.should_log(&error) {
            warn!(
                error = error_chain(&error),
                "cannot read from pulse; reconnecting"
            );
        }
        if !self.options.follow && sessions.failures() > RECONNECT_TRIES {
            let doing = format!("cannot keep a connection to pulse after {RECONNECT_TRIES} tries");
            return Err(anyhow::Error::new(error).context(doing));
        }
        Ok(sessions.backoff(&SystemClock))
    }
}

impl Counts {
    /// Whether the failures are so frequent that they have a common cause.
    fn has_common_cause(&self) -> bool {
        self.failed + self.consecutive_dead_letters >= MAX_FAILURES
    }

    /// Logs the summary, and returns the result of the command, with the `file` of dead letters and the error that ended the
    /// reading.
    fn into_result(self, file: &str, lost: Option<anyhow::Error>) -> anyhow::Result<()> {
        info!("{} done", counted(self.done, "message"));
        let mut problems = Vec::new();
        if let Some(lost) = lost {
            problems.push(format!("{lost:#}"));
        }
        if self.dead_lettered > 0 {
            let count = counted(self.dead_lettered, "message");
            problems.push(format!(
                "{count} can never be processed: moved from the queue to {file}"
            ));
        }
        if self.failed > 0 {
            let count = counted(self.failed, "message");
            problems.push(format!(
                "{count} could not be processed: left in the queue for a later run"
            ));
        }
        if problems.is_empty() {
            return Ok(());
        }
        bail!("{}", problems.join("; "))
    }
}

/// Whether no later run could process the message either. A changeset that its repository lacks at the second delivery too
/// was stripped.
fn is_permanent(taken: &Delivery, error: &TelemetryError) -> bool {
    error.is_final() || (taken.redelivered && error.is_missing_changeset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_that_lost_pulse_reports_its_messages_too() {
        let counts = Counts {
            done: 3,
            failed: 1,
            ..Counts::default()
        };
        let lost =
            anyhow::anyhow!("connection refused").context("cannot keep a connection to pulse");
        let (_guard, log) = testkit::capture_logs();
        let error = counts.into_result("the file", Some(lost)).unwrap_err();
        assert!(log.text().contains("3 messages done"), "{}", log.text());
        assert_eq!(
            error.to_string(),
            "cannot keep a connection to pulse: connection refused; 1 message could not be processed: left in the queue for a later run"
        );
    }
}
