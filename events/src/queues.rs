//! Every queue, on one page.

use std::time::Duration;

use build::{Build, BuildQueues, BuildRequest, BuildUpdateMessage, NewDiff, TestResult};
use bus::{Backoff, Policy, Queue, QueueSpec};
use notify::{Digest, Notification};
use phabricator::LandoWarning;
use pulse::PulseMessage;
use taskcluster::Email;
use triggers::{HookTask, Trigger};

/// What Harbormaster asked for, until the revision is public. Phabricator may be away for five hours. A bound keeps a
/// flood from filling Redis: beyond it the web answers 503.
pub const BUILD_LOAD: Queue<BuildRequest> = Queue::new(
    "build:load",
    Policy {
        max_depth: Some(100_000),
        max_bytes: Some(64 << 20),
        backoff: OUTSIDE,
        attempts: 300,
        ..Policy::DEFAULT
    },
);

/// Public builds whose stacks are known, to be applied and pushed: one after another for each repository. Their patches are
/// loaded by the worker that applies them. The waits are 6 s, 36 s, 3.6 min and 21.6 min.
pub const BUILD_PUSH: Queue<Build> = Queue::with_partitions(
    "build:push",
    Policy {
        attempts: 5,
        // Beyond it the workflow loads no more stacks.
        max_bytes: Some(64 << 20),
        // Partitions keep it to one build for each repository; one that waits for its clone must not hold up another.
        concurrency: 64,
        backoff: Backoff {
            first: Duration::from_secs(6),
            factor: 6,
            cap: Duration::from_secs(1296),
        },
        ..Policy::DEFAULT
    },
    |build| build.request.repository.to_string(),
);

/// What is published on build targets. An answer that cannot be published is retried for a week: nobody else would publish
/// it. Messages may overtake each other: the first that ends a target ends it, and Harbormaster ignores a `work` that comes
/// later.
pub const BUILD_PUBLISH: Queue<BuildUpdateMessage> = Queue::new(
    "build:publish",
    Policy {
        backoff: OUTSIDE,
        attempts: 10_000,
        ..Policy::DEFAULT
    },
);

/// Warnings to show on Lando. One that comes late is worth little: after two minutes it is a dead letter.
pub const LANDO: Queue<LandoWarning> = Queue::new(
    "lando",
    Policy {
        backoff: OUTSIDE,
        attempts: 5,
        ..Policy::DEFAULT
    },
);

/// Public builds whose risk may be analysed.
pub const BUGBUG: Queue<Build> = Queue::new("bugbug", ELSEWHERE);

/// Pushes to Try, whose tests may be selected.
pub const BUGBUG_TRY_PUSH: Queue<BuildUpdateMessage> = Queue::new("bugbug:try_push", ELSEWHERE);

/// Results of selected tests, to be published on build targets.
pub const BUILD_PUBLISH_TESTS: Queue<TestResult> = Queue::new(
    "build:publish-tests",
    Policy {
        backoff: OUTSIDE,
        attempts: 10_000,
        ..Policy::DEFAULT
    },
);

/// Diffs that were just published, for the hooks that analyse them.
pub const DIFFS: Queue<NewDiff> = Queue::new("diffs", ELSEWHERE);

/// Messages from Pulse, each kind for those who want it. A Pulse queue that grows is deleted, so these take everything.
/// Groups can have thousands of tasks, and all are read.
pub const PULSE_COVERAGE: Queue<PulseMessage> = Queue::new(
    "pulse:code-coverage",
    Policy {
        concurrency: 2,
        ..FROM_PULSE
    },
);
/// Commits on MozReview.
pub const PULSE_MOZREVIEW: Queue<PulseMessage> = Queue::new("pulse:mozreview", FROM_PULSE);
/// Task groups of what landed.
pub const PULSE_LANDED: Queue<PulseMessage> = Queue::new("pulse:landed", FROM_PULSE);
/// Selections of tests that have ended.
pub const PULSE_SELECTED: Queue<PulseMessage> = Queue::new("pulse:bugbug_test_select", FROM_PULSE);
/// Tasks on Try that have ended: many, and nearly none of them ours.
pub const PULSE_TESTS: Queue<PulseMessage> = Queue::new(
    "pulse:tests",
    Policy {
        concurrency: 64,
        ..FROM_PULSE
    },
);

/// Hooks to trigger.
pub const HOOKS: Queue<Trigger> = Queue::new("hooks", ELSEWHERE);
/// Hooks to trigger on the community's Taskcluster.
pub const HOOKS_COMMUNITY: Queue<Trigger> = Queue::new("hooks:community", ELSEWHERE);

