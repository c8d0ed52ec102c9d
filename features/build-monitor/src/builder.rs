//! The settings of a monitor, and its start.

use std::{future::Future, sync::Arc, time::Duration};

use async_channel::Receiver;
use futures::{FutureExt, Stream, stream};
use pulse::{Binding, Consumer, PulseError, PulseMessage, PulseSettings, Subscription};
use runtime::{LogRateLimiter, Shutdown, SystemClock};
use tokio::task::JoinHandle;

use crate::{
    event::{BuildFinished, Event, TestFinished},
    event_sink::{EventSink, Item},
    filters::Filters,
    handlers::{Bounds, Handler, HandlerError, Handlers},
    meters::Meters,
    source::{Selection, Source},
};

/// How many events and messages wait for handlers at most.
const BUFFER: usize = 1_000;

/// The source, filters and handlers of a monitor. See [the crate](crate).
#[must_use = "nothing happens until it is started"]
pub struct BuildMonitorBuilder {
    source: Source,
    filters: Filters,
    label: Option<String>,
    handlers: Handlers,
    bounds: Bounds,
}

impl Default for BuildMonitorBuilder {
    fn default() -> Self {
        Self {
            source: Source::buildbot(),
            filters: Filters::default(),
            label: None,
            handlers: Handlers::default(),
            bounds: Bounds {
                concurrency: 16,
                time: Duration::from_secs(600),
            },
        }
    }
}

fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}

impl BuildMonitorBuilder {
    /// The source of events; [`Source::buildbot`] by default.
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// The name of this monitor, which makes its queue the durable `queue/<user>/<label>`. The queue keeps messages while
    /// nobody listens, until PulseGuardian deletes it at 8,000. Delete it in PulseGuardian when it is not used any more.
    ///
    /// Without a label the queue has a random name, and ends with the connection. Messages that are published without a
    /// connection are missed.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The trees of interest; `mozilla-central` by default. None: all.
    pub fn trees<T: Into<String>>(mut self, trees: impl IntoIterator<Item = T>) -> Self {
        self.filters.trees = texts(trees);
        self
    }

    /// The platforms of interest, such as `linux64`; all by default.
    pub fn platforms<T: Into<String>>(mut self, platforms: impl IntoIterator<Item = T>) -> Self {
        self.filters.platforms = texts(platforms);
        self
    }

    /// The build types of interest, such as `opt` and `debug`; all by default.
    pub fn build_types<T: Into<String>>(
        mut self,
        build_types: impl IntoIterator<Item = T>,
    ) -> Self {
        self.filters.build_types = texts(build_types);
        self
    }

    /// The tests of interest, by their full names, such as `mochitest-1`; all by default. Does not filter builds.
    pub fn tests<T: Into<String>>(mut self, tests: impl IntoIterator<Item = T>) -> Self {
        self.filters.tests = texts(tests);
        self
    }

    /// The products of interest, such as `firefox`; all by default. An event without a product matches none.
    pub fn products<T: Into<String>>(mut self, products: impl IntoIterator<Item = T>) -> Self {
        self.filters.products = texts(products);
        self
    }

