//! Calls that reserve messages and renew leases.

use redis::{Cmd, Script};

use super::{Call, EntryName, count, millis};
use crate::{Lease, POISON_SUSPECT_DELIVERIES, QueueSpec, redis::entries::RawEntry};

/// The first half of a reservation from a queue without partitions: all but new messages.
pub(in crate::redis) struct Poll<'a> {
    pub(in crate::redis) queue: &'a QueueSpec,
    pub(in crate::redis) consumer: &'a str,
    pub(in crate::redis) max: usize,
}

impl Call for Poll<'_> {
    type Answer = (Vec<RawEntry>, i64, usize, bool);

    fn script(&self) -> &'static Script {
        script!("common", "reserve_common", "poll")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(self.consumer)
            .arg(count(self.max));
        call.arg(millis(self.queue.policy.lease))
            .arg(POISON_SUSPECT_DELIVERIES);
    }
}

/// A reservation from a queue with partitions.
pub(in crate::redis) struct ReserveFromPartitions<'a> {
    pub(in crate::redis) queue: &'a QueueSpec,
    pub(in crate::redis) consumer: &'a str,
    pub(in crate::redis) max: usize,
    pub(in crate::redis) skip: &'a [String],
}

impl Call for ReserveFromPartitions<'_> {
    type Answer = (Vec<RawEntry>, i64, String);

    fn script(&self) -> &'static Script {
        script!("common", "reserve_common", "reserve")
    }

    fn arguments(&self, call: &mut Cmd) {
        call.arg(self.queue.name)
            .arg(self.consumer)
            .arg(count(self.max));
        call.arg(millis(self.queue.policy.lease))
            .arg(POISON_SUSPECT_DELIVERIES)
            .arg(self.skip.len())
            .arg(self.skip);
    }
}

/// Renews a lease.
pub(in crate::redis) struct Extend<'a> {
    pub(in crate::redis) lease: &'a Lease,
    pub(in crate::redis) consumer: &'a str,
}

impl Call for Extend<'_> {
    type Answer = bool;

    fn script(&self) -> &'static Script {
        script!("common", "extend")
    }

    fn arguments(&self, call: &mut Cmd) {
        let Self { lease, consumer } = self;
        call.arg(lease.queue)
            .arg(lease.partition.as_deref().unwrap_or_default())
            .arg(EntryName(lease.entry));
        call.arg(*consumer).arg(lease.delivery);
    }
}
