//! What a campaign found.

use serde::Serialize;

use crate::{
    campaign::{Outcome, table},
    verify::{Dead, Kind, Violation},
};

/// How often each fault happened.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Faults {
    /// Workers killed.
    pub sigkill: u32,
    /// Workers told to end.
    pub sigterm: u32,
    /// Workers stopped for longer than their leases, and woken.
    pub sigstop: u32,
    /// Restarts of Redis.
    pub redis_restarts: u32,
    /// Links cut.
    pub cut: u32,
    /// Links that lost answers.
    pub muted: u32,
    /// Links that were slow.
    pub slowed: u32,
    /// Links that held everything.
    pub black_holed: u32,
}

/// The outcome, also as its JSON line.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Messages.
    pub messages: usize,
    /// Workers killed, terminated or stopped.
    pub kills: u32,
    /// Messages that did not come through, and poison that did not become a dead letter.
    pub lost: usize,
    /// Steps of a message whose effect was made more than once.
    pub duplicate_effects: usize,
    /// Steps of a message for which the bus stored it more than once.
    pub duplicate_messages: usize,
    /// Dead letters.
    pub dead: usize,
    /// The longest wait of a message whose worker was killed or terminated.
    pub max_redelivery_s: f64,
    /// How many such waits were measured.
    pub redelivered: usize,
    /// Executions of a step beyond its first.
    pub repeated: u64,
    /// Effects that were refused since they had been made.
    pub refused_effects: u64,
    /// Pushes that failed, and were tried again.
    pub failed_pushes: u64,
    /// Messages that a push which seemed to fail had stored.
    pub repeated_pushes: usize,
    /// Workers started beyond the first ones.
    pub restarts: usize,
    /// Workers that aborted.
    pub aborted: u32,
    /// Faults by kind.
    pub faults: Faults,
    /// Dead letters by kind.
    pub dead_letters: Dead,
    /// Decides what happens.
    pub seed: u64,
    /// How long it took.
    pub seconds: f64,
    /// All that is wrong.
    pub violations: Vec<Violation>,
    /// Whether a loss is reported and no failure.
    #[serde(skip)]
    pub losses_are_expected: bool,
}

impl Outcome for Report {
    fn passed(&self) -> bool {
        let forgiven =
            |kind| self.losses_are_expected && matches!(kind, Kind::Lost | Kind::DuplicateMessage);
        self.violations
            .iter()
            .all(|violation| forgiven(violation.kind))
    }

    fn table(&self) -> String {
        let Faults {
            sigkill,
            sigterm,
            sigstop,
            redis_restarts,
            cut,
            muted,
            slowed,
            black_holed,
        } = &self.faults;
        let Dead {
            panic,
            abort,
            undecodable,
            version,
            unexpected,
        } = &self.dead_letters;
        let rows = [
            (
                "messages",
                format!(
                    "{} in {:.0} s, seed {}",
                    self.messages, self.seconds, self.seed
                ),
            ),
            (
                "kills",
                format!(
                    "{} ({sigkill} SIGKILL, {sigterm} SIGTERM, {sigstop} SIGSTOP)",
                    self.kills
                ),
            ),
            (
                "other faults",
                format!(
                    "{redis_restarts} restarts of redis; links: {cut} cut, {muted} muted, {slowed} slowed, {black_holed} black-holed"
                ),
            ),
            (
                "workers restarted",
                format!("{}, {} after an abort", self.restarts, self.aborted),
            ),
            ("lost", self.lost.to_string()),
            (
                "duplicate effects",
                format!(
                    "{} ({} refused by their key)",
                    self.duplicate_effects, self.refused_effects
                ),
            ),
            (
                "duplicate messages",
                format!(
                    "{} ({} steps were repeated)",
                    self.duplicate_messages, self.repeated
                ),
            ),
            (
                "dead letters",
                format!(
                    "{} ({panic} panicked, {abort} aborted, {undecodable} undecodable, {version} of an unknown version, {unexpected} unexpected)",
                    self.dead
                ),
            ),
            (
                "pushes tried again",
                format!(
                    "{}, {} messages had been stored",
                    self.failed_pushes, self.repeated_pushes
                ),
            ),
            (
                "longest redelivery",
                format!("{:.2} s, of {}", self.max_redelivery_s, self.redelivered),
            ),
        ];
        let outcome = match (self.violations.is_empty(), self.passed()) {
            (true, _) => "passed",
            (false, true) => "passed with losses",
            (false, false) => "FAILED",
        };
        table(rows, &self.violations) + outcome
    }
}
