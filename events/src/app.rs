//! The application: features register their queues, and install what works on them.
//!
//! A feature declares its queues with `queues!`, which makes each constant and the list of them in one step. Nothing
//! else in the deployed crates makes a queue: a test reads the sources. So whatever can be sent to is registered, and
//! commands, the API, the audit and the pool of connections know it, in processes that do not run the feature too.

use std::{collections::BTreeSet, sync::Arc};

use bus::{Bus, Consumer, Handler, Message, Producer, Queue, QueueSpec};
use pulse::{Listener, PulseError, PulseMessage, PulseSettings, Route, Topic};
use runtime::{Clock, Service};
use tracing::info;

use crate::role::Role;

/// A part of the program with queues of its own.
#[derive(Debug)]
pub struct Feature {
    /// The name in documentation.
    pub name: &'static str,
    /// The roles of the processes that run it.
    pub roles: &'static [Role],
    /// Its queues, in the order in which messages pass them.
    pub queues: &'static [Registered],
}

/// A queue of a feature.
#[derive(Debug, Clone, Copy)]
pub struct Registered {
    /// The queue.
    pub spec: QueueSpec,
    /// Whether the records of builds name it, so that the audit looks for open builds there.
    pub tracks_builds: bool,
}

/// Declares the queues of a feature: a constant for each, and `FEATURE`, which registers them.
///
/// `NAME: Message = "name:in:redis", policy;` is a queue. `by (partition)` after its name gives it partitions, and `tracks
/// builds` says that a build waits in it: see [`Registered::tracks_builds`].
macro_rules! queues {
    (
        $feature:literal in [$($role:ident),+];
        $(
            $(#[$doc:meta])+
            $queue:ident: $message:ty = $name:literal $(by ($partition:expr))? $(tracks $builds:ident)?, $policy:expr;
        )+
    ) => {
        $(
            $(#[$doc])+
            pub const $queue: bus::Queue<$message> =
                $crate::app::queues!(@queue $name, $policy $(, $partition)?);
        )+

        pub(super) const FEATURE: $crate::app::Feature = $crate::app::Feature {
            name: $feature,
            roles: &[$($crate::role::Role::$role),+],
            queues: &[$($crate::app::Registered {
                spec: $queue.spec(),
                tracks_builds: $crate::app::queues!(@tracks $($builds)?),
            }),+],
        };
    };
    (@queue $name:literal, $policy:expr) => { bus::Queue::new($name, $policy) };
    (@queue $name:literal, $policy:expr, $partition:expr) => {
        bus::Queue::with_partitions($name, $policy, $partition)
    };
    (@tracks) => { false };
    (@tracks builds) => { true };
}
pub(crate) use queues;

/// What the features of a process install: consumers, listeners and other services.
pub(crate) struct App {
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    services: Vec<Box<dyn Service>>,
    routes: Vec<Route>,
}

impl App {
    /// An application without services.
    pub(crate) fn new(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>) -> Self {
        Self {
            bus,
            clock,
            services: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Handles the messages of `queue`.
    pub(crate) fn consumer<M: Message>(&mut self, queue: Queue<M>, handler: impl Handler<M>) {
        self.consumer_with(queue, handler, |consumer| consumer);
    }

    /// Handles the messages of `queue` with more settings than the queue has.
    pub(crate) fn consumer_with<M: Message>(
        &mut self,
        queue: Queue<M>,
        handler: impl Handler<M>,
        set: impl FnOnce(Consumer) -> Consumer,
    ) {
        let consumer = Consumer::new(self.bus.clone(), self.clock.clone(), queue, handler);
        self.service(set(consumer));
    }

    /// Runs `service`.
    pub(crate) fn service(&mut self, service: impl Service + 'static) {
        self.services.push(Box::new(service));
    }

    /// Stores messages of Pulse in `queue`, once [`App::listen`] is called.
    pub(crate) fn route(&mut self, exchange: &str, topics: &[Topic], queue: Queue<PulseMessage>) {
        self.routes.push(route(exchange, topics, queue));
    }

    /// Listens to Pulse for all routes that were added until now, if there are any.
    pub(crate) fn listen(
        &mut self,
        settings: PulseSettings,
        queue: &str,
    ) -> Result<(), PulseError> {
        match std::mem::take(&mut self.routes) {
            routes if routes.is_empty() => Ok(()),
            routes => self.listen_to(settings, queue, routes),
        }
    }

    /// Listens to Pulse for `routes` alone, on a queue of this name below `queue/<user>/`.
    pub(crate) fn listen_to(
        &mut self,
        settings: PulseSettings,
        queue: &str,
        routes: Vec<Route>,
    ) -> Result<(), PulseError> {
        let exchanges: BTreeSet<&str> =
            routes.iter().map(|route| route.exchange.as_str()).collect();
        info!(
            "pulse: listening as {} on {} to {}",
            settings.user,
            settings.address,
            Vec::from_iter(exchanges).join(", ")
        );
        self.service(Listener::new(settings, queue, routes, self.producer())?);
        Ok(())
    }

    /// Sends from outside a handler.
    pub(crate) fn producer(&self) -> Producer {
        Producer::new(self.bus.clone(), self.clock.clone())
    }

    /// The routes that nothing listens for yet.
    #[cfg(test)]
    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Everything that was installed.
    pub(crate) fn into_services(self) -> Vec<Box<dyn Service>> {
        self.services
    }
}

/// The route of an exchange's messages with one of `topics` to `queue`.
pub(crate) fn route(exchange: &str, topics: &[Topic], queue: Queue<PulseMessage>) -> Route {
    Route {
        exchange: exchange.to_owned(),
        topics: topics.to_vec(),
        queue,
    }
}
