//! Work that one process of a deployment does for all, such as polling a service: the leader does it.
//!
//! # Election
//!
//! The leader increments a number in a record at each [renewal](LeaderLease::RENEW_INTERVAL). A candidate that has read the
//! same number for [`TTL`], by its own clock, takes the lease over: clocks of different machines are never compared. Both
//! write by compare-and-set. So of several candidates at once one succeeds, and a leader that was replaced notices at its next
//! renewal.
//!
//! A process may be stopped between two renewals for longer than that, and then go on as if it were leader. So two leaders
//! at once must do no harm: their cursors change by compare-and-set, and their messages have deduplication keys.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Bus, BusError, Field, RecordStore};
use runtime::Clock;

const STORE: RecordStore = RecordStore {
    name: "leader-leases",
    retention: Duration::from_secs(24 * 3600),
};
const HOLDER: Field<Renewal> = Field::new("holder");

/// The time after the last renewal from which on a leader counts as gone.
const TTL: Duration = Duration::from_secs(15);

/// The leader lease of this name, as one process sees it.
pub struct LeaderLease {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    name: String,
    me: Uuid,
    /// The last renewal of another leader, and when this process first read it.
    seen: Option<(Renewal, Timestamp)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Renewal {
    holder: Uuid,
    number: u64,
}

impl LeaderLease {
    /// The interval at which [`try_acquire`](Self::try_acquire) has to be called. A leader that dies is replaced within
    /// five intervals.
    pub const RENEW_INTERVAL: Duration = Duration::from_secs(5);

    /// A candidate for the lease with this name, which is unique in a deployment.
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

    /// Acquires the lease if it is free, and renews it if this process has it. Returns whether this process is leader.
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

    /// Releases the lease, if this process has it, so that another can acquire it at once.
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
            .records(&STORE, std::slice::from_ref(&self.name))
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
        let change = STORE.compare_and_set(&self.name, HOLDER, expected, new)?;
        self.bus.compare_and_set(change, Vec::new()).await
    }
}
