//! What a campaign on the pipeline found.

use serde::Serialize;

use super::{
    answer::End,
    plan::{Fault, Interruption},
    vcs::Vcs,
    verify::{Kind, Verdict, Violation},
};
use crate::campaign::{Outcome, count, table};

/// How many builds ended in which way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ends {
    /// On Try.
    pub pushed: usize,
    /// By their patch's fault.
    pub patch_failed: usize,
    /// With nothing to do.
    pub neutral: usize,
    /// By ours.
    pub broken: usize,
    /// Without a word, since nobody may say one.
    pub silent: usize,
}

impl Ends {
    /// Counts one more.
    pub fn count(&mut self, end: &End) {
        *match end {
            End::Pushed(_) => &mut self.pushed,
            End::PatchFailed(_) => &mut self.patch_failed,
            End::Neutral(_) => &mut self.neutral,
            End::Broken(_) => &mut self.broken,
        } += 1;
    }
}

/// How often each fault happened.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Faults {
    /// Web servers killed.
    pub web: u32,
    /// Workers killed.
    pub worker: u32,
    /// Times that the `hg`s or `git`s of a worker were killed.
    pub program: u32,
    /// Times that the `ssh`s of a worker were killed.
    pub ssh: u32,
    /// Times that the `hg`s or `git`s on the side of Try were killed.
    pub try_program: u32,
    /// Web servers and workers told to end.
    pub sigterm: u32,
    /// Restarts of Redis.
    pub redis_restarts: u32,
    /// Builds that were aborted in Harbormaster.
    pub aborts: u32,
    /// Builds that were restarted in Harbormaster.
    pub restarts: u32,
    /// Builds whose revision was abandoned.
    pub abandons: u32,
}

impl Faults {
    /// Counts one more.
    pub fn count(&mut self, fault: Fault) {
        *match fault {
            Fault::Web => &mut self.web,
            Fault::Worker(_) => &mut self.worker,
            Fault::Program(..) => &mut self.program,
            Fault::Ssh(_) => &mut self.ssh,
            Fault::Try(..) => &mut self.try_program,
            Fault::StopWeb | Fault::StopWorker(_) => &mut self.sigterm,
            Fault::Redis(_) => &mut self.redis_restarts,
        } += 1;
    }

    /// Counts one more of what people do to a build.
    pub fn count_interruption(&mut self, how: Interruption) {
        *match how {
            Interruption::Abort => &mut self.aborts,
            Interruption::Restart => &mut self.restarts,
            Interruption::Abandon => &mut self.abandons,
        } += 1;
    }

    /// How many were SIGKILL or SIGTERM to something that is not Redis.
    pub fn kills(&self) -> u32 {
        self.web + self.worker + self.program + self.ssh + self.try_program + self.sigterm
    }

    /// All faults of processes.
    pub fn all(&self) -> u32 {
        self.kills() + self.redis_restarts
    }
}

/// The outcome, also as its JSON line.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version control of the repositories.
    pub vcs: Vcs,
    /// Builds that were taken in.
    pub accepted: usize,
    /// Those of them that have their end.
    pub ended: usize,
    /// Those of them that have the link of a push.
    pub pushed: usize,
    /// Heads on both Try repositories.
    pub try_heads: usize,
    /// Writes of a ref that were cut off by a kill at Try, and made again or not.
    pub cut_off_writes: usize,
    /// Builds on which something was said twice.
    pub duplicate_answers: usize,
    /// Builds whose answer names another cause than the true one.
    pub wrong_blame: usize,
    /// Processes killed or told to end.
    pub kills: u32,
    /// Builds that were asked for.
    pub builds: usize,
    /// Builds whose request got no 200.
    pub refused: usize,
    /// Those of them that were taken in all the same.
    pub unconfirmed: usize,
    /// Requests that were sent twice.
    pub repeated_requests: usize,
    /// How the builds ended.
    pub ends: Ends,
    /// Good and bad builds alike whose attempts were used up by faults.
    pub given_up: Vec<String>,
    /// Dead letters.
    pub dead_letters: usize,
    /// Faults by kind.
    pub faults: Faults,
    /// Decides what happens.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// All that is wrong.
    pub violations: Vec<Violation>,
}

