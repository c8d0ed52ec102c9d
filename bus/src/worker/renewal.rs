//! Renewing leases, also after an outage of the bus.

use std::time::Duration;

use runtime::chain;
use tokio::sync::watch;
use tracing::warn;

use super::Worker;
use crate::{BusError, Delivery};

/// How soon a renewal that failed is tried again. An outage may take longer than leases, so that anybody may take over what
/// living workers hold: they have to be faster than whoever reserves, see [`HEAD_START`].
const RENEWAL_RETRY: Duration = Duration::from_millis(150);

/// How long nothing is reserved after an outage, so that other processes can renew their leases first.
const HEAD_START: Duration = Duration::from_millis(300);

/// The longest that reservations wait for the renewals of their own process.
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
        // It fails only without a sender, which `self` is.
        let _ = self.0.subscribe().wait_for(|failing| *failing == 0).await;
    }
}

/// Counted until it is dropped.
struct FailedRenewal<'a>(&'a Renewals);

impl Drop for FailedRenewal<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|failing| *failing -= 1);
    }
}

impl Worker {
    /// Renews the lease at a third of its length, for as long as it can; returns when it is lost.
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

    /// After an outage, lets those renew their leases who hold messages. An error when the outage goes on.
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
