//! What was observed of each build on Phabricator and on Try, and whether that is what must be.

mod heads;

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
    /// The end of a link to it.
    pub link: String,
    /// The target that it says it is for, if its commits say that.
    pub target: Option<String>,
    /// Whether it was on a ref that has a later head now.
    pub replaced: bool,
}

/// What was pushed to one Try. A changeset of Git is a commit.
#[derive(Debug, Clone, Default)]
pub struct Try {
    /// Its heads.
    pub heads: Vec<Head>,
    /// How many changesets were pushed, heads and what they stand on.
    pub changesets: usize,
    /// How many changesets a build has beside its patches. Builds of the same diff may share a head without any.
    pub own_commits: usize,
    /// How many writes of a ref were cut off. A program that is killed at Try may leave one.
    pub cut_off_writes: usize,
    /// What is wrong with it as such: with what, and in which way.
    pub wrong: Vec<(String, String)>,
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
    /// How often the programs that served a Try were killed.
    pub try_kills: usize,
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
        let cut_off: usize = self.tries.iter().map(|pushed| pushed.cut_off_writes).sum();
        if cut_off > self.try_kills {
            let what = format!(
                "{cut_off} writes of refs were cut off by {} kills",
                self.try_kills
            );
            verdict
                .violations
                .push(Violation::new(Kind::TryHead, "Try".to_owned(), what));
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
}

#[cfg(test)]
mod tests;