/// What a report is made of beside the verdict.
#[derive(Debug)]
pub struct Course {
    /// The version control of the repositories.
    pub vcs: Vcs,
    /// Builds whose request got no 200.
    pub refused: usize,
    /// Requests that were sent twice.
    pub repeated_requests: usize,
    /// Heads on both Try repositories.
    pub try_heads: usize,
    /// Writes of a ref that were cut off by a kill at Try.
    pub cut_off_writes: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// Faults by kind.
    pub faults: Faults,
    /// Decides what happens.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
}

impl Report {
    /// The report on a campaign of `builds` builds.
    pub fn new(builds: usize, verdict: Verdict, course: Course) -> Self {
        let count = |kind| count(&verdict.violations, kind);
        Self {
            vcs: course.vcs,
            accepted: verdict.accepted,
            ended: verdict.ended,
            pushed: verdict.ends.pushed,
            try_heads: course.try_heads,
            cut_off_writes: course.cut_off_writes,
            duplicate_answers: count(Kind::DuplicateAnswer),
            wrong_blame: count(Kind::WrongBlame),
            kills: course.faults.kills(),
            builds,
            refused: course.refused,
            unconfirmed: verdict.unconfirmed,
            repeated_requests: course.repeated_requests,
            ends: verdict.ends,
            given_up: verdict.given_up,
            dead_letters: course.dead_letters,
            faults: course.faults,
            seed: course.seed,
            seconds: course.seconds,
            violations: verdict.violations,
        }
    }
}

impl Outcome for Report {
    fn passed(&self) -> bool {
        self.violations.is_empty()
    }

    fn table(&self) -> String {
        let Faults {
            web,
            worker,
            program,
            ssh,
            try_program,
            sigterm,
            redis_restarts,
            aborts,
            restarts,
            abandons,
        } = &self.faults;
        let vcs = self.vcs.program();
        let Ends {
            pushed,
            patch_failed,
            neutral,
            broken,
            silent,
        } = &self.ends;
        let mut rows = vec![
            (
                "builds",
                format!(
                    "{} with {vcs} in {:.0} s, seed {}",
                    self.builds, self.seconds, self.seed
                ),
            ),
            (
                "kills",
                format!(
                    "{} ({web} web, {worker} workers, {program} {vcs}, {ssh} ssh, {try_program} {vcs} of Try; {sigterm} SIGTERM)",
                    self.kills
                ),
            ),
            ("restarts of redis", redis_restarts.to_string()),
            (
                "interrupted builds",
                format!("{aborts} aborted, {restarts} restarted, {abandons} abandoned"),
            ),
            (
                "accepted",
                format!(
                    "{}, {} of them unconfirmed; {} requests got no 200",
                    self.accepted, self.unconfirmed, self.refused
                ),
            ),
            (
                "ended",
                format!(
                    "{} ({pushed} pushed, {patch_failed} bad patches, {neutral} nothing to do, {silent} in silence, {broken} given up)",
                    self.ended
                ),
            ),
            ("heads on Try", self.try_heads.to_string()),
            (
                "duplicate answers",
                format!(
                    "{} ({} requests were sent twice)",
                    self.duplicate_answers, self.repeated_requests
                ),
            ),
            ("wrong blame", self.wrong_blame.to_string()),
            ("dead letters", self.dead_letters.to_string()),
        ];
        rows.extend(
            self.given_up
                .iter()
                .map(|build| ("given up", build.clone())),
        );
        table(rows, &self.violations) + if self.passed() { "passed" } else { "FAILED" }
    }
}
