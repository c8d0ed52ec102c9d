//! Every queue, on one page.

use std::time::Duration;

use bus::{Backoff, Policy, Queue, QueueSpec};
use phabricator::{
    LandoWarning,
    model::{Applied, Build, BuildRequest, Update},
};

/// What Harbormaster asked for, until the revision is public. Phabricator may be away for five hours. A bound keeps a
/// flood from filling Redis: beyond it the web answers 503.
pub const BUILDS: Queue<BuildRequest> =
    Queue::new("builds", Policy { bound: Some(100_000), backoff: OUTSIDE, attempts: 300, ..Policy::DEFAULT });

/// Public builds with their stacks, to be applied and pushed: one after another for each repository. The waits are
/// 6 s, 36 s, 3.6 min and 21.6 min.
pub const MERCURIAL: Queue<Build> = Queue::with_lanes(
    "mercurial",
    Policy {
        attempts: 5,
        // Lanes keep it to one build for each repository; one that waits for its clone must not hold up another.
        concurrency: 64,
        backoff: Backoff { first: Duration::from_secs(6), factor: 6, cap: Duration::from_secs(1296) },
        ..Policy::DEFAULT
    },
    |build| build.request.repository.to_string(),
);

/// How applying and pushing ended, to be handed to everyone whom it concerns.
pub const APPLIED: Queue<Applied> = Queue::new("mercurial:applied", Policy::DEFAULT);

/// What is to be said on build targets. An answer that cannot be given is tried for a week: nobody else would give it.
/// Words may overtake each other: the first that ends a target ends it, and a `work` that comes later is ignored by
/// Harbormaster.
pub const RESULTS: Queue<Update> =
    Queue::new("results", Policy { backoff: OUTSIDE, attempts: 10_000, ..Policy::DEFAULT });

/// Warnings to show on Lando. One that comes late is worth little: after two minutes it is a dead letter.
pub const LANDO: Queue<LandoWarning> = Queue::new("lando", Policy { backoff: OUTSIDE, attempts: 5, ..Policy::DEFAULT });

/// Waits for a service that is away: 5 s, 15 s, 45 s, then a minute each, so that everybody has their answer a minute
/// after it is back.
const OUTSIDE: Backoff = Backoff { first: Duration::from_secs(5), factor: 3, cap: Duration::from_secs(60) };

/// All of them, in the order in which a build passes them.
pub fn all() -> Vec<QueueSpec> {
    vec![BUILDS.spec(), MERCURIAL.spec(), APPLIED.spec(), RESULTS.spec(), LANDO.spec()]
}
