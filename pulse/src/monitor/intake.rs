//! From Pulse to the buffer, as fast as messages come.
//!
//! A Pulse queue that grows over 8,000 messages is deleted, so a message is read, filtered, put in the buffer and
//! acknowledged at once, and nothing here waits for a handler. What this costs: what is in the buffer when the process
//! dies is lost.

use std::{pin::pin, sync::Arc};

use futures::{FutureExt, StreamExt};
use lapin::{message::Delivery, options::BasicAckOptions};
use runtime::{Clock, Shutdown, SystemClock, error_chain};
use tracing::{error, info, warn};

use super::{
    buffer::Buffer,
    event::Event,
    filters::Filters,
    meters::Meters,
    seldom::Seldom,
    source::{MAX_BODY, Source, Wanted},
};
use crate::{
    PulseError, PulseMessage, PulseSettings, Topic,
    outage::{LASTED, Sessions},
    subscription::{Lifetime, Subscription},
};

/// How many messages RabbitMQ sends ahead.
const PREFETCH: u16 = 200;

/// The largest event that is handed out, in bytes of JSON: events are kept in memory by many.
const MAX_EVENT: usize = 16 * 1024;

/// Something to be handed out.
pub(super) enum Item {
    /// What somebody wanted to hear of.
    Event(Event),
    /// A message as it came.
    Message(PulseMessage),
}

impl Item {
    pub(super) fn key(&self) -> &str {
        match self {
            Self::Event(event) => event.key(),
            Self::Message(message) => &message.routing.key,
        }
    }
}

/// Takes messages from Pulse, through every outage.
pub(super) struct Intake {
    pub(super) settings: PulseSettings,
    pub(super) source: Source,
    pub(super) topics: Vec<Topic>,
    pub(super) filters: Filters,
    pub(super) wanted: Wanted,
    /// That of the queue. Without one the queue has a random name, and ends with the connection.
    pub(super) label: Option<String>,
    pub(super) buffer: Arc<Buffer<Item>>,
    pub(super) meters: Arc<Meters>,
    pub(super) shutdown: Shutdown,
}

/// The events that are logged once a minute at most.
#[derive(Default)]
struct Said {
    unreadable: Seldom,
    dropped: Seldom,
}

impl Intake {
    /// Takes messages until shutdown. An error is one that shows at the start, and that only another setting ends.
    pub(super) async fn run(self) -> Result<(), PulseError> {
        let taken = self.take().await;
        self.buffer.close();
        taken
    }

    async fn take(&self) -> Result<(), PulseError> {
        let (mut sessions, mut said) = (Sessions::none(), Said::default());
        while !self.shutdown.is_stopping() {
            let ended = self.session(&mut sessions, &mut said).await;
            sessions.ends(SystemClock.now());
            let wait = match ended {
                // A queue that was deleted is made again as soon as may be.
                Ok(()) => sessions.wait_after_end(&SystemClock),
                Err(error) if sessions.is_fault_at_start(&error) => return Err(error),
                Err(error) => {
                    if sessions.is_news(&error) {
                        let (exchange, error) = (self.source.exchange(), error_chain(&error));
                        warn!(
                            exchange,
                            error,
                            "the build monitor cannot listen to pulse, it is tried until it can"
                        );
                    }
                    sessions.wait(&SystemClock)
                }
            };
            tokio::select! {
                () = SystemClock.sleep(wait) => {}
                () = self.shutdown.stopping() => {}
            }
        }
        Ok(())
    }

