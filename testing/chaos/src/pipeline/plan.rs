//! Everything that a campaign on the pipeline decides, from one seed: the builds, and which faults come when.

use std::time::Duration;

/// How many repositories there are.
pub const REPOSITORIES: usize = 2;
/// How many workers there are.
pub const WORKERS: usize = 2;
/// The longest stack.
pub const LONGEST: usize = 3;

/// The time between two kills. A worker that was killed is back within one or two seconds, and what it held within the
/// ten seconds of a lease.
const GAP: Duration = Duration::from_secs(5);
/// What a campaign without kills takes.
const LEAST: Duration = Duration::from_secs(10);
/// A campaign of fewer builds leaves out what takes five minutes: the checks of a revision that never becomes public.
const PATIENT: usize = 50;

/// A build, and all that is decided about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Build {
    /// When it is asked for, as a share of the campaign (0 to 1).
    pub at: f64,
    /// The number of its repository.
    pub repository: usize,
    /// How many patches its stack has.
    pub patches: usize,
    /// What the stack names as its base.
    pub base: Base,
    /// What it is.
    pub kind: Kind,
    /// Its request is sent again after this time, as Harbormaster does over a connection that was closed.
    pub again: Option<Duration>,
}

/// What a stack names as its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The changeset of the source that is this old.
    Known(usize),
    /// A changeset that nobody has.
    Unknown,
    /// Nothing.
    Unnamed,
}

/// What is the matter with a build. It decides how the build has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing: it is pushed.
    Good,
    /// It is private when it is asked for, becomes public after this time, and is pushed.
    PublicLater(Secrecy, Duration),
    /// The patch at this place in the stack does not apply.
    DoesNotApply(usize),
    /// Its patch writes into the repository's own configuration.
    Hostile,
    /// Its author's revisions are not built.
    SkippedAuthor,
    /// A newer diff of its revision is there.
    Superseded,
    /// Its diff is more than a day old.
    Expired,
    /// Its repository is not built.
    Unsupported,
    /// A parent of its revision never becomes public.
    HiddenParent,
    /// It never becomes public.
    Private(Secrecy),
    /// Somebody does this to it, as long after its request, whatever its state.
    Interrupted(Interruption, Duration),
}

/// What people do to a build that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// They abort it in Harbormaster.
    Abort,
    /// They restart it in Harbormaster, which makes a new target.
    Restart,
    /// They abandon its revision.
    Abandon,
}

/// How a revision is private.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// Our user does not see it.
    Hidden,
    /// Our user sees it, and that it is in the secure project.
    Secured,
}

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the web server.
    Web,
    /// SIGKILL to a worker. Its children are left to themselves.
    Worker(usize),
    /// SIGKILL to each `hg` or `git` of a worker, this long after one is seen. So it meets each step of their work.
    Program(usize, Duration),
    /// SIGKILL to each `ssh` of a worker.
    Ssh(usize),
    /// SIGKILL to each `hg` or `git` behind ssh that takes a push to the Try of a repository, this long after one is seen.
    Try(usize, Duration),
    /// SIGTERM to the web server.
    StopWeb,
    /// SIGTERM to a worker.
    StopWorker(usize),
    /// Redis ends by SIGTERM and is started again after this time. It is not one of the kills, and happens beside them.
    Redis(Duration),
}

/// A campaign.
#[derive(Debug)]
pub struct Plan {
    /// The builds, in the order in which they are asked for.
    pub builds: Vec<Build>,
    /// What goes wrong, each with its share of the campaign (0 to 1), in order.
    pub faults: Vec<(f64, Fault)>,
    /// The repositories whose source gets a new changeset, each with its share of the campaign, in order.
    pub commits: Vec<(f64, usize)>,
    /// The time over which all this is spread.
    pub duration: Duration,
}

impl Plan {
    /// The plan that belongs to `seed`.
    pub fn new(seed: u64, builds: usize, kills: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let builds = all_builds(&mut rng, builds);
        let faults = faults(&mut rng, kills);
        let count = 2 * REPOSITORIES + builds.len() / 20;
        let mut commits: Vec<_> = (0..count)
            .map(|at| (rng.f64(), at % REPOSITORIES))
            .collect();
        commits.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Self {
            builds,
            faults,
            commits,
            duration: (GAP * kills).max(LEAST),
        }
    }
}

/// One of each kind at least, and then mostly good ones.
fn all_builds(rng: &mut fastrand::Rng, count: usize) -> Vec<Build> {
    let quick = |rng: &mut fastrand::Rng| {
        [
            Kind::DoesNotApply(0),
            Kind::DoesNotApply(rng.usize(1..LONGEST)),
            Kind::Hostile,
            Kind::SkippedAuthor,
            Kind::Superseded,
            Kind::Expired,
            Kind::Unsupported,
            public_later(rng, Secrecy::Hidden, count),
            public_later(rng, Secrecy::Secured, count),
            interrupted(rng, Interruption::Abort),
            interrupted(rng, Interruption::Restart),
            interrupted(rng, Interruption::Abandon),
        ]
    };
    let slow = [
        Kind::HiddenParent,
        Kind::Private(Secrecy::Hidden),
        Kind::Private(Secrecy::Secured),
    ];
    let mut builds: Vec<Build> = Vec::new();
    for _ in 0..=count / PATIENT / 2 {
        builds.extend(quick(rng).map(|kind| build(rng, kind, 1.0)));
    }
    for _ in 0..count / PATIENT {
        for how in [
            Interruption::Abort,
            Interruption::Restart,
            Interruption::Abandon,
        ] {
            let kind = interrupted(rng, how);
            builds.push(build(rng, kind, 1.0));
        }
    }
    for _ in 0..count / PATIENT {
        // Early, since the campaign lasts until they have ended.
        builds.extend(slow.map(|kind| build(rng, kind, 0.3)));
    }
    while builds.len() < count {
        builds.push(build(rng, Kind::Good, 1.0));
    }
    builds.truncate(count);
    builds.sort_by(|a, b| a.at.total_cmp(&b.at));
    builds
}

