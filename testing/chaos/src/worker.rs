//! A worker process: handlers for the three steps, and the signals of any worker of ours.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use bus::{Bus, BusError, Cause, Consumer, Context, Handler, Outcome, RedisBus, Retry, Retryable};
use runtime::{Clock, Service, Shutdown, SystemClock, run_services};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    chain::{self, DEAD_LETTER_NOTES, DeadLetterNote, Step, TestMessage, Trouble},
    cli::WorkerOptions,
    side_effects::{Event, SideEffects, Work},
};

/// Shorter than the longest step, so that SIGTERM also meets work that has to be given back.
const GRACE: Duration = Duration::from_millis(300);

/// Works until a signal.
pub async fn work(options: WorkerOptions) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let bus: Arc<dyn Bus> = Arc::new(RedisBus::new(
        &chain::options(&options.bus),
        clock.as_ref(),
    )?);
    let outside = SideEffects::connect(&options.outside).await?;
    let shutdown = Shutdown::new();
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for signals")?;
    outside
        .log(options.serial, Event::Ready)
        .await
        .context("cannot report")?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.stop();
        SystemClock.sleep(GRACE).await;
        stop.cancel();
    });
    let consumers = Step::ALL.map(|step| {
        let handler = StepHandler {
            step,
            worker: options.serial,
            outside: outside.clone(),
        };
        Box::new(Consumer::new(
            bus.clone(),
            clock.clone(),
            step.queue(),
            handler,
        )) as Box<dyn Service>
    });
    run_services(consumers.into(), shutdown)
        .await
        .map_err(anyhow::Error::from_boxed)
}

struct StepHandler {
    step: Step,
    worker: u32,
    outside: SideEffects,
}

#[derive(Debug, Error)]
enum StepError {
    #[error("the world outside does not answer")]
    SideEffects(#[from] redis::RedisError),
    #[error("cannot send the message on")]
    Send(#[from] BusError),
    #[error("told to give up")]
    Cancelled,
}

impl Retryable for StepError {
    fn retry(&self) -> Retry {
        match self {
            Self::SideEffects(_) | Self::Cancelled => Retry::Backoff,
            Self::Send(error) => error.retry(),
        }
    }
}

#[async_trait]
impl Handler<TestMessage> for StepHandler {
    type Error = StepError;

    #[expect(clippy::panic, reason = "a handler that panics is one of the faults")]
    async fn handle(&self, message: TestMessage, cx: &Context) -> Result<Outcome, StepError> {
        let work = Work {
            number: message.number,
            step: self.step,
            tag: message.tag,
        };
        self.outside.log(self.worker, Event::Begun(work)).await?;
        if message.trouble == Some(Trouble::Panic(self.step)) {
            panic!("poison {}", chain::key(message.number));
        }
        tokio::select! {
            () = cx.clock().sleep(Duration::from_millis(message.work[self.step as usize].into())) => {}
            () = cx.cancelled() => return Err(StepError::Cancelled),
        }
        if message.trouble == Some(Trouble::Abort(self.step)) {
            std::process::abort();
        }
        self.outside.perform(self.worker, work).await?;
        if let Some(next) = self.step.next() {
            cx.send(
                &next.queue(),
                &TestMessage {
                    tag: cx.clock().random(),
                    ..message
                },
            )?;
        }
        Ok(Outcome::Done)
    }

    async fn on_dead_letter(
        &self,
        message: TestMessage,
        cause: Cause<'_, StepError>,
        cx: &Context,
    ) -> Result<(), StepError> {
        let note = DeadLetterNote {
            number: message.number,
            step: self.step,
            reason: cause.to_string(),
        };
        Ok(cx.send(&DEAD_LETTER_NOTES, &note)?)
    }
}
