//! What was observed of each build on Phabricator and on Try, and whether that is what must be.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::{
    answer::{Amiss, End, Said},
    report::Ends,
};
use crate::campaign;

/// The least attempts after which a build may be given up, and so the least faults that it must have met. Both limits
/// of the queue, attempts and deaths, are as high.
pub const ATTEMPTS: u32 = 5;

/// Something that must not be.
pub type Violation = campaign::Violation<Kind>;

/// Kinds of violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An accepted build has no answer, or half of one.
    NoAnswer,
    /// Something was said twice on a build.
    DuplicateAnswer,
    /// The answer names another cause than the true one.
    WrongBlame,
    /// A build that was never requested was answered.
    Stray,
    /// A head on Try is missing, doubled, foreign, or not what its link says.
    TryHead,
    /// A dead letter that belongs to no build which was given up for it.
    DeadLetter,
    /// A process did not end as it should.
    Process,
    /// The campaign did not come to its end.
    Unfinished,
}

/// How a build has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    /// On Try.
    Pushed,
    /// The patch is to blame, in words that hold all of these.
    PatchFailed(Vec<String>),
    /// There is nothing to do, in words that hold these.
    Neutral(String),
    /// No answer: the revision is private, or the target is unknown.
    Silent,
    /// Its target was stopped: on Try, or without an answer, or with the link alone.
    Stopped,
    /// On Try, or nothing to do, in words that hold these.
    PushedOr(String),
}

/// The response to the request of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    /// 200.
    Accepted,
    /// The connection was refused.
    NotConnected,
    /// An error, or half an answer. The build may have been stored before that.
    Unclear,
}

/// A build, and all that was seen of it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Names it for people.
    pub name: String,
    /// Its target.
    pub target: String,
    /// Its diff.
    pub diff: String,
    /// The number of its repository.
    pub repository: usize,
    /// How many patches its stack has.
    pub patches: usize,
    /// How it has to end.
    pub truth: Truth,
    /// Whether it was taken in.
    pub response: Response,
    /// What was said of it.
    pub said: Said,
    /// How many faults there were from its request on.
    pub faults: u32,
}

impl Entry {
    /// The one end that all of it makes. After a fault the unit beside a link may be missing: whoever was killed while it
    /// sent the unit leaves nothing that tells whether it came, and it is never sent twice.
    fn end(&self) -> Result<End, Amiss> {
        match self.said.end() {
            Err(Amiss::LinkAlone(link)) if self.faults > 0 => Ok(End::Pushed(link)),
            end => end,
        }
    }
}

/// A head on Try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its changeset.
    pub node: String,
    /// The diff that it says it is of.
    pub diff: String,
}

/// What was pushed to one Try.
#[derive(Debug, Clone, Default)]
pub struct Try {
    /// Its heads.
    pub heads: Vec<Head>,
    /// How many changesets were pushed, heads and what they stand on.
    pub changesets: usize,
}

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its queue.
    pub queue: &'static str,
    /// The target that it is about, if it can be read.
    pub target: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: String,
}

/// All that was seen.
#[derive(Debug, Clone, Default)]
pub struct Observations {
    /// The builds.
    pub builds: Vec<Entry>,
    /// The Try of each repository.
    pub tries: Vec<Try>,
    /// The dead letters of all queues.
    pub letters: Vec<Letter>,
}

/// The result of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// All that is wrong.
    pub violations: Vec<Violation>,
    /// Builds that were taken in.
    pub accepted: usize,
    /// Those of them that ended.
    pub ended: usize,
    /// Builds that were accepted without a response that confirms it.
    pub unconfirmed: usize,
    /// How they ended.
    pub ends: Ends,
    /// Builds that were rightly given up.
    pub given_up: Vec<String>,
}

impl Observations {
    /// Compares all that was seen with what must be. `dead` names the queue whose builds may be given up.
    pub fn verify(&self, gives_up: &str) -> Verdict {
        let mut verdict = Verdict::default();
        for build in &self.builds {
            self.check_answer(build, gives_up, &mut verdict);
        }
        for (number, pushed) in self.tries.iter().enumerate() {
            self.check_try(number, pushed, &mut verdict.violations);
        }
        for letter in &self.letters {
            let build = self
                .builds
                .iter()
                .find(|build| Some(&build.target) == letter.target.as_ref());
            let told = build.is_some_and(|build| matches!(build.end(), Ok(End::Broken(_))));
            if letter.queue != gives_up || !told {
                let name = build.map_or_else(|| "unknown".to_owned(), |build| build.name.clone());
                let what = format!(
                    "a dead letter of {} after {} attempts: {}",
                    letter.queue, letter.attempts, letter.reason
                );
                verdict
                    .violations
                    .push(Violation::new(Kind::DeadLetter, name, what));
            }
        }
        verdict
    }