/// Public in time for the second look, which follows after 20 s, or in a long campaign also for the third.
fn public_later(rng: &mut fastrand::Rng, how: Secrecy, builds: usize) -> Kind {
    let until = if builds < PATIENT { 15_000 } else { 50_000 };
    Kind::PublicLater(how, Duration::from_millis(rng.u64(500..until)))
}

/// A push takes some seconds, and some more after a fault.
fn interrupted(rng: &mut fastrand::Rng, how: Interruption) -> Kind {
    Kind::Interrupted(how, Duration::from_millis(rng.u64(..8_000)))
}

fn build(rng: &mut fastrand::Rng, kind: Kind, until: f64) -> Build {
    let base = match rng.u8(..10) {
        0..6 => Base::Known(rng.usize(..2)),
        6..9 => Base::Unknown,
        _ => Base::Unnamed,
    };
    Build {
        at: rng.f64() * until,
        repository: rng.usize(..REPOSITORIES),
        patches: match kind {
            Kind::DoesNotApply(at) => rng.usize(at + 1..=LONGEST),
            Kind::Good | Kind::PublicLater(..) => rng.usize(1..=LONGEST),
            _ => 1,
        },
        base,
        kind,
        again: (rng.u8(..5) == 0).then(|| Duration::from_millis(rng.u64(1..3000))),
    }
}

/// Within the time of a push.
fn moment(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(rng.u64(..150))
}

fn faults(rng: &mut fastrand::Rng, kills: u32) -> Vec<(f64, Fault)> {
    let mut kinds: Vec<fn(usize, Duration) -> Fault> = Vec::new();
    let mut faults = Vec::new();
    for n in 0..kills {
        let at = (f64::from(n) + rng.f64()) / f64::from(kills);
        if kinds.is_empty() {
            // All of them, before any comes again.
            kinds = vec![
                |_, _| Fault::Web,
                |number, _| Fault::Worker(number),
                |number, _| Fault::Worker(number),
                Fault::Program,
                |number, _| Fault::Ssh(number),
                Fault::Try,
                Fault::Try,
                |_, _| Fault::StopWeb,
                |number, _| Fault::StopWorker(number),
            ];
            rng.shuffle(&mut kinds);
        }
        // Workers are as many as repositories.
        if let Some(kind) = kinds.pop() {
            let number = rng.usize(..WORKERS);
            faults.push((at, kind(number, moment(rng))));
        }
    }
    for _ in 0..kills.div_ceil(10) {
        faults.push((
            rng.f64(),
            Fault::Redis(Duration::from_millis(rng.u64(..2000))),
        ));
    }
    faults.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    faults
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn seed_determines_the_campaign() {
        let [a, b, c] = [1, 1, 2].map(|seed| Plan::new(seed, 100, 20));
        assert_eq!(
            (&a.builds, &a.faults, &a.commits),
            (&b.builds, &b.faults, &b.commits)
        );
        assert_ne!(a.builds, c.builds);
        assert_ne!(a.faults, c.faults);
    }

    #[test]
    fn campaign_has_requested_builds_and_kills_of_every_kind() {
        let kinds = |plan: &Plan| -> HashSet<_> {
            plan.builds
                .iter()
                .map(|build| std::mem::discriminant(&build.kind))
                .collect()
        };
        for seed in 0..50 {
            for (builds, kills, expected) in [(16, 6, 9), (50, 9, 11), (200, 40, 11)] {
                let plan = Plan::new(seed, builds, kills);
                assert_eq!(plan.builds.len(), builds);
                assert_eq!(kinds(&plan).len(), expected, "{plan:?}");
                let redis = plan
                    .faults
                    .iter()
                    .filter(|(_, fault)| matches!(fault, Fault::Redis(_)))
                    .count();
                assert!(redis > 0);
                assert_eq!(plan.faults.len() - redis, kills as usize);
                let struck: HashSet<_> = plan
                    .faults
                    .iter()
                    .map(|(_, fault)| std::mem::discriminant(fault))
                    .collect();
                assert!(kills < 9 || struck.len() == 8, "{plan:?}");
            }
        }
    }

    #[test]
    fn place_in_a_stack_exists() {
        for seed in 0..50 {
            for build in Plan::new(seed, 200, 0).builds {
                assert!((1..=LONGEST).contains(&build.patches), "{build:?}");
                assert!(
                    !matches!(build.kind, Kind::DoesNotApply(at) if at >= build.patches),
                    "{build:?}"
                );
            }
        }
    }
}
