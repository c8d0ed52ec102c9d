//! From Pulse to the buffer, as fast as messages arrive.
//!
//! PulseGuardian deletes a queue with more than 8,000 messages. So a message is read, filtered, put in the buffer and
//! acknowledged at once, and nothing here waits for a handler. The cost: what is in the buffer when the process dies is
//! lost.

use std::sync::Arc;

use async_channel::Sender;
use jiff::Timestamp;
use pulse::{Delivery, Flow, PulseMessage, Sink};
use runtime::{Clock, LogRateLimiter, Shutdown, SystemClock, error_chain};
use tracing::{error, warn};

use crate::{
    event::Event,
    filters::Filters,
    meters::Meters,
    source::{MAX_BODY, Selection, Source},
};

/// The largest event, in bytes of JSON: many of them are kept in memory.
const MAX_EVENT: usize = 16 * 1024;

/// One call of a handler.
pub(crate) enum Item {
    Event(Event),
    /// A message as it came.
    Message(PulseMessage),
}

impl Item {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Event(event) => event.key(),
            Self::Message(message) => &message.routing.key,
        }
    }
}

/// Puts the selected events and messages in the buffer.
pub(crate) struct EventSink {
    pub(crate) source: Source,
    pub(crate) filters: Filters,
    pub(crate) selection: Selection,
    pub(crate) buffer: Sender<Item>,
    pub(crate) meters: Arc<Meters>,
    pub(crate) parse_errors: LogRateLimiter,
    pub(crate) drops: LogRateLimiter,
}

impl Sink for EventSink {
    async fn accept(&mut self, batch: Vec<Delivery>, _: &Shutdown) -> Flow {
        for delivery in &batch {
            self.receive(&delivery.message);
        }
        if let Some(last) = batch.last() {
            // When the connection is lost, RabbitMQ delivers the batch again.
            last.acknowledge_through().await;
        }
        Flow::Continue
    }
}

impl EventSink {
    fn receive(&mut self, message: &PulseMessage) {
        let now = SystemClock.now();
        // A body that is too large is refused here: what waits in memory is bounded.
        let whole = (self.selection.messages && message.body.len() <= MAX_BODY)
            .then(|| Item::Message(message.clone()));
        let event = self.event(message, now).map(Item::Event);
        for item in whole.into_iter().chain(event) {
            self.put(item, now);
        }
        // The last counter: a reader that sees the message counted here finds its result in the others.
        self.meters.messages.increment(1);
    }

    fn event(&mut self, message: &PulseMessage, now: Timestamp) -> Option<Event> {
        let event = match self.source.read(message, now) {
            Ok(event) => event.filter(|event| self.selects(event))?,
            Err(error) => {
                self.refuse(message, &error_chain(&error), now);
                return None;
            }
        };
        let size = serde_json::to_vec(&event).map_or(usize::MAX, |json| json.len());
        if size > MAX_EVENT {
            let error = format!("its event would have {size} bytes, more than {MAX_EVENT}");
            self.refuse(message, &error, now);
            return None;
        }
        Some(event)
    }

    fn selects(&self, event: &Event) -> bool {
        let kind = match event {
            Event::Build(_) => self.selection.builds,
            Event::Test(_) => self.selection.tests,
        };
        kind && self.filters.select(event)
    }

    fn put(&mut self, item: Item, now: Timestamp) {
        self.meters.accepted.increment(1);
        // A full buffer drops the oldest, since the newest builds matter most. It fails only when the buffer is closed:
        // without a reader, the process or the stream is about to end.
        let Ok(Some(dropped)) = self.buffer.force_send(item) else {
            return;
        };
        self.meters.dropped.increment(1);
        if let Some(count) = self.drops.count(now) {
            warn!(
                count,
                key = dropped.key(),
                "handlers of the build monitor are too slow; dropping the oldest events"
            );
        }
    }

    fn refuse(&mut self, message: &PulseMessage, error: &str, now: Timestamp) {
        self.meters.parse_errors.increment(1);
        if let Some(count) = self.parse_errors.count(now) {
            error!(
                count,
                key = message.routing.key,
                error,
                "cannot read a build or a test from a message; skipping it"
            );
        }
    }
}
