//! Work that one process does for all, such as polling a service: of the processes of a deployment one holds the seat.
//!
//! # Who holds it
//!
//! The holder writes a number into a record at each [beat](Seat::BEAT), always one more. Whoever has seen the same number for
//! [`PATIENCE`], by its own clock, puts itself in the holder's place: clocks of different machines are never compared. Both
//! write by compare-and-set, so of several who try at once one succeeds, and a holder that was replaced notices at its next
//! beat.
//!
//! Between two beats a process may be stopped for longer than that, and go on as if it held the seat. So what the holder
//! does must bear it: a cursor is swapped, a message has a key.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Bus, BusError, Ledger};
use runtime::Clock;

const LEDGER: Ledger = Ledger {
    name: "seats",
    retention: Duration::from_secs(24 * 3600),
};
const SLOT: &str = "holder";

/// How long after its last beat a holder counts as gone.
const PATIENCE: Duration = Duration::from_secs(15);

/// A process's claim to a seat.
pub struct Seat {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    name: String,
    me: Uuid,
    /// Another holder's last beat, and when it was first seen.
    seen: Option<(Beat, Timestamp)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Beat {
    holder: Uuid,
    number: u64,
}

impl Seat {
    /// How often [`hold`](Self::hold) is to be called. A holder that dies is followed within five beats.
    pub const BEAT: Duration = Duration::from_secs(5);

    /// A claim to the seat with this name, unique in a deployment.
    pub fn new(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>, name: impl Into<String>) -> Self {
        let me = clock.new_id();
        Self {
            bus,
            clock,
            name: name.into(),
            me,
            seen: None,
        }
    }

    /// Takes the seat if it is free, keeps it if it is ours. Returns whether we hold it.
    pub async fn hold(&mut self) -> Result<bool, BusError> {
        let held = self.read().await?;
        let number = match &held {
            Some(beat) if beat.holder == self.me => beat.number + 1,
            Some(beat) if !self.is_gone(beat) => return Ok(false),
            Some(_) | None => 0,
        };
        let mine = Beat {
            holder: self.me,
            number,
        };
        self.compare_and_set(held.as_ref(), Some(&mine)).await
    }

    /// Leaves the seat to whoever is next.
    pub async fn leave(&mut self) -> Result<(), BusError> {
        match self.read().await? {
            Some(beat) if beat.holder == self.me => {
                self.compare_and_set(Some(&beat), None).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    fn is_gone(&mut self, beat: &Beat) -> bool {
        let now = self.clock.now();
        match &self.seen {
            Some((seen, since)) if seen == beat => {
                now.duration_since(*since).unsigned_abs() >= PATIENCE
            }
            _ => {
                self.seen = Some((beat.clone(), now));
                false
            }
        }
    }

    async fn read(&self) -> Result<Option<Beat>, BusError> {
        let record = self
            .bus
            .records(&LEDGER, std::slice::from_ref(&self.name))
            .await?
            .pop()
            .unwrap_or_default();
        record.slot(SLOT).map_err(|source| BusError::Record {
            record: self.name.clone(),
            source,
        })
    }

    async fn compare_and_set(
        &self,
        expected: Option<&Beat>,
        new: Option<&Beat>,
    ) -> Result<bool, BusError> {
        let change = LEDGER.compare_and_set(&self.name, SLOT, expected, new)?;
        self.bus.compare_and_set(change, Vec::new()).await
    }
}
