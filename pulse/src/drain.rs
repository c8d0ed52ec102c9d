//! From Pulse to the bus.
//!
//! # What may be lost or doubled
//!
//! A message is acknowledged after the bus has stored it, never before. Between the two anything may die: then RabbitMQ
//! delivers the message again, to this process or another, and the bus finds its key. So it is stored once, as long as
//! the key is remembered (the `dedup_window` of the bus queue).
//!
//! Acknowledging is by tag, all up to one: messages are stored in the order of their tags, so all earlier ones are
//! stored too.
//!
//! A bus that is full or away stops the taking: RabbitMQ sends no more than the prefetch, and what was sent is kept here and
//! tried again. When this ends before it was stored, closing the connection gives it back.

use std::time::Duration;

use bus::{BusError, EnqueueOutcome, Producer};
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use lapin::{Channel, Consumer, message::Delivery, options::BasicAckOptions};
use runtime::{Shutdown, error_chain};
use tracing::{info, warn};

use crate::{
    PulseError, PulseMessage, Routing, meters::Meters, outage::Outage, queue::PulseQueue,
    route::pack,
};

/// How many messages RabbitMQ sends ahead, and the most that are stored at once.
pub(crate) const PREFETCH: u16 = 500;
/// The most bytes of messages that are stored at once, unless one alone has more.
const MAX_BYTES: usize = 8 << 20;

/// Why taking ended without a failure.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The process is about to stop.
    Stopped,
    /// The queue is gone.
    Deleted,
}

/// Moves messages from one consumer to the bus.
pub(crate) struct Drain<'a> {
    pub(crate) queue: &'a PulseQueue,
    pub(crate) producer: &'a Producer,
    pub(crate) meters: &'a Meters,
    pub(crate) shutdown: &'a Shutdown,
    pub(crate) channel: &'a Channel,
}

/// A message that came, and is not acknowledged.
struct Arrived {
    tag: u64,
    /// When it was published, if it says so.
    published: Option<Timestamp>,
    message: PulseMessage,
}

impl Drain<'_> {
    /// Takes and stores until shutdown, or something happens to the queue or the connection.
    pub(crate) async fn run(&self, mut consumer: Consumer) -> Result<Ended, PulseError> {
        let (mut unwanted, mut outage) = (Outage::none(), Outage::none());
        loop {
            let first = tokio::select! {
                biased;
                () = self.shutdown.stopping() => return Ok(Ended::Stopped),
                first = consumer.next() => first,
            };
            let Some(first) = first else {
                return Ok(Ended::Deleted);
            };
            let mut bytes = 0;
            let mut batch = Vec::new();
            let mut next = Some(Some(first));
            // What has come already is taken along. An end is found again by the next look.
            while let Some(Some(delivery)) = next {
                let delivery = delivery.map_err(self.broke())?;
                bytes += delivery.data.len();
                batch.push(self.arrived(delivery, &mut unwanted));
                let room = batch.len() < PREFETCH.into() && bytes < MAX_BYTES;
                next = if room {
                    consumer.next().now_or_never()
                } else {
                    None
                };
            }
            if !self.store(&batch, &mut outage).await? {
                return Ok(Ended::Stopped);
            }
        }
    }

    fn broke(&self) -> impl FnOnce(lapin::Error) -> PulseError {
        PulseError::doing(
            &self.queue.settings,
            format!("take messages from {}", self.queue.name),
        )
    }

    fn arrived(&self, delivery: Delivery, unwanted: &mut Outage<()>) -> Arrived {
        let (tag, published) = (delivery.delivery_tag, published(&delivery));
        let message = PulseMessage::from(delivery);
        let Routing { exchange, key, .. } = &message.routing;
        if !self
            .queue
            .routes
            .iter()
            .any(|route| route.wants(&message.routing))
        {
            self.meters.unwanted.increment(1);
            if unwanted.is_news(&()) {
                warn!(
                    queue = self.queue.name,
                    exchange,
                    key,
                    "a message came that no route asks for and is dropped: if the queue was bound to more than what is \
                     configured now, delete it in PulseGuardian when it is empty"
                );
            }
        }
        Arrived {
            tag,
            published,
            message,
        }
    }

    async fn push(&self, part: &[Arrived]) -> Result<EnqueueOutcome, BusError> {
        let mut outgoing = Vec::with_capacity(part.len());
        for Arrived { message, .. } in part {
            outgoing.extend(pack(
                &self.queue.routes,
                message,
                self.producer.clock().as_ref(),
            )?);
        }
        self.producer.bus().push(outgoing).await
    }

    /// Stores and acknowledges all of `batch`, however long it takes. False at a shutdown before that.
    async fn store(
        &self,
        batch: &[Arrived],
        outage: &mut Outage<BusError>,
    ) -> Result<bool, PulseError> {
        let clock = self.producer.clock();
        let mut at_once = true;
        let (mut rest, mut most) = (batch, batch.len());
        while !rest.is_empty() {
            let (part, later) = rest.split_at(most.min(rest.len()));
            match self.push(part).await {
                Ok(pushed) => {
                    self.meters.count(pushed);
                    self.acknowledge(part).await?;
                    outage.eases();
                    rest = later;
                }
                // There may be room for fewer.
                Err(BusError::Full { .. }) if part.len() > 1 => most = part.len() / 2,
                Err(error) => {
                    at_once = false;
                    if outage.is_news(&error) {
                        let error = error_chain(&error);
                        warn!(
                            queue = self.queue.name,
                            error,
                            "the bus does not store messages from pulse: nothing more is taken, and it is tried until it does"
                        );
                    }
                    tokio::select! {
                        () = clock.sleep(outage.wait(clock.as_ref())) => {}
                        () = self.shutdown.stopping() => return Ok(false),
                    }
                }
            }
        }
        // Not before: a full bus takes one message now and then.
        if at_once && outage.ends() {
            info!(
                queue = self.queue.name,
                "the bus stores messages from pulse again"
            );
        }
        Ok(true)
    }

    async fn acknowledge(&self, part: &[Arrived]) -> Result<(), PulseError> {
        let Some(last) = part.last() else {
            return Ok(());
        };
        let now = self.producer.clock().now();
        for published in part.iter().filter_map(|arrived| arrived.published) {
            // Clocks differ: what was published in the future took no time.
            self.meters
                .lag
                .record(Duration::try_from(now.duration_since(published)).unwrap_or_default());
        }
        self.channel
            .basic_ack(last.tag, BasicAckOptions { multiple: true })
            .await
            .map_err(self.broke())
    }
}

fn published(delivery: &Delivery) -> Option<Timestamp> {
    let seconds = (*delivery.properties.timestamp())?;
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}