/// Tasks that hooks created, until they end.
pub const HOOK_TASKS: Queue<HookTask> = Queue::new("hook-tasks", ELSEWHERE);
/// The same on the community's Taskcluster.
pub const HOOK_TASKS_COMMUNITY: Queue<HookTask> = Queue::new("hook-tasks:community", ELSEWHERE);

/// Mails, one for each address.
pub const MAILS: Queue<Email> = Queue::new("mails", ELSEWHERE);

/// What happened to tasks, for whoever asked to be told.
pub const PULSE_NOTIFY: Queue<PulseMessage> = Queue::new(
    "pulse:notify",
    Policy {
        concurrency: 32,
        ..FROM_PULSE
    },
);
/// Notifications, for each channel and identity, then for each recipient. Each channel has partitions of its own: one
/// that is stuck holds up no other. It has several, so that one task holds up no other either; how many it sends at
/// once is its own affair.
pub const NOTIFY: Queue<Notification> = Queue::with_partitions(
    "notify",
    Policy {
        concurrency: 128,
        partition_concurrency: 1,
        ..NOTIFYING
    },
    Notification::partition,
);
/// What was too much for one recipient within a minute.
pub const NOTIFY_DIGESTS: Queue<Digest> = Queue::new("notify:digests", NOTIFYING);

/// Pushes to Mercurial's repositories, whose changesets get pings. What fails for reasons of its own is tried for an hour.
pub const PULSE_HGPUSHES: Queue<PulseMessage> = Queue::new(
    "pulse:hgpushes",
    Policy {
        attempts: 10,
        concurrency: 4,
        backoff: Backoff {
            first: Duration::from_secs(5),
            factor: 3,
            cap: Duration::from_secs(900),
        },
        ..FROM_PULSE
    },
);

/// The waits are 5 s, 30 s, 3 min and 18 min. While a peer is away, that costs no attempt.
const NOTIFYING: Policy = Policy {
    attempts: 5,
    concurrency: 64,
    partition_concurrency: 4,
    backoff: Backoff {
        first: Duration::from_secs(5),
        factor: 6,
        cap: Duration::from_secs(1800),
    },
    ..Policy::DEFAULT
};

/// What is asked of Taskcluster. While it is away, or refuses our credentials, that costs no attempt.
const ELSEWHERE: Policy = Policy {
    backoff: OUTSIDE,
    attempts: 300,
    ..Policy::DEFAULT
};

/// RabbitMQ redelivers a message soon, if at all. A message that is published again later is handled again.
const FROM_PULSE: Policy = Policy {
    dedup_window: Duration::from_secs(3600),
    ..ELSEWHERE
};

/// Waits for a service that is away: 5 s, 15 s, 45 s, then a minute each, so that everybody has their answer a minute
/// after it is back.
const OUTSIDE: Backoff = Backoff {
    first: Duration::from_secs(5),
    factor: 3,
    cap: Duration::from_secs(60),
};

/// The queues of builds, for who sends into them.
pub const BUILD_QUEUES: BuildQueues = BuildQueues::new(BUILD_LOAD, BUILD_PUSH, BUILD_PUBLISH);

/// Those that a build passes, in that order.
pub fn of_builds() -> Vec<QueueSpec> {
    vec![
        BUILD_LOAD.spec(),
        BUILD_PUSH.spec(),
        BUILD_PUBLISH.spec(),
        LANDO.spec(),
    ]
}

/// All of them.
pub fn all() -> Vec<QueueSpec> {
    let mut all = of_builds();
    all.extend([
        DIFFS.spec(),
        PULSE_COVERAGE.spec(),
        PULSE_MOZREVIEW.spec(),
        PULSE_LANDED.spec(),
        BUGBUG.spec(),
        BUGBUG_TRY_PUSH.spec(),
        PULSE_SELECTED.spec(),
        PULSE_TESTS.spec(),
        BUILD_PUBLISH_TESTS.spec(),
        HOOKS.spec(),
        HOOKS_COMMUNITY.spec(),
        HOOK_TASKS.spec(),
        HOOK_TASKS_COMMUNITY.spec(),
        MAILS.spec(),
        PULSE_NOTIFY.spec(),
        NOTIFY.spec(),
        NOTIFY_DIGESTS.spec(),
        PULSE_HGPUSHES.spec(),
    ]);
    all
}
