//! Calls handlers, several at once.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_channel::Receiver;
use futures::{FutureExt, future::BoxFuture};
use pulse::PulseMessage;
use runtime::error_chain;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{error::Elapsed, timeout},
};
use tracing::error;

use crate::{
    event::{BuildFinished, Event, TestFinished},
    event_sink::Item,
    meters::Meters,
    source::Selection,
};

/// The failure of a handler, for the log.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// A handler. It may be called again before it has ended.
pub(crate) type Handler<T> =
    Arc<dyn Fn(T) -> BoxFuture<'static, Result<(), HandlerError>> + Send + Sync>;

/// The handler for each kind of item.
#[derive(Clone, Default)]
pub(crate) struct Handlers {
    pub(crate) build: Option<Handler<BuildFinished>>,
    pub(crate) test: Option<Handler<TestFinished>>,
    pub(crate) pulse: Option<Handler<PulseMessage>>,
}

/// How many handlers run at once, and how long each may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) concurrency: usize,
    pub(crate) time: Duration,
}

impl Handlers {
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            builds: self.build.is_some(),
            tests: self.test.is_some(),
            messages: self.pulse.is_some(),
        }
    }

    fn call(&self, item: Item) -> Option<BoxFuture<'static, Result<(), HandlerError>>> {
        // The call itself may panic: it is made where that is caught.
        fn called<T: Send + 'static>(
            handler: &Handler<T>,
            argument: T,
        ) -> BoxFuture<'static, Result<(), HandlerError>> {
            let handler = Arc::clone(handler);
            async move { handler(argument).await }.boxed()
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

    /// Calls handlers until the buffer is closed and empty, and waits for them.
    pub(crate) async fn run(self, buffer: Receiver<Item>, bounds: Bounds, meters: Arc<Meters>) {
        let permits = Arc::new(Semaphore::new(bounds.concurrency));
        let mut running = JoinSet::new();
        // The permit comes first: an item that waits for one could not make room for a newer one.
        while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
            let Ok(item) = buffer.recv().await else {
                break;
            };
            let key = item.key().to_owned();
            let Some(handling) = self.call(item) else {
                continue;
            };
            let meters = Arc::clone(&meters);
            running.spawn(async move {
                if let Some(error) =
                    failure(timeout(bounds.time, AssertUnwindSafe(handling).catch_unwind()).await)
                {
                    meters.failed.increment(1);
                    error!(key, error, "a handler of the build monitor failed");
                }
                drop(permit);
            });
            while running.try_join_next().is_some() {}
        }
        while running.join_next().await.is_some() {}
    }
}

type Ended = Result<Result<Result<(), HandlerError>, Box<dyn Any + Send>>, Elapsed>;

fn failure(ended: Ended) -> Option<String> {
    match ended {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(error))) => Some(error_chain(error.as_ref())),
        Ok(Err(panic)) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(format!("it panicked: {}", text.unwrap_or("no message")))
        }
        Err(_) => Some("it took too long and was cancelled".to_owned()),
    }
}
