//! Everything that a campaign decides, from one seed: what the messages are, and which faults come when.

use std::time::Duration;

use crate::chain::{LEASE, Step, TestMessage, Trouble};

/// How many workers there are.
pub const WORKERS: usize = 4;
/// The producer's link comes after those of the workers.
pub const LINKS: usize = WORKERS + 1;

/// The time between two kills. A worker lives for about four of them.
const GAP: Duration = Duration::from_millis(1500);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to a worker.
    Kill(usize),
    /// SIGTERM to a worker.
    Terminate(usize),
    /// SIGSTOP to a worker, and SIGCONT after this time, which is longer than a lease.
    Stop(usize, Duration),
    /// Redis ends, and is started again after this time.
    Redis(Duration),
    /// A link's connections are closed.
    Cut(usize),
    /// A link loses answers for this time.
    Mute(usize, Duration),
    /// A link delays each chunk, for this time.
    Slow(usize, Duration, Duration),
    /// A link holds everything for this time.
    Hole(usize, Duration),
}

/// A campaign.
#[derive(Debug)]
pub struct Plan {
    /// What is pushed, in this order. A message's number is its index.
    pub messages: Vec<TestMessage>,
    /// What goes wrong, each with the share of the messages (0 to 1) that is pushed before.
    pub faults: Vec<(f64, Fault)>,
    /// The time over which the messages are pushed, at least.
    pub duration: Duration,
}

impl Plan {
    /// The plan that belongs to `seed`.
    pub fn new(seed: u64, messages: u32, kills: u32) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut messages: Vec<TestMessage> = (0..messages)
            .map(|number| message(&mut rng, number))
            .collect();
        poison(&mut rng, &mut messages);
        Self {
            messages,
            faults: faults(&mut rng, kills),
            duration: GAP * kills,
        }
    }
}

fn message(rng: &mut fastrand::Rng, number: u32) -> TestMessage {
    let mut work = [0; 3].map(|_: u16| rng.u16(5..60));
    if rng.u8(..) == 0 {
        // Longer than the time after which a lease is renewed, a third of it.
        work[rng.usize(..3)] = rng.u16(700..1000);
    }
    TestMessage {
        number,
        tag: 0,
        work,
        trouble: None,
    }
}

/// Few, and in the first third: an abort takes its worker along five times, and each time waits for the lease.
fn poison(rng: &mut fastrand::Rng, messages: &mut [TestMessage]) {
    let sets = 1 + messages.len() / 50_000;
    for _ in 0..sets {
        let steps = Step::ALL
            .iter()
            .flat_map(|step| [Trouble::Panic(*step), Trouble::Abort(*step)]);
        for trouble in steps.chain([Trouble::Undecodable, Trouble::Version]) {
            let within = messages.len() / 3;
            let start = rng.usize(..within);
            // The next one that is still sound; there are more of them than kinds of trouble.
            let found = (0..within)
                .map(|by| (start + by) % within)
                .find(|at| messages[*at].trouble.is_none());
            if let Some(at) = found {
                messages[at].trouble = Some(trouble);
            }
        }
    }
}

fn faults(rng: &mut fastrand::Rng, kills: u32) -> Vec<(f64, Fault)> {
    let millis = |rng: &mut fastrand::Rng, from, to| Duration::from_millis(rng.u64(from..to));
    let mut faults = Vec::new();
    for n in 0..kills {
        let at = (f64::from(n) + rng.f64()) / f64::from(kills);
        let worker = rng.usize(..WORKERS);
        faults.push((
            at,
            match rng.u8(..10) {
                0..5 => Fault::Kill(worker),
                5..8 => Fault::Terminate(worker),
                _ => Fault::Stop(worker, LEASE + millis(rng, 500, 1500)),
            },
        ));
        let link = rng.usize(..LINKS);
        let fault = match rng.u8(..4) {
            0 => Fault::Cut(link),
            1 => Fault::Mute(link, millis(rng, 50, 300)),
            2 => Fault::Slow(link, millis(rng, 5, 50), millis(rng, 500, 1500)),
            _ => Fault::Hole(link, millis(rng, 200, 3000)),
        };
        faults.push((rng.f64(), fault));
    }
    for _ in 0..kills.div_ceil(15) {
        faults.push((rng.f64(), Fault::Redis(millis(rng, 0, 1000))));
    }
    faults.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(plan: &Plan) -> Vec<Trouble> {
        plan.messages
            .iter()
            .filter_map(|message| message.trouble)
            .collect()
    }

    #[test]
    fn seed_determines_the_campaign() {
        let [a, b, c] = [1, 1, 2].map(|seed| Plan::new(seed, 1000, 20));
        assert_eq!((&a.messages, &a.faults), (&b.messages, &b.faults));
        assert_ne!(a.messages, c.messages);
        assert_ne!(a.faults, c.faults);
    }

    #[test]
    fn campaign_has_all_kinds_of_poison_and_requested_kills() {
        for seed in 0..50 {
            let plan = Plan::new(seed, 24, 20);
            let mut kinds = kinds(&plan);
            kinds.sort_by_key(|kind| format!("{kind:?}"));
            kinds.dedup();
            assert_eq!(kinds.len(), 8, "{kinds:?}");
            let kill = |fault: &&(f64, Fault)| {
                matches!(
                    fault.1,
                    Fault::Kill(_) | Fault::Terminate(_) | Fault::Stop(..)
                )
            };
            assert_eq!(plan.faults.iter().filter(kill).count(), 20);
            assert!(
                plan.faults
                    .iter()
                    .any(|(_, fault)| matches!(fault, Fault::Redis(_)))
            );
        }
    }
}
