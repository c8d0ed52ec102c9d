//! Work that one process does for all, such as polling a service: of the processes of a deployment
//! one holds the leader lease.
//!
//! # Who holds it
//!
//! The holder writes a number into a record at each [renewal](LeaderLease::RENEW_INTERVAL), always one more. Whoever has
//! seen the same number for [`TTL`], by its own clock, puts itself in the holder's place: clocks of different machines are
//! never compared. Both write by compare-and-set, so of several who try at once one succeeds, and a holder that was
//! replaced notices at its next renewal.
//!
//! Between two renewals a process may be stopped for longer than that, and go on as if it held the lease. So what the holder
//! does must bear it: a cursor is swapped, a message has a key.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Bus, BusError, Field, RecordStore};
use runtime::Clock;

const LEDGER: RecordStore = RecordStore {
    name: "leader-leases",
    retention: Duration::from_secs(24 * 3600),
};
const HOLDER: Field<Renewal> = Field::new("holder");

/// How long after its last renewal a holder counts as gone.
const TTL: Duration = Duration::from_secs(15);

/// A process's candidacy for a lease.
pub struct LeaderLease {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    name: String,
    me: Uuid,
    /// Another holder's last renewal, and when it was first seen.
    seen: Option<(Renewal, Timestamp)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Renewal {
    holder: Uuid,
    number: u64,
}

impl LeaderLease {
    /// How often [`try_acquire`](Self::try_acquire) is to be called. A holder that dies is followed within five renewals.
    pub const RENEW_INTERVAL: Duration = Duration::from_secs(5);

    /// A candidate for the lease with this name, unique in a deployment.
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

    /// Takes the lease if it is free, keeps it if it is ours. Returns whether we hold it.
    pub async fn try_acquire(&mut self) -> Result<bool, BusError> {
        let held = self.read().await?;
        let number = match &held {
            Some(renewal) if renewal.holder == self.me => renewal.number + 1,
            Some(renewal) if !self.is_gone(renewal) => return Ok(false),
            Some(_) | None => 0,
        };
        let mine = Renewal {
            holder: self.me,
            number,
        };
        self.compare_and_set(held.as_ref(), Some(&mine)).await
    }

    /// Leaves the lease to whoever is next.
    pub async fn release(&mut self) -> Result<(), BusError> {
        match self.read().await? {
            Some(renewal) if renewal.holder == self.me => {
                self.compare_and_set(Some(&renewal), None).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    fn is_gone(&mut self, renewal: &Renewal) -> bool {
        let now = self.clock.now();
        match &self.seen {
            Some((seen, since)) if seen == renewal => {
                now.duration_since(*since).unsigned_abs() >= TTL
            }
            _ => {
                self.seen = Some((renewal.clone(), now));
                false
            }
        }
    }

    async fn read(&self) -> Result<Option<Renewal>, BusError> {
        let record = self
            .bus
            .records(&LEDGER, std::slice::from_ref(&self.name))
            .await?
            .pop()
            .unwrap_or_default();
        record.field(HOLDER).map_err(|source| BusError::Record {
            record: self.name.clone(),
            source,
        })
    }

    async fn compare_and_set(
        &self,
        expected: Option<&Renewal>,
        new: Option<&Renewal>,
    ) -> Result<bool, BusError> {
        let change = LEDGER.compare_and_set(&self.name, HOLDER, expected, new)?;
        self.bus.compare_and_set(change, Vec::new()).await
    }
}
