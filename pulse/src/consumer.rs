//! The one loop that consumes a Pulse queue, through every outage. A [`Sink`] takes the messages.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use tracing::{info, warn};

use crate::{
    Binding, Delivery, PulseError, Subscription,
    connection::Connection,
    meters::QueueMeters,
    sessions::{STABLE, Sessions},
    subscription::{DeclareState, Session},
};

/// How often the queue is measured, and refused bindings are tried again.
const CHECK: Duration = Duration::from_secs(30);

/// The length from which on a queue is logged, as PulseGuardian warns of it.
const LONG: u32 = 2_000;

/// The most bytes of a batch, unless one message alone has more.
const MAX_BYTES: usize = 8 << 20;

/// Whether to receive more messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Receive the next batch.
    Continue,
    /// Shutdown interrupted the sink; what it did not acknowledge returns to the queue.
    Stop,
}

/// The receiver of a consumer's messages.
pub trait Sink: Send {
    /// Takes what has arrived, in the order of its delivery, and acknowledges it. Nothing more is received meanwhile.
    ///
    /// It is cancelled when the connection is lost. Then RabbitMQ delivers again what was not acknowledged.
    fn accept(
        &mut self,
        batch: Vec<Delivery>,
        shutdown: &Shutdown,
    ) -> impl Future<Output = Flow> + Send;
}

/// Hands the messages of a subscription to a sink until shutdown. Several processes may consume the same durable queue.
///
/// An outage of RabbitMQ is logged once, and the connection is tried again until it succeeds. A deleted queue is declared
/// again.
///
/// At the start it ends with an error when the first answer of RabbitMQ shows that a setting is wrong: user, password,
/// virtual host, the queue's name, or the exchanges.
pub struct Consumer<S> {
    subscription: Subscription,
    sink: S,
    clock: Arc<dyn Clock>,
    meters: QueueMeters,
}

/// How a session ended without a failure.
enum Ended {
    Stopped,
    QueueDeleted,
}

impl<S: Sink> Consumer<S> {
    /// A consumer that is not connected yet.
    pub fn with_sink(subscription: Subscription, sink: S, clock: Arc<dyn Clock>) -> Self {
        Self {
            meters: QueueMeters::new(subscription.name()),
            subscription,
            sink,
            clock,
        }
    }

    /// Consumes until shutdown. An error is a setting that is wrong at the start.
    pub async fn supervise(mut self, shutdown: &Shutdown) -> Result<(), PulseError> {
        let clock = Arc::clone(&self.clock);
        let mut state = DeclareState::default();
        let mut sessions = Sessions::new();
        loop {
            let ended = self.session(shutdown, &mut state, &mut sessions).await;
            sessions.end(clock.now());
            let wait = match ended {
                Ok(Ended::Stopped) => return Ok(()),
                // Messages that are published until it is declared again are lost.
                Ok(Ended::QueueDeleted) => {
                    self.subscription.log_deletion();
                    sessions.backoff_after_deletion(clock.as_ref())
                }
                Err(error) if sessions.is_fault_at_start(&error) => return Err(error),
                Err(error) => {
                    if sessions.should_log(&error) {
                        warn!(
                            queue = self.subscription.name(),
                            exchanges = self.subscription.exchanges(),
                            error = error_chain(&error),
                            "cannot listen to pulse; retrying until it succeeds"
                        );
                    }
                    sessions.backoff(clock.as_ref())
                }
            };
            tokio::select! {
                () = clock.sleep(wait) => {}
                () = shutdown.stopping() => return Ok(()),
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn session(
        &mut self,
        shutdown: &Shutdown,
        state: &mut DeclareState,
        sessions: &mut Sessions,
    ) -> Result<Ended, PulseError> {
        let subscription = &self.subscription;
        let clock = self.clock.as_ref();
        let meters = &self.meters;
        let Session {
            connection,
            consumer,
            queue,
            unbound,
        } = tokio::select! {
            () = shutdown.stopping() => return Ok(Ended::Stopped),
            opened = subscription.open(clock, state, sessions.is_first()) => opened?,
        };
        let exchanges = subscription.exchanges();
        let begin = sessions.begin(clock.now());
        meters.reconnects.increment(u64::from(begin.again));
        if begin.should_log {
            info!(queue, exchanges, "listening to pulse");
        }
        let becomes_stable = async {
            clock.sleep(STABLE).await;
            if sessions.mark_stable() {
                info!(queue, exchanges, "listening to pulse");
            }
            std::future::pending().await
        };
        let watch = Watch {
            subscription,
            connection: &connection,
            queue: &queue,
            meters,
            clock,
        };
        let ended = tokio::select! {
            ended = receive(subscription, consumer, &mut self.sink, shutdown) => ended,
            ended = watch.run(unbound, state) => ended,
            ended = becomes_stable => ended,
        };
        connection.close().await;
        ended
    }
}

/// Hands messages to the sink, as many at once as have arrived.
async fn receive(
    subscription: &Subscription,
    mut consumer: lapin::Consumer,
    sink: &mut impl Sink,
    shutdown: &Shutdown,
) -> Result<Ended, PulseError> {
    loop {
        let first = tokio::select! {
            biased;
            () = shutdown.stopping() => return Ok(Ended::Stopped),
            first = consumer.next() => first,
        };
        let Some(first) = first else {
            return Ok(Ended::QueueDeleted);
        };
        let mut bytes = 0;
        let mut batch = Vec::new();
        let mut next = Some(Some(first));
        // The end of the stream is found again after this batch.
        while let Some(Some(delivery)) = next {
            let delivery = delivery.map_err(subscription.broken())?;
            bytes += delivery.data.len();
            batch.push(Delivery::from(delivery));
            let has_room = batch.len() < subscription.limit() && bytes < MAX_BYTES;
            next = if has_room {
                consumer.next().now_or_never()
            } else {
                None
            };
        }
        if sink.accept(batch, shutdown).await == Flow::Stop {
            return Ok(Ended::Stopped);
        }
    }
}

/// Measures the queue, also while the sink takes nothing, which is when the queue grows.
struct Watch<'a> {
    subscription: &'a Subscription,
    connection: &'a Connection,
    queue: &'a str,
    meters: &'a QueueMeters,
    clock: &'a dyn Clock,
}

impl Watch<'_> {
    async fn run(
        &self,
        mut unbound: Vec<&Binding>,
        state: &mut DeclareState,
    ) -> Result<Ended, PulseError> {
        let queue = self.queue;
        let mut was_long = false;
        loop {
            let Some(depth) = self.subscription.depth(self.connection, queue).await? else {
                return Ok(Ended::QueueDeleted);
            };
            self.meters.depth.set(depth);
            if depth >= LONG && !was_long {
                warn!(
                    queue,
                    depth, "the pulse queue grows: pulse deletes it at 8,000 messages"
                );
            }
            was_long = depth >= LONG;
            self.clock.sleep(CHECK).await;
            unbound = self
                .subscription
                .retry_bindings(self.connection, queue, unbound, state)
                .await?;
        }
    }
}

#[async_trait]
impl<S: Sink + 'static> Service for Consumer<S> {
    fn name(&self) -> &str {
        self.subscription.name()
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        Ok(self.supervise(&shutdown).await?)
    }
}
