//! A queue of notes, for the unit tests of what reserves and settles messages.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use runtime::ManualClock;
use serde::{Deserialize, Serialize};

use crate::{
    Bus, BusError, Context, Delivery, Handler, MemoryBus, Message, Outcome, Policy, Queue, Reserve,
};

#[derive(Serialize, Deserialize)]
pub(crate) struct Note;

impl Message for Note {
    const VERSION: u16 = 1;
}

/// Handles each note without an effect.
pub(crate) struct Done;

#[async_trait]
impl Handler<Note> for Done {
    type Error = BusError;

    async fn handle(&self, _: Note, _: &Context) -> Result<Outcome, BusError> {
        Ok(Outcome::Done)
    }
}

pub(crate) const NOTES: Queue<Note> = Queue::new("notes", Policy::DEFAULT);

/// A clock, and a bus with one message.
pub(crate) async fn bus_with_note() -> (Arc<ManualClock>, Arc<MemoryBus>) {
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let bus = Arc::new(MemoryBus::new(clock.clone()));
    let message = NOTES.pack(&Note, clock.as_ref()).unwrap();
    bus.push(vec![message]).await.unwrap();
    (clock, bus)
}

/// Reserves the next message.
pub(crate) async fn reserve(bus: &MemoryBus) -> Delivery {
    let mut deliveries = bus.reserve(&NOTES.spec(), Reserve::now(1)).await.unwrap();
    deliveries.pop().expect("a message is ready")
}

/// Reserves the next message, and lets its lease run out.
pub(crate) async fn lose_lease(bus: &MemoryBus, clock: &ManualClock) -> Delivery {
    let delivery = reserve(bus).await;
    clock.advance(2 * NOTES.spec().policy.lease);
    delivery
}
