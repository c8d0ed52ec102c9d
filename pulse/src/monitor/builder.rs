//! Says what is to be monitored, and starts it.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, stream};
use runtime::Shutdown;
use tokio::task::JoinHandle;

use super::{
    buffer::Buffer,
    event::{BuildFinished, Event, TestFinished},
    filters::Filters,
    handlers::{Bounds, Handler, HandlerError, Handlers},
    intake::{Intake, Item},
    meters::Meters,
    source::{Source, Wanted},
};
use crate::{PulseError, PulseMessage, PulseSettings, error::check_name};

/// How many events and messages wait for handlers at most.
const BUFFER: usize = 1_000;

/// What is monitored, and the handlers. See [the module](super).
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
    /// Where events come from; [`Source::buildbot`] by default.
    pub fn source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// The name of this monitor, by which its queue is `queue/<user>/<label>`. That queue is durable: it gathers messages
    /// while nobody listens, until there are 8,000, when Pulse deletes it. Delete it in PulseGuardian when it is not used
    /// any more.
    ///
    /// Without a label the queue has a random name, and ends with the connection: what is published while there is none
    /// is missed.
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

    /// The tests of interest, by their full names, such as `mochitest-1`; all by default. Says nothing about builds.
    pub fn tests<T: Into<String>>(mut self, tests: impl IntoIterator<Item = T>) -> Self {
        self.filters.tests = texts(tests);
        self
    }

    /// The products of interest, such as `firefox`; all by default. What does not say its product is of none of them.
    pub fn products<T: Into<String>>(mut self, products: impl IntoIterator<Item = T>) -> Self {
        self.filters.products = texts(products);
        self
    }

    /// Only builds that have all of these tags. Says nothing about tests.
    pub fn build_tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags = texts(tags);
        if tags.is_empty() {
            self.any_build_tags([[""; 0]; 0])
        } else {
            self.any_build_tags([tags])
        }
    }

    /// Only builds that have all tags of at least one of these lists. Says nothing about tests.
    pub fn any_build_tags<T: Into<String>, L: IntoIterator<Item = T>>(
        mut self,
        lists: impl IntoIterator<Item = L>,
    ) -> Self {
        self.filters.build_tags = lists.into_iter().map(texts).collect();
        self
    }

    /// True: only what is for phones and tablets, whose platform begins with `android`. False, the default: all but that.
    /// `None`: both.
    pub fn mobile(mut self, mobile: impl Into<Option<bool>>) -> Self {
        self.filters.mobile = mobile.into();
        self
    }

    /// Whether performance tests are events as well; they are not by default.
    pub fn talos(mut self, talos: bool) -> Self {
        self.filters.talos = talos;
        self
    }

    /// How many handlers run at once at most, one at least; 16 by default.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.bounds.concurrency = handlers.clamp(1, 10_000);
        self
    }

    /// How long a handler may take; ten minutes by default. One that takes longer is dropped where it waits, as if it had
    /// failed. One that blocks its thread cannot be dropped.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.bounds.time = limit;
        self
    }

    /// Has this called for each build that has finished.
    pub fn on_build<F, R, E>(mut self, handler: F) -> Self
    where
        F: Fn(BuildFinished) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.build = Some(boxed(handler));
        self
    }

    /// Has this called for each test that has finished.
    pub fn on_test<F, R, E>(mut self, handler: F) -> Self
    where
        F: Fn(TestFinished) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.test = Some(boxed(handler));
        self
    }

    /// Has this called for each message of the source, whatever the filters say, as it came. It may hold anything, in
    /// 256 kB at most: a larger one is counted as unreadable, and not kept.
    pub fn on_pulse<F, R, E>(mut self, handler: F) -> Self
    where
        F: Fn(PulseMessage) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<HandlerError>,
    {
        self.handlers.pulse = Some(boxed(handler));
        self
    }

    /// Starts to listen, as the user of `settings`, and returns at once: an outage of RabbitMQ is logged, and tried until it
    /// ends. When the first answer says that a setting is wrong, such as the exchange or the password, the monitor ends, and
    /// [`join`](BuildMonitor::join) returns the error. Has to be called in a tokio runtime.
    ///
    /// [`PulseError::Unusable`] when there is no handler, or when AMQP cannot carry a name.
    pub fn start(self, settings: PulseSettings) -> Result<BuildMonitor, PulseError> {
        let wanted = self.handlers.wanted();
        if !(wanted.builds || wanted.tests || wanted.messages) {
            let reason = "the build monitor has no handler: give it on_build, on_test or on_pulse"
                .to_owned();
            return Err(PulseError::Unusable { reason });
        }
        let (handlers, bounds) = (self.handlers.clone(), self.bounds);
        let intake = self.intake(settings, wanted)?;
        let shutdown = intake.shutdown.clone();
        let (buffer, meters) = (Arc::clone(&intake.buffer), Arc::clone(&intake.meters));
        let running = tokio::spawn(async move {
            let (taken, ()) = tokio::join!(intake.run(), handlers.run(buffer, bounds, meters));
            taken
        });
        Ok(BuildMonitor {
            shutdown,
            running: Some(running),
        })
    }

    /// Starts to listen, for events one by one instead of handlers. It listens until the stream is dropped. The stream ends
    /// only after an error: the first answer of RabbitMQ says that a setting is wrong.
    ///
    /// [`PulseError::Unusable`] when there is a handler, or when AMQP cannot carry a name.
    pub fn stream(
        self,
        settings: PulseSettings,
    ) -> Result<impl Stream<Item = Result<Event, PulseError>> + Send + 'static, PulseError> {
        let Wanted {
            builds,
            tests,
            messages,
        } = self.handlers.wanted();
        if builds || tests || messages {
            let reason =
                "the build monitor has handlers, which a stream would never call: start it"
                    .to_owned();
            return Err(PulseError::Unusable { reason });
        }
        let intake = self.intake(
            settings,
            Wanted {
                builds: true,
                tests: true,
                messages: false,
            },
        )?;
        let (buffer, stops) = (
            Arc::clone(&intake.buffer),
            StopsWhenDropped(intake.shutdown.clone()),
        );
        let running = Some(tokio::spawn(intake.run()));
        Ok(stream::unfold(
            (buffer, stops, running),
            |(buffer, stops, mut running)| async move {
                loop {
                    match buffer.take().await {
                        Some(Item::Event(event)) => {
                            return Some((Ok(event), (buffer, stops, running)));
                        }
                        Some(Item::Message(_)) => {}
                        None => {
                            let fault = ended(&mut running).await.err()?;
                            return Some((Err(fault), (buffer, stops, running)));
                        }
                    }
                }
            },
        ))
    }

    fn intake(self, settings: PulseSettings, wanted: Wanted) -> Result<Intake, PulseError> {
        check_name("the exchange", self.source.exchange())?;
        check_name(
            "the queue",
            &settings.queue(self.label.as_deref().unwrap_or_default()),
        )?;
        Ok(Intake {
            topics: self.source.topics(&self.filters, wanted)?,
            meters: Arc::new(Meters::new(self.label.as_deref())),
            buffer: Arc::new(Buffer::new(BUFFER)),
            shutdown: Shutdown::new(),
            settings,
            source: self.source,
            filters: self.filters,
            wanted,
            label: self.label,
        })
    }
}

fn boxed<T, F, R, E>(handler: F) -> Handler<T>
where
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<HandlerError>,
{
    Arc::new(move |told| handler(told).map(|done| done.map_err(Into::into)).boxed())
}

type Running = JoinHandle<Result<(), PulseError>>;

/// Waits for the end, and returns its error the first time.
async fn ended(running: &mut Option<Running>) -> Result<(), PulseError> {
    let Some(task) = running else { return Ok(()) };
    // The task itself cannot panic, and nobody aborts it.
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
    /// None once it has ended.
    running: Option<Running>,
}

impl BuildMonitor {
    /// A monitor of builds and tests on `mozilla-central`, to be adjusted and started.
    pub fn builder() -> BuildMonitorBuilder {
        BuildMonitorBuilder::default()
    }

    /// Takes no more messages. What was taken is still handed out.
    pub fn stop(&self) {
        self.shutdown.stop();
    }

    /// Waits until it was stopped, and all handlers have ended. An error is one that ended it at the start: a setting is
    /// wrong. It is returned once.
    pub async fn join(&mut self) -> Result<(), PulseError> {
        ended(&mut self.running).await
    }
}
