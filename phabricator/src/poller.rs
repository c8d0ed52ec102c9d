//! Finds new diffs by asking for them, and sends each once.
//!
//! # What is taken
//!
//! The search for diffs is followed from the newest diff of the very first start on: the *cursor* is the last one that
//! was come across. A diff that is not public at that moment is passed by, and nothing of it is kept: the server does not
//! show it, or its revision is in a secure project, or its author's client has not yet said which revision it belongs to
//! (it does so in a second call, in which the revision may still turn out to be private).
//!
//! What was passed by is found by its state: each round also looks at the revisions that changed since the round before,
//! and takes the current diff of one that is public, if that diff was never seen and came after the first start. To become
//! public is a change of the revision. Of several diffs that a revision got while it was private only the last one is
//! wanted.
//!
//! A diff counts as *seen* once it was public, whether or not its repository was enabled: a repository that is enabled
//! later begins with new diffs. What was seen is remembered for ninety days. An older diff is not taken by its state, since
//! nobody could tell whether it was sent, so a revision that was private for longer stays with us unseen until it gets a
//! new diff.
//!
//! # Who sends what, and when
//!
//! A diff's message, the note that it was seen, and the cursor behind it are one step, so a crash between any two steps
//! neither loses a diff nor repeats one. One instance polls, by a [`LeaderLease`]; losing it drops the round wherever it is.
//! An instance that was stopped and goes on as if it held the lease does no harm either: its messages bear keys and were
//! stored before, the cursor is swapped and does not go back, and it stops when it does not find the value that it wrote.
//!
//! The cursor must name a diff that the server shows, or it refuses the search. A diff that became private, or was
//! destroyed, is stepped around by searching from the other end.

mod place;
mod round;

use std::{collections::BTreeSet, error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{BusError, LeaderLease, Producer, Queue};
use runtime::{Clock, Service, ServiceError, Shutdown, error_chain};
use tracing::{info, warn};

use self::round::Rounds;
use crate::{Conduit, Directory};
use build::{NewDiff, Phid};

/// Looks for new diffs: one poller for a deployment, however many processes run it.
pub struct DiffPoller {
    rounds: Rounds,
    interval: Duration,
    lease: LeaderLease,
    clock: Arc<dyn Clock>,
    looking: Trouble,
    beating: Trouble,
}

impl DiffPoller {
    /// How often it looks, unless told otherwise.
    pub const INTERVAL: Duration = Duration::from_secs(60);

    /// Sends the diffs of `repositories` to `queue`, looking every `interval`. `directory` says what is private; the place
    /// is kept on the producer's bus.
    pub fn new(
        conduit: Conduit,
        directory: Directory,
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
        let rounds = Rounds {
            conduit,
            directory,
            repositories,
            queue,
            producer,
        };
        let (looking, beating) = (
            Trouble::new("look for new diffs"),
            Trouble::new("ask who looks for new diffs"),
        );
        Self {
            rounds,
            interval,
            lease,
            clock,
            looking,
            beating,
        }
    }

    async fn poll(&mut self) {
        loop {
            let held = self.lease.try_acquire().await;
            if self.beating.note(held) == Some(true) {
                info!("this process looks for new diffs");
                self.preside().await;
                info!("this process does not look for new diffs any more");
            }
            self.clock.sleep(LeaderLease::RENEW_INTERVAL).await;
        }
    }

    /// Looks as long as the lease is held.
    async fn preside(&mut self) {
        let Self {
            rounds,
            interval,
            lease,
            clock,
            looking,
            beating,
        } = self;
        let looks = async {
            loop {
                looking.note(rounds.round().await);
                clock.sleep(*interval).await;
            }
        };
        let beats = async {
            loop {
                clock.sleep(LeaderLease::RENEW_INTERVAL).await;
                if beating.note(lease.try_acquire().await) != Some(true) {
                    return;
                }
            }
        };
        tokio::select! {
            () = looks => {}
            () = beats => {}
        }
    }
}

#[async_trait]
impl Service for DiffPoller {
    fn name(&self) -> &str {
        "diff-poller"
    }

    async fn run(mut self: Box<Self>, shutdown: Shutdown) -> Result<(), ServiceError> {
        // What it does is whole between any two steps, so it may end there.
        tokio::select! {
            () = self.poll() => {}
            () = shutdown.stopping() => {}
        }
        // Without that the next one waits a little longer.
        let _: Result<(), BusError> = self.lease.release().await;
        Ok(())
    }
}

/// Something that may fail for a while, and is logged when that begins and when it ends.
struct Trouble {
    what: &'static str,
    lasts: bool,
}

impl Trouble {
    fn new(what: &'static str) -> Self {
        Self { what, lasts: false }
    }

    fn note<T, E: Error + 'static>(&mut self, done: Result<T, E>) -> Option<T> {
        let what = self.what;
        match &done {
            Ok(_) if self.lasts => info!("can {what} again, from where it stopped"),
            Err(error) if !self.lasts => {
                warn!(
                    error = error_chain(error),
                    "cannot {what}; retrying; nothing is skipped"
                );
            }
            _ => {}
        }
        self.lasts = done.is_err();
        done.ok()
    }
}