    /// One connection, until it is lost, the queue is deleted, or shutdown.
    async fn session(&self, sessions: &mut Sessions, said: &mut Said) -> Result<(), PulseError> {
        let random = || format!("monitor-{:016x}", SystemClock.random());
        // A random name is drawn for each connection: RabbitMQ may not know yet that the last one is gone.
        let queue = self
            .settings
            .queue(&self.label.clone().unwrap_or_else(random));
        let lifetime = if self.label.is_some() {
            Lifetime::Durable
        } else {
            Lifetime::Connection
        };
        let exchange = self.source.exchange();
        let doing = format!("take messages of {exchange} from {queue}");
        let broke = || PulseError::doing(&self.settings, &*doing);
        let (named, bound) = (
            (queue.as_str(), lifetime),
            (exchange, self.topics.as_slice()),
        );
        let Subscription {
            connection,
            channel,
            mut consumer,
        } = tokio::select! {
            () = self.shutdown.stopping() => return Ok(()),
            opened = Subscription::open(&self.settings, named, bound, PREFETCH, &doing) => opened?,
        };
        let begin = sessions.begins(SystemClock.now());
        self.meters.reconnects.increment(u64::from(begin.again));
        if begin.is_news {
            info!(queue, exchange, "the build monitor listens");
        }
        let mut lasts = pin!(SystemClock.sleep(LASTED));
        let mut lasted = false;
        loop {
            let first = tokio::select! {
                biased;
                () = self.shutdown.stopping() => break,
                first = consumer.next() => first,
                () = &mut lasts, if !lasted => {
                    lasted = true;
                    if sessions.has_lasted() {
                        info!(queue, exchange, "the build monitor listens");
                    }
                    continue;
                }
            };
            if first.is_none() {
                warn!(
                    queue,
                    "the queue of the build monitor was deleted with what was in it: it is declared again"
                );
                break;
            }
            let (mut next, mut last) = (Some(first), None);
            // What has come already is acknowledged with it. An end is found again by the next look.
            while let Some(Some(delivery)) = next {
                let delivery = delivery.map_err(broke())?;
                last = Some(delivery.delivery_tag);
                self.receive(delivery, said);
                next = consumer.next().now_or_never();
            }
            if let Some(tag) = last {
                channel
                    .basic_ack(tag, BasicAckOptions { multiple: true })
                    .await
                    .map_err(broke())?;
            }
        }
        connection.close().await;
        Ok(())
    }

    fn receive(&self, delivery: Delivery, said: &mut Said) {
        let message = PulseMessage::from(delivery);
        let now = SystemClock.now();
        let event = match self.source.read(&message, now) {
            Ok(event) => event.filter(|event| self.wants(event)),
            Err(error) => {
                self.refuse(&message, &error_chain(&error), said);
                None
            }
        };
        let event = event.filter(|event| {
            let size = serde_json::to_vec(event).map_or(usize::MAX, |json| json.len());
            if size > MAX_EVENT {
                self.refuse(
                    &message,
                    &format!("its event would have {size} bytes, more than {MAX_EVENT}"),
                    said,
                );
            }
            size <= MAX_EVENT
        });
        let event = event.map(Item::Event);
        // A larger one was refused above: what waits in memory is bounded.
        let whole = self.wanted.messages && message.body.len() <= MAX_BODY;
        for item in whole
            .then_some(Item::Message(message))
            .into_iter()
            .chain(event)
        {
            self.meters.accepted.increment(1);
            let Some(dropped) = self.buffer.put(item) else {
                continue;
            };
            self.meters.dropped.increment(1);
            if let Some(count) = said.dropped.happens(now) {
                warn!(
                    count,
                    key = dropped.key(),
                    "handlers of the build monitor are too slow: the oldest of what waits for them is dropped"
                );
            }
        }
        // Last: whoever sees it counted here finds what came of it in the other counters.
        self.meters.messages.increment(1);
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = match event {
            Event::Build(_) => self.wanted.builds,
            Event::Test(_) => self.wanted.tests,
        };
        kind && self.filters.want(event)
    }

    fn refuse(&self, message: &PulseMessage, error: &str, said: &mut Said) {
        self.meters.unreadable.increment(1);
        if let Some(count) = said.unreadable.happens(SystemClock.now()) {
            error!(
                count,
                key = message.routing.key,
                error,
                "no build or test can be read from a message, it is passed over"
            );
        }
    }
}
