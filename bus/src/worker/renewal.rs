//! Renewal of leases, also after an outage of the bus.

use std::time::Duration;

use runtime::chain;
use tokio::sync::watch;
use tracing::warn;

use super::Worker;
use crate::{BusError, Delivery};

/// The pause before a failed renewal is retried. In an outage that is longer than the leases, all of them run out: then
/// living workers have to renew before any process reserves, see [`HEAD_START`].
const RENEWAL_RETRY: Duration = Duration::from_millis(150);

/// The time after an outage in which this process reserves nothing, so that other processes can renew their leases first.
/// Longer than [`RENEWAL_RETRY`].
const HEAD_START: Duration = Duration::from_millis(300);

/// The longest wait of reservations for the renewals of their own process.
const OWN_RENEWALS: Duration = Duration::from_secs(2);

/// The number of leases whose last renewal failed.
#[derive(Debug, Default)]
pub(crate) struct Renewals(watch::Sender<usize>);

impl Renewals {
    fn fails(&self) -> FailedRenewal<'_> {
        self.0.send_modify(|failing| *failing += 1);
        FailedRenewal(self)
    }

    async fn succeed(&self) {
        // It fails only without a sender, and `self` has one.
        let _ = self.0.subscribe().wait_for(|failing| *failing == 0).await;
    }
}

/// A renewal that failed: counted until it is dropped.
struct FailedRenewal<'a>(&'a Renewals);

impl Drop for FailedRenewal<'_> {
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
                    failed = Some(self.renewals.fails());
                }
                Err(_) => {}
            }
        }
    }

    /// After an outage, waits until living workers could renew their leases. Returns an error while the outage goes on.
    pub(crate) async fn let_renew(&self) -> Result<(), BusError> {
        self.bus.ping().await?;
        let own = async {
            tokio::select! {
                () = self.renewals.succeed() => {}
                () = self.clock.sleep(OWN_RENEWALS) => {}
            }
        };
        tokio::join!(own, self.clock.sleep(HEAD_START));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Arc};

    use async_trait::async_trait;
    use futures::FutureExt;
    use jiff::Timestamp;
    use runtime::{Clock, ManualClock};
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{
        Bus, Context, Handler, MemoryBus, Message, Outcome, Policy, Queue, Reserve, dyn_handler,
        metrics::Metrics, worker::Renewals,
    };

    #[derive(Serialize, Deserialize)]
    struct Note;

    impl Message for Note {
        const VERSION: u16 = 1;
    }

    struct Unused;

    #[async_trait]
    impl Handler<Note> for Unused {
        type Error = BusError;

        async fn handle(&self, _: Note, _: &Context) -> Result<Outcome, BusError> {
            Ok(Outcome::Done)
        }
    }

    const NOTES: Queue<Note> = Queue::new("notes", Policy::DEFAULT);

    /// The lease has run out in the outage, and its process retries the renewal only after this one is back.
    #[tokio::test]
    async fn other_process_renews_its_lease_before_anything_is_reserved_after_an_outage() {
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let bus = Arc::new(MemoryBus::new(clock.clone()));
        let queue = NOTES.spec();
        let message = NOTES.pack(&Note, clock.as_ref()).unwrap();
        bus.push(vec![message]).await.unwrap();
        let in_flight = bus.reserve(&queue, Reserve::now(1)).await.unwrap();
        clock.advance(2 * queue.policy.lease);

        let worker = Worker {
            bus: bus.clone(),
            clock: clock.clone(),
            queue,
            handler: dyn_handler::erase(Unused),
            metrics: Metrics::new(queue.name),
            renewals: Renewals::default(),
        };
        let renewing = async {
            clock.sleep(RENEWAL_RETRY).await;
            bus.extend(&in_flight[0].lease).await
        };
        let reserving = async {
            worker.let_renew().await?;
            bus.reserve(&queue, Reserve::now(1)).await
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
}