    fn check_answer(&self, build: &Entry, gives_up: &str, verdict: &mut Verdict) {
        let mut report = |kind, what| {
            verdict
                .violations
                .push(Violation::new(kind, build.name.clone(), what))
        };
        let end = build.end();
        let left_a_trace = end != Err(Amiss::Silent);
        match build.response {
            Response::Accepted => {}
            Response::NotConnected if left_a_trace => {
                return report(Kind::Stray, format!("was answered: {:?}", build.said));
            }
            Response::Unclear if left_a_trace => verdict.unconfirmed += 1,
            Response::NotConnected | Response::Unclear => return,
        }
        verdict.accepted += 1;
        let end = match end {
            Ok(end) => end,
            Err(Amiss::Silent) if matches!(build.truth, Truth::Silent | Truth::Stopped) => {
                verdict.ended += 1;
                verdict.ends.silent += 1;
                return;
            }
            Err(Amiss::LinkAlone(link)) if build.truth == Truth::Stopped => End::Pushed(link),
            Err(Amiss::Silent) => return report(Kind::NoAnswer, "has no answer".to_owned()),
            Err(Amiss::Half | Amiss::LinkAlone(_)) => {
                return report(
                    Kind::NoAnswer,
                    format!("has half an answer: {:?}", build.said),
                );
            }
            Err(Amiss::Twice) => {
                verdict.ended += 1;
                return report(
                    Kind::DuplicateAnswer,
                    format!("was answered twice: {:?}", build.said),
                );
            }
        };
        verdict.ended += 1;
        verdict.ends.count(&end);
        let right = match (&build.truth, &end) {
            (Truth::Pushed | Truth::Stopped | Truth::PushedOr(_), End::Pushed(_)) => true,
            (Truth::PatchFailed(words), End::PatchFailed(text)) => {
                words.iter().all(|words| text.contains(words))
            }
            (Truth::Neutral(words) | Truth::PushedOr(words), End::Neutral(text)) => {
                text.contains(words)
            }
            (Truth::Pushed | Truth::PushedOr(_) | Truth::PatchFailed(_), End::Broken(_)) => {
                let letter = self
                    .letters
                    .iter()
                    .find(|letter| letter.target.as_ref() == Some(&build.target));
                let worn_out =
                    letter.filter(|letter| letter.queue == gives_up && letter.attempts >= ATTEMPTS);
                let worn_out = worn_out.filter(|_| build.faults >= ATTEMPTS);
                verdict
                    .given_up
                    .extend(worn_out.map(|letter| format!("{}: {}", build.name, letter.reason)));
                worn_out.is_some()
            }
            _ => false,
        };
        if !right {
            let what = format!(
                "ended as {end:?}, expected {:?}; {} faults since its request",
                build.truth, build.faults
            );
            report(Kind::WrongBlame, what);
        }
    }

    fn check_try(&self, number: usize, pushed: &Try, violations: &mut Vec<Violation>) {
        let mut report =
            |key: String, what| violations.push(Violation::new(Kind::TryHead, key, what));
        let mut heads: HashMap<&str, Vec<&str>> = HashMap::new();
        for head in &pushed.heads {
            heads.entry(&head.diff).or_default().push(&head.node);
        }
        let (mut changesets, mut shared) = (0, 0);
        // The patches of a restarted build are the same changesets, if both builds have the same base.
        let mut seen = HashSet::new();
        let mut count = |build: &Entry| {
            changesets += build.patches + 1;
            if !seen.insert(build.diff.clone()) {
                shared += build.patches;
            }
        };
        let builds = || {
            self.builds
                .iter()
                .filter(|build| build.repository == number)
        };
        // A restarted build has another target, with a link and a head of its own.
        for build in builds() {
            let Some(link) = build.said.links.first() else {
                continue;
            };
            let found = heads.entry(&build.diff).or_default();
            let linked = found
                .iter()
                .position(|head| link.ends_with(&format!("revision={head}")));
            if let Some(at) = linked {
                found.remove(at);
                count(build);
            } else {
                let what = format!("has the link {link} and on Try the heads {found:?}");
                report(build.name.clone(), what);
                found.clear();
            }
        }
        // The head of a build that was stopped after its push may have no link.
        let stopped = |build: &&Entry| {
            build.truth == Truth::Stopped && build.response != Response::NotConnected
        };
        for build in builds().filter(stopped) {
            let head = heads
                .get_mut(build.diff.as_str())
                .filter(|_| build.said.links.is_empty())
                .and_then(Vec::pop);
            if head.is_some() {
                count(build);
            }
        }
        let mut strangers: Vec<_> = heads
            .into_iter()
            .filter(|(_, nodes)| !nodes.is_empty())
            .map(|(diff, nodes)| {
                let known = builds().find(|build| build.diff == diff);
                (known.map_or(diff, |build| &build.name), nodes)
            })
            .collect();
        strangers.sort_unstable();
        for (key, nodes) in strangers {
            report(
                key.to_owned(),
                format!("has the heads {nodes:?} on Try {number}, and no build has a link to them"),
            );
        }
        let expected = changesets - shared..=changesets;
        if violations.is_empty() && !expected.contains(&pushed.changesets) {
            let what = format!(
                "has {} pushed changesets, and its builds have {expected:?}",
                pushed.changesets
            );
            violations.push(Violation::new(Kind::TryHead, format!("Try {number}"), what));
        }
    }
}

#[cfg(test)]
mod tests;
