//! Listens to one Pulse queue, through every outage.

use std::time::Duration;

use async_trait::async_trait;
use bus::Producer;
use runtime::{Service, ServiceError, Shutdown, error_chain};
use tracing::{info, warn};

use crate::{
    PulseError, PulseSettings, Route,
    connection::Connection,
    drain::{Drain, Ended, PREFETCH},
    meters::Meters,
    outage::{LASTED, Sessions},
    queue::{Known, PulseQueue},
};

/// How often the queue's depth is read, and what could not be bound is tried again.
const LOOK: Duration = Duration::from_secs(30);

/// A queue of this length is warned of, as Pulse does.
const LONG: u32 = 2_000;

/// Moves messages from one durable Pulse queue to the bus. Several processes may listen to the same queue.
///
/// It runs until shutdown, whatever RabbitMQ and the bus do meanwhile: an outage is logged once, and tried
/// until it ends. A route whose exchange cannot be used is logged and tried again; the others go on.
///
/// At the start it ends with an error when the first answer says that a setting is wrong: user, password or virtual host,
/// the queue's name, or the exchanges of all routes.
pub struct Listener {
    queue: PulseQueue,
    producer: Producer,
    meters: Meters,
}

impl Listener {
    /// A listener to the queue `queue/<user>/<name>`, which is made when it is missing.
    ///
    /// [`PulseError::Unusable`] when AMQP cannot carry a name.
    pub fn new(
        settings: PulseSettings,
        name: &str,
        routes: Vec<Route>,
        producer: Producer,
    ) -> Result<Self, PulseError> {
        let queue = PulseQueue::new(settings, name, routes)?;
        let meters = Meters::new(&queue.name);
        Ok(Self {
            queue,
            producer,
            meters,
        })
    }

    /// One connection, from its begin to its end.
    async fn session(
        &self,
        shutdown: &Shutdown,
        known: &mut Known,
        sessions: &mut Sessions,
    ) -> Result<Ended, PulseError> {
        let begin = async {
            let connection = Connection::open(&self.queue.settings, &self.queue.name).await?;
            self.queue.declare(&connection, known).await?;
            let mut refused = self
                .queue
                .bind(&connection, &self.queue.routes, known)
                .await?;
            let all = refused.len() == self.queue.routes.len();
            if let Some(last) =
                refused.pop_if(|last| all && sessions.is_fault_at_start(&last.error))
            {
                return Err(last.error);
            }
            let unbound = self.queue.report(refused, known);
            let (channel, consumer) = self.queue.consume(&connection, PREFETCH).await?;
            Ok((connection, unbound, channel, consumer))
        };
        let (connection, unbound, channel, consumer) = tokio::select! {
            () = shutdown.stopping() => return Ok(Ended::Stopped),
            begun = begin => begun?,
        };
        let clock = self.producer.clock();
        let begin = sessions.begins(clock.now());
        self.meters.reconnects.increment(u64::from(begin.again));
        if begin.is_news {
            info!(queue = self.queue.name, "listening to pulse");
        }
        let lasts = async {
            clock.sleep(LASTED).await;
            if sessions.has_lasted() {
                info!(queue = self.queue.name, "listening to pulse");
            }
            std::future::pending().await
        };
        let drain = Drain {
            queue: &self.queue,
            producer: &self.producer,
            meters: &self.meters,
            shutdown,
            channel: &channel,
        };
        let ended = tokio::select! {
            ended = drain.run(consumer) => ended,
            ended = self.watch(&connection, unbound, known) => ended,
            ended = lasts => ended,
        };
        connection.close().await;
        ended
    }

    /// Checks the queue now and then, also while nothing can be stored, which is when it grows.
    async fn watch(
        &self,
        connection: &Connection,
        mut unbound: Vec<&Route>,
        known: &mut Known,
    ) -> Result<Ended, PulseError> {
        let mut long = false;
        loop {
            let Some(depth) = self.queue.depth(connection).await? else {
                return Ok(Ended::Deleted);
            };
            self.meters.depth.set(depth);
            if depth >= LONG && !long {
                warn!(
                    queue = self.queue.name,
                    depth, "the pulse queue grows: pulse deletes it at 8,000 messages"
                );
            }
            long = depth >= LONG;
            self.producer.clock().sleep(LOOK).await;
            let refused = self.queue.bind(connection, unbound, known).await?;
            unbound = self.queue.report(refused, known);
        }
    }
}

#[async_trait]
impl Service for Listener {
    fn name(&self) -> &str {
        &self.queue.name
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let clock = self.producer.clock();
        let (mut known, mut sessions) = (Known::default(), Sessions::none());
        loop {
            let ended = self.session(&shutdown, &mut known, &mut sessions).await;
            sessions.ends(clock.now());
            let wait = match ended {
                Ok(Ended::Stopped) => return Ok(()),
                // It is missed, and made again as soon as may be: what is published meanwhile is lost.
                Ok(Ended::Deleted) => sessions.wait_after_end(clock.as_ref()),
                Err(error) if sessions.is_fault_at_start(&error) => return Err(error.into()),
                Err(error) => {
                    if sessions.is_news(&error) {
                        let error = error_chain(&error);
                        warn!(
                            queue = self.queue.name,
                            error, "pulse cannot be listened to, it is tried until it can"
                        );
                    }
                    sessions.wait(clock.as_ref())
                }
            };
            tokio::select! {
                () = clock.sleep(wait) => {}
                () = shutdown.stopping() => return Ok(()),
            }
        }
    }
}
