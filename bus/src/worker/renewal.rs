//! Renewal of leases, also after an outage of the bus, and the precedence of messages in flight over reservations then.

use std::time::Duration;

use runtime::chain;
use tokio::sync::watch;
use tracing::warn;

use super::Worker;
use crate::{Backoff, BusError, Delivery};

/// The pause before a failed renewal is retried. In an outage that is longer than the leases, all of them run out: then
/// living workers have to renew before any process reserves, see [`HEAD_START`].
const RENEWAL_RETRY: Duration = Duration::from_millis(150);

/// The pauses before a failed settlement, or the failed record of an effect, is retried: as short, for the same reason.
pub(crate) const WRITE_RETRY: Backoff = Backoff {
    first: Duration::from_millis(50),
    factor: 2,
    cap: RENEWAL_RETRY,
};

/// The time after an outage in which this process reserves nothing, so that other processes can renew their leases and
/// settle first. Longer than [`RENEWAL_RETRY`] and [`WRITE_RETRY`].
const HEAD_START: Duration = Duration::from_millis(300);

/// The longest wait of reservations for the failed writes of their own process.
const OWN_WRITES: Duration = Duration::from_secs(2);

/// The number of renewals and batches of settlements whose last try failed.
#[derive(Debug, Default)]
pub(crate) struct FailedWrites(watch::Sender<usize>);

impl FailedWrites {
    pub(super) fn add(&self) -> FailedWrite<'_> {
        self.0.send_modify(|failing| *failing += 1);
        FailedWrite(self)
    }

    async fn until_none(&self) {
        // It fails only without a sender, and `self` has one.
        let _ = self.0.subscribe().wait_for(|failing| *failing == 0).await;
    }
}

/// A write that failed: counted until it is dropped.
pub(super) struct FailedWrite<'a>(&'a FailedWrites);

impl Drop for FailedWrite<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|failing| *failing -= 1);
    }
}

impl Worker {
    /// Renews the lease at a third of its length, and returns when it is lost.
    pub(super) async fn renew(&self, delivery: &Delivery) {
        let third = self.queue.policy.lease / 3;
        let mut failed = None;
        loop {
            let pause = if failed.is_some() {
                third.min(RENEWAL_RETRY)
            } else {
                third
            };
            self.clock.sleep(pause).await;
            match self.bus.extend(&delivery.lease).await {
                Ok(()) => failed = None,
                Err(BusError::LeaseLost { .. }) => return,
                Err(error) if failed.is_none() => {
                    warn!(error = chain(&error), "cannot renew a lease; retrying");
                    failed = Some(self.failed_writes.add());
                }
                Err(_) => {}
            }
        }
    }

    /// After an outage, waits until living workers could renew their leases and settle. Returns an error while the outage
    /// goes on.
    pub(crate) async fn let_renew(&self) -> Result<(), BusError> {
        self.bus.ping().await?;
        let own = async {
            tokio::select! {
                () = self.failed_writes.until_none() => {}
                () = self.clock.sleep(OWN_WRITES) => {}
            }
        };
        tokio::join!(own, self.clock.sleep(HEAD_START));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc};

    use futures::FutureExt;
    use runtime::{Clock, ManualClock};

    use super::*;
    use crate::{
        Bus, MemoryBus, RedisBus, RedisOptions, Reserve, Settlement, dyn_handler,
        metrics::Metrics,
        tests::{Done, NOTES, bus_with_note, lose_lease},
        worker::{DeliveryEnd, Ended},
    };
    use runtime::Shutdown;

    /// A clock, a bus with a message, and the delivery of that message, whose lease has run out.
    async fn delivery_without_lease() -> (Arc<ManualClock>, Arc<MemoryBus>, Delivery) {
        let (clock, bus) = bus_with_note().await;
        let delivery = lose_lease(&bus, &clock).await;
        (clock, bus, delivery)
    }

    fn worker(bus: Arc<dyn Bus>, clock: Arc<dyn Clock>) -> Worker {
        let queue = NOTES.spec();
        Worker {
            bus,
            clock,
            queue,
            handler: dyn_handler::erase(Done),
            metrics: Metrics::new(queue.name),
            failed_writes: FailedWrites::default(),
        }
    }

    /// The lease has run out in the outage, and its process retries the renewal only after this one is back.
    #[tokio::test]
    async fn other_process_renews_its_lease_before_anything_is_reserved_after_an_outage() {
        let (clock, bus, in_flight) = delivery_without_lease().await;
        let worker = worker(bus.clone(), clock.clone());
        let renewing = async {
            clock.sleep(RENEWAL_RETRY).await;
            bus.extend(&in_flight.lease).await
        };
        let reserving = async {
            worker.let_renew().await?;
            bus.reserve(&NOTES.spec(), Reserve::now(1)).await
        };
        let mut both = pin!(futures::future::join(renewing, reserving));
        let (renewed, reserved) = loop {
            match (&mut both).now_or_never() {
                Some(results) => break results,
                None => clock.advance(Duration::from_millis(10)),
            }
        };
        assert!(reserved.unwrap().is_empty(), "the message stays in flight");
        renewed.unwrap();
    }

    /// A settlement renews no lease. So reservations of this process wait for one that failed, and it is retried within the
    /// head start that other processes give.
    #[tokio::test]
    async fn failed_settlement_holds_back_reservations_and_is_retried_within_the_head_start() {
        let (clock, _, delivery) = delivery_without_lease().await;
        let options = RedisOptions {
            url: "redis+unix:///nonexistent/redis.sock".into(),
            namespace: "test".to_owned(),
            ca: None,
            waiters: 1,
        };
        let away = Arc::new(RedisBus::new(&options, clock.as_ref()).unwrap());
        let worker = worker(away, clock.clone());
        let batch = [Ended {
            delivery,
            alone: false,
            end: DeliveryEnd::Settled(Settlement::Done { emit: Vec::new() }),
            updates: Vec::new(),
            at: None,
            hold_until: None,
        }];
        let shutdown = Shutdown::new();
        let mut failing = worker.failed_writes.0.subscribe();
        {
            let mut settling = pin!(worker.settle(&batch, &shutdown));
            tokio::select! {
                () = &mut settling => panic!("settled without a bus"),
                failed = failing.wait_for(|failing| *failing == 1) => drop(failed.unwrap()),
            }
            assert!(worker.failed_writes.until_none().now_or_never().is_none());
        }
        assert!(worker.failed_writes.until_none().now_or_never().is_some());
        for failures in 1..20 {
            assert!(WRITE_RETRY.after(failures, clock.as_ref()) < HEAD_START);
        }
    }
}
