//! Polls Phabricator for new diffs, and sends each once.
//!
//! # Selection
//!
//! A poll follows the search for diffs from the newest diff of the very first start on: the *cursor* is the last diff that
//! it reached. It skips a diff that is not public at that moment, and keeps nothing of it. Such a diff is not shown by the
//! server, or its revision is in a secure project, or its author's client has not yet attached it to a revision (a second
//! call does that, and the revision may still turn out to be private).
//!
//! A second search finds the skipped diffs: each poll also loads the revisions that changed since the poll before, since
//! becoming public is a change. It takes the current diff of a public one, if that diff was never seen and is newer than
//! the first start. Of several diffs that a revision got while it was private, only the last one is taken.
//!
//! A diff counts as *seen* once it was public, whether or not its repository was enabled: a repository that is enabled
//! later begins with new diffs. Seen diffs are remembered for ninety days. The second search takes no older diff, since no
//! record could show whether it was sent. So a revision that was private for longer is found with its next diff.
//!
//! # Steps and processes
//!
//! A diff's message, the mark that it was seen, and the advanced cursor are one step, so a crash between any two steps
//! neither loses a diff nor repeats one. One process polls, under a [`LeaderLease`]; when it loses the lease, it drops the
//! poll at any point. A process that was suspended and continues without the lease does no harm: its messages bear
//! deduplication keys, the cursor is changed by compare-and-set and does not go back, and the process stops when it does not
//! find the cursor that it wrote.
//!
//! The server refuses a search after a diff that it does not show. If the diff at the cursor became private or was
//! destroyed, the poll searches from the newest diff down instead.

mod cursor;
mod round;

use std::{collections::BTreeSet, error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{BusError, LeaderLease, Producer, Queue};
use runtime::{Clock, FailureLog, Service, ServiceError, Shutdown, error_chain};
use tracing::{info, warn};

use self::round::PollRun;
use crate::{Conduit, NameResolver};
use build::{NewDiff, Phid};

/// The actions whose failures are logged.
const POLL: &str = "poll for new diffs";
const ACQUIRE_LEASE: &str = "acquire the lease to poll for new diffs";

/// Polls for new diffs. Several processes may run it; one polls at a time.
pub struct DiffPoller {
    run: PollRun,
    interval: Duration,
    lease: LeaderLease,
    clock: Arc<dyn Clock>,
    poll_failures: FailureLog,
    lease_failures: FailureLog,
}

impl DiffPoller {
    /// The default time between two polls.
    pub const INTERVAL: Duration = Duration::from_secs(60);

    /// Sends the diffs of `repositories` to `queue`, polling every `interval`. `resolver` knows the private projects. The
    /// cursor is a record on the producer's bus.
    pub fn new(
        conduit: Conduit,
        resolver: NameResolver,
        repositories: BTreeSet<Phid>,
        queue: Queue<NewDiff>,
        producer: Producer,
        interval: Duration,
    ) -> Self {
        let clock = Arc::clone(producer.clock());
        let lease = LeaderLease::new(
            Arc::clone(producer.bus()),
            Arc::clone(&clock),
            "diff-poller",
        );
        let run = PollRun {
            conduit,
            resolver,
            repositories,
            queue,
            producer,
        };
        Self {
            run,
            interval,
            lease,
            clock,
            poll_failures: FailureLog::default(),
            lease_failures: FailureLog::default(),
        }
    }

    async fn poll(&mut self) {
        loop {
            let held = self.lease.try_acquire().await;
            if record(&self.lease_failures, ACQUIRE_LEASE, held) == Some(true) {
                info!("this process polls for new diffs");
                self.poll_while_leader().await;
                info!("this process stopped polling for new diffs: it lost the lease");
            }
            self.clock.sleep(LeaderLease::RENEW_INTERVAL).await;
        }
    }

    /// Polls as long as this process holds the lease.
    async fn poll_while_leader(&mut self) {
        let Self {
            run,
            interval,
            lease,
            clock,
            poll_failures,
            lease_failures,
        } = self;
        let polls = async {
            loop {
                record(poll_failures, POLL, run.poll_once().await);
                clock.sleep(*interval).await;
            }
        };
        let renewals = async {
            loop {
                clock.sleep(LeaderLease::RENEW_INTERVAL).await;
                let held = lease.try_acquire().await;
                if record(lease_failures, ACQUIRE_LEASE, held) != Some(true) {
                    return;
                }
            }
        };
        tokio::select! {
            () = polls => {}
            () = renewals => {}
        }
    }
}

#[async_trait]
impl Service for DiffPoller {
    fn name(&self) -> &str {
        "diff-poller"
    }

    async fn run(mut self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        // Each step is complete in itself, so the poll may be dropped between any two.
        tokio::select! {
            () = self.poll() => {}
            () = shutdown.stopping() => {}
        }
        // If the release fails, the next process waits until the lease expires.
        let _: Result<(), BusError> = self.lease.release().await;
        Ok(())
    }
}

/// Logs the first of several failures in a row, and the success after them. Returns the value of a success.
fn record<T, E: Error + 'static>(
    failures: &FailureLog,
    action: &str,
    result: Result<T, E>,
) -> Option<T> {
    match result {
        Ok(value) => {
            if failures.recovered() {
                info!("can {action} again; continuing where it stopped");
            }
            Some(value)
        }
        Err(error) => {
            if failures.should_log(()) {
                warn!(
                    error = error_chain(&error),
                    "cannot {action}; retrying; no diff is skipped"
                );
            }
            None
        }
    }
}
