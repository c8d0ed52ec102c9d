//! The deletion of old refs once an hour, by one process of a deployment.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{BusError, LeaderLease};
use runtime::{FailureLog, Service, ServiceError, Shutdown, error_chain};
use tracing::{info, warn};

use super::{PruneOptions, RefPruner};

/// The time between two rounds.
const EVERY: Duration = Duration::from_secs(3600);

/// The time from the moment at which a process begins to lead until its first round: a process that dies again and again
/// begins none.
const FIRST: Duration = Duration::from_secs(60);

/// The key of the lease's failures, which no repository has as its name.
const LEASE: &str = "lease";

impl RefPruner {
    /// Prunes as long as this process is leader. Each ref is a step of its own, so the future may be dropped at any point.
    async fn lead(&self, failures: &FailureLog<String>, lease: &mut LeaderLease) {
        let rounds = async {
            self.clock.sleep(FIRST).await;
            loop {
                self.round(failures).await;
                self.clock.sleep(EVERY).await;
            }
        };
        let renewals = async {
            loop {
                self.clock.sleep(LeaderLease::RENEW_INTERVAL).await;
                if !is_leader(failures, lease.try_acquire().await) {
                    return;
                }
            }
        };
        tokio::select! {
            () = rounds => {}
            () = renewals => {}
        }
    }

    async fn round(&self, failures: &FailureLog<String>) {
        let pruned = self.prune(PruneOptions::default()).await;
        if pruned.failures.is_empty() && failures.recovered() {
            info!("old refs can be deleted again");
        }
        for failure in &pruned.failures {
            if failures.should_log(failure.place().to_owned()) {
                warn!(
                    repository = failure.place(),
                    error = error_chain(failure),
                    "cannot delete all old refs; retrying in an hour"
                );
            }
        }
    }
}

fn is_leader(failures: &FailureLog<String>, acquired: Result<bool, BusError>) -> bool {
    acquired.unwrap_or_else(|error| {
        if failures.should_log(LEASE.to_owned()) {
            warn!(
                error = error_chain(&error),
                "cannot acquire the lease to delete old refs; retrying"
            );
        }
        false
    })
}

#[async_trait]
impl Service for RefPruner {
    fn name(&self) -> &str {
        "ref-pruner"
    }

    async fn run(self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        let failures = FailureLog::default();
        let mut lease =
            LeaderLease::new(Arc::clone(&self.bus), Arc::clone(&self.clock), "ref-pruner");
        let leading = async {
            loop {
                if is_leader(&failures, lease.try_acquire().await) {
                    self.lead(&failures, &mut lease).await;
                }
                self.clock.sleep(LeaderLease::RENEW_INTERVAL).await;
            }
        };
        tokio::select! {
            () = leading => {}
            () = shutdown.stopping() => {}
        }
        // If the release fails, the next process waits until the lease expires.
        let _: Result<(), BusError> = lease.release().await;
        Ok(())
    }
}
