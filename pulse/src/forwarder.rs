//! From Pulse to the bus.
//!
//! # Guarantees
//!
//! A message is acknowledged after the bus has stored it, never before. When a process or a connection dies between the
//! two, RabbitMQ delivers the message again, and the bus finds its deduplication key. So each message is stored once, as
//! long as the key is remembered (the `dedup_window` of the bus queue).
//!
//! One acknowledgement covers all messages up to its own: messages are stored in the order of their delivery, so the
//! earlier ones are stored too.
//!
//! While the bus is full or away, nothing more is received: RabbitMQ sends no more than the prefetch, and what it has sent
//! is kept here and stored later. At shutdown, closing the connection returns it to the queue.

use std::{sync::Arc, time::Duration};

use bus::{BusError, EnqueueOutcome, Producer};
use runtime::{FailureLog, Shutdown, error_chain};
use tracing::{info, warn};

use crate::{
    Binding, Consumer, Delivery, Flow, PulseError, PulseSettings, Route, Routing, Sink,
    Subscription, meters::ForwardMeters, outage::Outage, route::pack,
};

/// How many messages RabbitMQ sends ahead, and the most that are stored at once.
const PREFETCH: u16 = 500;

/// Moves messages from one durable Pulse queue to the bus.
pub type Listener = Consumer<Forwarder>;

impl Listener {
    /// A listener to the queue `queue/<user>/<name>`, which is declared when it is missing. A route whose exchange cannot
    /// be bound is logged and tried again; the others are served.
    ///
    /// [`PulseError::Unusable`] when AMQP cannot carry a name.
    pub fn new(
        settings: PulseSettings,
        name: &str,
        routes: Vec<Route>,
        producer: Producer,
    ) -> Result<Self, PulseError> {
        let bindings = routes.iter().map(Binding::from).collect();
        let subscription = Subscription::durable(settings, name, bindings)?
            .prefetch(PREFETCH)
            .allow_unbound();
        let clock = Arc::clone(producer.clock());
        let sink = Forwarder {
            meters: ForwardMeters::new(subscription.name()),
            queue: subscription.name().to_owned(),
            routes,
            producer,
            unrouted: FailureLog::default(),
            outage: Outage::new(),
        };
        Ok(Self::with_sink(subscription, sink, clock))
    }
}

/// The sink that stores each message in the queues of the bus whose routes match it.
pub struct Forwarder {
    queue: String,
    routes: Vec<Route>,
    producer: Producer,
    meters: ForwardMeters,
    unrouted: FailureLog,
    outage: Outage<BusError>,
}

impl Sink for Forwarder {
    async fn accept(&mut self, batch: Vec<Delivery>, shutdown: &Shutdown) -> Flow {
        for delivery in &batch {
            self.check_route(&delivery.message.routing);
        }
        self.store(&batch, shutdown).await
    }
}

impl Forwarder {
    fn check_route(&mut self, routing: &Routing) {
        if self.routes.iter().any(|route| route.matches(routing)) {
            return;
        }
        self.meters.unrouted.increment(1);
        if self.unrouted.should_log(()) {
            warn!(
                queue = self.queue,
                exchange = routing.exchange,
                key = routing.key,
                "dropping messages that no route matches: if the queue was bound to more than the configuration names now, \
                 delete it in PulseGuardian when it is empty"
            );
        }
    }

    /// Stores and acknowledges all of `batch`, however long it takes.
    async fn store(&mut self, batch: &[Delivery], shutdown: &Shutdown) -> Flow {
        let clock = Arc::clone(self.producer.clock());
        let mut at_once = true;
        let mut rest = batch;
        let mut most = batch.len();
        while !rest.is_empty() {
            let (part, later) = rest.split_at(most.min(rest.len()));
            match self.push(part).await {
                Ok(pushed) => {
                    self.meters.count(pushed);
                    if !self.acknowledge(part).await {
                        // The connection is lost, which the consumer finds next.
                        return Flow::Continue;
                    }
                    self.outage.reset_backoff();
                    rest = later;
                }
                // There may be room for fewer.
                Err(BusError::Full { .. }) if part.len() > 1 => most = part.len() / 2,
                Err(error) => {
                    at_once = false;
                    if self.outage.should_log(&error) {
                        warn!(
                            queue = self.queue,
                            error = error_chain(&error),
                            "the bus does not store messages from pulse; receiving no more, and retrying until it does"
                        );
                    }
                    tokio::select! {
                        () = clock.sleep(self.outage.backoff(clock.as_ref())) => {}
                        () = shutdown.stopping() => return Flow::Stop,
                    }
                }
            }
        }
        // A full bus stores one message now and then: only a whole batch ends the outage.
        if at_once && self.outage.recovered() {
            info!(
                queue = self.queue,
                "the bus stores messages from pulse again"
            );
        }
        Flow::Continue
    }

    async fn push(&self, part: &[Delivery]) -> Result<EnqueueOutcome, BusError> {
        let clock = self.producer.clock().as_ref();
        let mut outgoing = Vec::with_capacity(part.len());
        for delivery in part {
            outgoing.extend(pack(&self.routes, &delivery.message, clock)?);
        }
        self.producer.bus().push(outgoing).await
    }

    async fn acknowledge(&self, part: &[Delivery]) -> bool {
        let Some(last) = part.last() else {
            return true;
        };
        let now = self.producer.clock().now();
        for published in part.iter().filter_map(|delivery| delivery.published) {
            // Clocks differ: a publication in the future counts as no time.
            let lag = Duration::try_from(now.duration_since(published)).unwrap_or_default();
            self.meters.lag.record(lag);
        }
        last.acknowledge_through().await
    }
}