    /// Only builds that have all of these tags. Does not filter tests.
    pub fn build_tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags = texts(tags);
        if tags.is_empty() {
            self.any_build_tags([[""; 0]; 0])
        } else {
            self.any_build_tags([tags])
        }
    }

    /// Only builds that have all tags of at least one of these lists. Does not filter tests.
    pub fn any_build_tags<T: Into<String>, L: IntoIterator<Item = T>>(
        mut self,
        lists: impl IntoIterator<Item = L>,
    ) -> Self {
        self.filters.build_tags = lists.into_iter().map(texts).collect();
        self
    }

    /// True selects only phones and tablets, whose platform begins with `android`. False, the default, selects all others.
    /// `None` selects both.
    pub fn mobile(mut self, mobile: impl Into<Option<bool>>) -> Self {
        self.filters.mobile = mobile.into();
        self
    }

    /// Selects performance tests too.
    pub fn talos(mut self, talos: bool) -> Self {
        self.filters.talos = talos;
        self
    }

    /// The most handlers that run at once, one at least; 16 by default.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.bounds.concurrency = handlers.clamp(1, 10_000);
        self
    }

    /// The time limit of a handler; ten minutes by default. One that takes longer is cancelled where it waits, and counts
    /// as failed. One that blocks its thread cannot be cancelled.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.bounds.time = limit;
        self
    }

    /// Calls `handler` for each build that has finished.
    pub fn on_build<F, R, E>(mut self, handler: F) -> Self
    where
        F: Fn(BuildFinished) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.build = Some(boxed(handler));
        self
    }

    /// Calls `handler` for each test that has finished.
    pub fn on_test<F, R, E>(mut self, handler: F) -> Self
    where
        F: Fn(TestFinished) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.test = Some(boxed(handler));
        self
    }

    /// Calls `handler` for each message of the source as it came, whatever the filters select. It may hold anything, in
    /// 256 kB at most: a larger one is counted as a parse error and dropped.
    pub fn on_pulse<F, R, E>(mut self, handler: F) -> Self
    where
        F: Fn(PulseMessage) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.pulse = Some(boxed(handler));
        self
    }

    /// Starts to listen, as the user of `settings`, and returns at once. An outage of RabbitMQ is logged, and the connection
    /// is tried again. When the first answer shows that a setting is wrong, such as the exchange or the password, the
    /// monitor ends, and [`join`](BuildMonitor::join) returns the error. Call it in a tokio runtime.
    ///
    /// [`PulseError::Unusable`] when there is no handler, or when AMQP cannot carry a name.
    pub fn start(self, settings: PulseSettings) -> Result<BuildMonitor, PulseError> {
        let selection = self.handlers.selection();
        if !(selection.builds || selection.tests || selection.messages) {
            let reason = "the build monitor has no handler: give it on_build, on_test or on_pulse"
                .to_owned();
            return Err(PulseError::Unusable { reason });
        }
        let handlers = self.handlers.clone();
        let bounds = self.bounds;
        let (intake, buffer) = self.intake(settings, selection)?;
        let shutdown = intake.shutdown.clone();
        let meters = Arc::clone(&intake.meters);
        let running = tokio::spawn(async move {
            let (ended, ()) = tokio::join!(intake.run(), handlers.run(buffer, bounds, meters));
            ended
        });
        Ok(BuildMonitor {
            shutdown,
            running: Some(running),
        })
    }

    /// Starts to listen, and yields events one by one, until the stream is dropped. The stream ends only after the error of
    /// a setting that is wrong, which the first answer of RabbitMQ shows.
    ///
    /// [`PulseError::Unusable`] when there is a handler, or when AMQP cannot carry a name.
    pub fn stream(
        self,
        settings: PulseSettings,
    ) -> Result<impl Stream<Item = Result<Event, PulseError>> + Send + 'static, PulseError> {
        let Selection {
            builds,
            tests,
            messages,
        } = self.handlers.selection();
        if builds || tests || messages {
            let reason =
                "the build monitor has handlers, which a stream would never call: start it"
                    .to_owned();
            return Err(PulseError::Unusable { reason });
        }
        let (intake, buffer) = self.intake(
            settings,
            Selection {
                builds: true,
                tests: true,
                messages: false,
            },
        )?;
        let stops = StopsWhenDropped(intake.shutdown.clone());
        let running = Some(tokio::spawn(intake.run()));
        Ok(stream::unfold(
            (buffer, stops, running),
            |(buffer, stops, mut running)| async move {
                loop {
                    match buffer.recv().await {
                        Ok(Item::Event(event)) => {
                            return Some((Ok(event), (buffer, stops, running)));
                        }
                        Ok(Item::Message(_)) => {}
                        Err(_) => {
                            let fault = ended(&mut running).await.err()?;
                            return Some((Err(fault), (buffer, stops, running)));
                        }
                    }
                }
            },
        ))
    }

    /// What fills the buffer, and the end from which it is read.
    fn intake(
        self,
        settings: PulseSettings,
        selection: Selection,
    ) -> Result<(Intake, Receiver<Item>), PulseError> {
        let binding = Binding {
            exchange: self.source.exchange().to_owned(),
            topics: self.source.topics(&self.filters, selection)?,
        };
        let subscription = match &self.label {
            Some(label) => Subscription::durable(settings, label, vec![binding])?,
            None => Subscription::temporary(settings, "monitor", vec![binding])?,
        };
        let (sender, receiver) = async_channel::bounded(BUFFER);
        let meters = Arc::new(Meters::new(self.label.as_deref()));
        let sink = EventSink {
            source: self.source,
            filters: self.filters,
            selection,
            buffer: sender,
            meters: Arc::clone(&meters),
            parse_errors: LogRateLimiter::default(),
            drops: LogRateLimiter::default(),
        };
        let intake = Intake {
            consumer: Consumer::with_sink(subscription, sink, Arc::new(SystemClock)),
            meters,
            shutdown: Shutdown::new(),
        };
        Ok((intake, receiver))
    }
}

/// From Pulse to the buffer.
struct Intake {
    consumer: Consumer<EventSink>,
    meters: Arc<Meters>,
    shutdown: Shutdown,
}

impl Intake {
    /// Runs until shutdown. The buffer closes with the consumer, which has its only sender.
    async fn run(self) -> Result<(), PulseError> {
        self.consumer.supervise(&self.shutdown).await
    }
}

fn boxed<T, F, R, E>(handler: F) -> Handler<T>
where
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<HandlerError>,
{
    Arc::new(move |argument| {
        handler(argument)
            .map(|done| done.map_err(Into::into))
            .boxed()
    })
}

type Running = JoinHandle<Result<(), PulseError>>;

/// Waits for the end. Returns its error once.
async fn ended(running: &mut Option<Running>) -> Result<(), PulseError> {
    let Some(task) = running else { return Ok(()) };
    // The task does not panic, and nobody aborts it.
    let ended = task.await.unwrap_or(Ok(()));
    *running = None;
    ended
}

struct StopsWhenDropped(Shutdown);

impl Drop for StopsWhenDropped {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A monitor that runs. It goes on when this is dropped.
#[derive(Debug)]
pub struct BuildMonitor {
    shutdown: Shutdown,
    /// `None` once it has ended.
    running: Option<Running>,
}

impl BuildMonitor {
    /// A monitor of builds and tests on `mozilla-central`, to be adjusted and started.
    pub fn builder() -> BuildMonitorBuilder {
        BuildMonitorBuilder::default()
    }

    /// Receives no more messages. Handlers still get the received ones.
    pub fn stop(&self) {
        self.shutdown.stop();
    }

    /// Waits until it was stopped, and all handlers have ended. An error is a setting that was wrong at the start. It is
    /// returned once.
    pub async fn join(&mut self) -> Result<(), PulseError> {
        ended(&mut self.running).await
    }
}
