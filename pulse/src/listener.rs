//! Listens to one Pulse queue, through every outage.

use std::time::Duration;

use async_trait::async_trait;
use bus::{Producer, Shutdown, Subsystem, SubsystemError, error_chain};
use tracing::{info, warn};

use crate::{
    PulseError, PulseSettings, Route,
    connection::Connection,
    drain::{Drain, Ended, PREFETCH},
    meters::Meters,
    outage::Outage,
    queue::{Known, PulseQueue},
};

/// How often the queue's depth is read, and what could not be bound is tried again.
const LOOK: Duration = Duration::from_secs(30);

/// A queue of this length is warned of, as Pulse does.
const LONG: u32 = 2_000;

/// Moves messages from one durable Pulse queue to the bus. Several processes may listen to the same queue.
///
/// It runs until it is told to stop, whatever RabbitMQ and the bus do meanwhile: an outage is logged once, and tried
/// until it ends. A route whose exchange cannot be used is logged and tried again; the others go on.
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
        Ok(Self { queue, producer, meters })
    }

    /// One connection, from its begin to its end.
    async fn session(
        &self,
        shutdown: &Shutdown,
        known: &mut Known,
        outage: &mut Outage<PulseError>,
    ) -> Result<Ended, PulseError> {
        let begin = async {
            let connection = Connection::open(&self.queue.settings, &self.queue.name).await?;
            self.queue.declare(&connection, known).await?;
            let unbound = self.queue.bind(&connection, &self.queue.routes, known).await?;
            let (channel, consumer) = self.queue.consume(&connection, PREFETCH).await?;
            Ok((connection, unbound, channel, consumer))
        };
        let (connection, unbound, channel, consumer) = tokio::select! {
            () = shutdown.stopping() => return Ok(Ended::Stopped),
            begun = begin => begun?,
        };
        if outage.ends() {
            self.meters.reconnects.increment(1);
        }
        info!(queue = self.queue.name, "listening to pulse");
        let drain =
            Drain { queue: &self.queue, producer: &self.producer, meters: &self.meters, shutdown, channel: &channel };
        let ended = tokio::select! {
            ended = drain.run(consumer) => ended,
            ended = self.watch(&connection, unbound, known) => ended,
        };
        connection.close().await;
        ended
    }

    /// Looks at the queue now and then, also while nothing can be stored, which is when it grows.
    async fn watch(
        &self,
        connection: &Connection,
        mut unbound: Vec<&Route>,
        known: &mut Known,
    ) -> Result<Ended, PulseError> {
        let mut long = false;
        loop {
            let Some(depth) = self.queue.depth(connection).await? else { return Ok(Ended::Deleted) };
            self.meters.depth.set(depth);
            if depth >= LONG && !long {
                warn!(queue = self.queue.name, depth, "the pulse queue grows: pulse deletes it at 8,000 messages");
            }
            long = depth >= LONG;
            self.producer.clock().sleep(LOOK).await;
            unbound = self.queue.bind(connection, unbound, known).await?;
        }
    }
}

#[async_trait]
impl Subsystem for Listener {
    fn name(&self) -> &str {
        &self.queue.name
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), SubsystemError> {
        let clock = self.producer.clock();
        let (mut known, mut outage) = (Known::default(), Outage::none());
        loop {
            match self.session(&shutdown, &mut known, &mut outage).await {
                Ok(Ended::Stopped) => return Ok(()),
                // It is missed and made again without a pause: what is published meanwhile is lost.
                Ok(Ended::Deleted) => continue,
                Err(error) => {
                    if outage.is_news(&error) {
                        let error = error_chain(&error);
                        warn!(queue = self.queue.name, error, "pulse cannot be listened to, it is tried until it can");
                    }
                }
            }
            tokio::select! {
                () = clock.sleep(outage.wait(clock.as_ref())) => {}
                () = shutdown.stopping() => return Ok(()),
            }
        }
    }
}
