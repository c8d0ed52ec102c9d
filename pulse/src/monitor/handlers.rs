//! Calls handlers, several at once.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use runtime::error_chain;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{error::Elapsed, timeout},
};
use tracing::error;

use super::{
    buffer::Buffer,
    event::{BuildFinished, Event, TestFinished},
    intake::Item,
    meters::Meters,
    source::Wanted,
};
use crate::PulseMessage;

/// Why a handler failed, in words for a log.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// A handler: it may be called again before it has ended.
pub(super) type Handler<T> =
    Arc<dyn Fn(T) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync>;

/// Who is called for what.
#[derive(Clone, Default)]
pub(super) struct Handlers {
    pub(super) build: Option<Handler<BuildFinished>>,
    pub(super) test: Option<Handler<TestFinished>>,
    pub(super) pulse: Option<Handler<PulseMessage>>,
}

/// How many handlers run at once, and how long each may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) concurrency: usize,
    pub(super) time: Duration,
}

impl Handlers {
    pub(super) fn wanted(&self) -> Wanted {
        Wanted {
            builds: self.build.is_some(),
            tests: self.test.is_some(),
            messages: self.pulse.is_some(),
        }
    }

    fn call(&self, item: Item) -> Option<BoxFuture<'static, Result<(), HandlerError>>> {
        // The call itself may panic, too: it is made where that is caught.
        fn called<T: Send + 'static>(
            handler: &Handler<T>,
            told: T,
        ) -> BoxFuture<'static, Result<(), HandlerError>> {
            let handler = Arc::clone(handler);
            async move { handler(told).await }.boxed()
        }
        match item {
            Item::Event(Event::Build(build)) => {
                self.build.as_ref().map(|handler| called(handler, build))
            }
            Item::Event(Event::Test(test)) => {
                self.test.as_ref().map(|handler| called(handler, test))
            }
            Item::Message(message) => self.pulse.as_ref().map(|handler| called(handler, message)),
        }
    }

    /// Hands out what is in the buffer until there will be nothing more, and waits for the handlers.
    pub(super) async fn run(self, buffer: Arc<Buffer<Item>>, bounds: Bounds, meters: Arc<Meters>) {
        let places = Arc::new(Semaphore::new(bounds.concurrency));
        let mut running = JoinSet::new();
        // The place first: what waits for one may still make room for newer.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Some(item) = buffer.take().await else {
                break;
            };
            let key = item.key().to_owned();
            let Some(handling) = self.call(item) else {
                continue;
            };
            let meters = Arc::clone(&meters);
            running.spawn(async move {
                if let Some(problem) =
                    problem(timeout(bounds.time, AssertUnwindSafe(handling).catch_unwind()).await)
                {
                    meters.failed.increment(1);
                    error!(
                        key,
                        error = problem,
                        "a handler of the build monitor failed"
                    );
                }
                drop(place);
            });
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
    }
}

type Ended = Result<Result<Result<(), HandlerError>, Box<dyn Any + Send>>, Elapsed>;

fn problem(ended: Ended) -> Option<String> {
    match ended {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(error_chain(error.as_ref())),
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("it panicked: {}", text.unwrap_or("without a word")))
        }
        Err(_) => Some("it took too long, and was given up".to_owned()),
    }
}
