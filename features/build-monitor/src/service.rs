//! A monitor as a service: prints events, runs a command for each, and keeps the newest builds.

mod commands;
mod drop_sink;
mod exec;
mod line;
mod printer;

use std::{future::ready, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::OptionFuture;
use pulse::PulseSettings;
use runtime::{Service, ServiceError, Shutdown};
use tokio::time::timeout;

use self::drop_sink::DropSink;
use crate::{BuildMonitorBuilder, Event, Latest};

/// How long the service waits at its end for the reader of its output: a pipe may be full, and its reader idle.
const LAST_LINES: Duration = Duration::from_secs(2);

/// The format of the printed events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line for people.
    Text,
    /// A line of JSON.
    Json,
}

/// A shell command that runs for each event, with the event as JSON on its standard input.
#[derive(Debug, Clone)]
pub struct Command {
    /// The argument of `sh -c`.
    pub shell: String,
    /// Variables of the environment that the command does not get.
    pub hidden: &'static [&'static str],
}

/// Runs a monitor until shutdown, or until nobody reads what is printed.
pub struct MonitorService {
    /// The filters and the source; its handlers of builds and tests are replaced.
    pub builder: BuildMonitorBuilder,
    /// Our user on Pulse.
    pub settings: PulseSettings,
    /// Keeps the newest builds.
    pub latest: Option<Arc<Latest>>,
    /// The format of the lines on standard output.
    pub format: Format,
    /// Runs for each event.
    pub command: Option<Command>,
}

#[async_trait]
impl Service for MonitorService {
    fn name(&self) -> &str {
        "the build monitor"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let Self {
            builder,
            settings,
            latest,
            format,
            command,
        } = *self;
        let (lines, printed) = printer::start(io::stdout(), shutdown.clone())?;
        let (commands, running) = command
            .map(|command| {
                let (sink, events) = commands::sink();
                (sink, commands::run(command, events))
            })
            .unzip();
        let outputs = Arc::new(Outputs {
            latest,
            format,
            lines,
            commands,
        });
        let builds = Arc::clone(&outputs);
        let tests = outputs;
        let mut monitor = builder
            .on_build(move |build| ready(builds.send(Event::Build(build))))
            .on_test(move |test| ready(tests.send(Event::Test(test))))
            .start(settings)?;
        let monitoring = async {
            tokio::select! {
                () = shutdown.stopping() => {}
                ended = monitor.join() => return ended,
            }
            monitor.stop();
            // With the handlers, the outputs are dropped, and so the printer and the commands end.
            monitor.join().await
        };
        let all = async {
            let (ended, _) = tokio::join!(monitoring, OptionFuture::from(running));
            // The error means that the thread has ended.
            let _ = timeout(LAST_LINES, printed).await;
            ended
        };
        tokio::select! {
            ended = all => Ok(ended?),
            () = shutdown.cancelled() => Ok(()),
        }
    }
}

/// Sends events to each output, and waits for none of them.
struct Outputs {
    latest: Option<Arc<Latest>>,
    format: Format,
    lines: DropSink<String>,
    commands: Option<DropSink<Event>>,
}

impl Outputs {
    fn send(&self, event: Event) -> serde_json::Result<()> {
        if let (Some(latest), Event::Build(build)) = (&self.latest, &event) {
            latest.note(build);
        }
        let line = match self.format {
            Format::Text => line::text(&event),
            Format::Json => line::json(&event)?,
        };
        self.lines.send(line, event.key());
        if let Some(commands) = &self.commands {
            let key = event.key().to_owned();
            commands.send(event, &key);
        }
        Ok(())
    }
}
