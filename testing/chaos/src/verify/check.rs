//! Checks the observations: the violations, and the dead letters by kind.

use std::collections::HashMap;

use bus::DeadLetter;
use serde::Serialize;
use uuid::Uuid;

use super::Observations;
use crate::{
    campaign,
    chain::{DeadLetterNote, Step, Trouble, key},
};

/// The numbers of dead letters by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Dead {
    /// Their handler panicked.
    pub panic: u32,
    /// They aborted their process.
    pub abort: u32,
    /// They could not be decoded.
    pub undecodable: u32,
    /// They were of an unknown version.
    pub version: u32,
    /// They are not expected.
    pub unexpected: u32,
}

impl Dead {
    /// The counter of one kind.
    pub fn count(&mut self, trouble: Trouble) -> &mut u32 {
        match trouble {
            Trouble::Panic(_) => &mut self.panic,
            Trouble::Abort(_) => &mut self.abort,
            Trouble::Undecodable => &mut self.undecodable,
            Trouble::Version => &mut self.version,
        }
    }
}

/// A violation of a guarantee.
pub type Violation = campaign::Violation<Kind>;

/// Kinds of violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A message was lost.
    Lost,
    /// An effect was made twice.
    DuplicateEffect,
    /// The bus stored a message twice for one step.
    DuplicateMessage,
    /// A dead letter is missing, not expected, or has the wrong reason.
    DeadLetter,
    /// A worker did not end as expected.
    Process,
    /// The campaign was not completed.
    Unfinished,
}

/// The contents of the bus at the end.
#[derive(Debug, Default)]
pub struct Remains {
    /// The dead letters by queue.
    pub letters: Vec<(Step, DeadLetter)>,
    /// The notes that dead-letter handlers sent.
    pub dead_letter_notes: Vec<DeadLetterNote>,
    /// The number of the message in each envelope.
    pub envelopes: HashMap<Uuid, u32>,
}

impl Observations {
    /// All violations, and the dead letters by kind.
    pub fn check(&self, remains: &Remains) -> (Vec<Violation>, Dead) {
        let mut dead = Dead::default();
        let (mut violations, dead_letters) = self.check_letters(remains, &mut dead);
        for (message, steps) in &self.messages {
            let mut report =
                |kind, what| violations.push(Violation::new(kind, key(message.number), what));
            for (step, seen) in Step::ALL.into_iter().zip(steps) {
                if seen.effects > 1 {
                    report(
                        Kind::DuplicateEffect,
                        format!("took effect {} times in {step}", seen.effects),
                    );
                }
                if seen.senders > 0 {
                    report(
                        Kind::DuplicateMessage,
                        format!("was sent {} times to {step}", seen.senders + 1),
                    );
                }
            }
            let dead_letter = dead_letters.get(&message.number).copied();
            // An unexpected dead letter is reported already.
            let end = dead_letter.or(message.trouble.map(|trouble| trouble.step()));
            let due = Step::ALL
                .into_iter()
                .zip(steps)
                .filter(|(step, _)| end.is_none_or(|end| *step < end));
            let missing = due.into_iter().find(|(_, seen)| seen.effects == 0);
            if let Some((step, seen)) = missing {
                let when = if seen.begun > 0 {
                    "began and"
                } else {
                    "was not begun and"
                };
                report(Kind::Lost, format!("{when} took no effect in {step}"));
            }
            if let Some(trouble) = message.trouble {
                if missing.is_none() && dead_letter.is_none() {
                    report(Kind::Lost, format!("is no dead letter, though {trouble:?}"));
                }
                if steps[trouble.step() as usize..]
                    .iter()
                    .any(|seen| seen.effects > 0)
                {
                    report(Kind::DeadLetter, format!("took effect, though {trouble:?}"));
                }
            }
        }
        (violations, dead)
    }

    /// Each dead letter must belong to a poison message, in its step and with its reason. The note that was stored in the
    /// same step identifies the dead letter of a message that can be read.
    fn check_letters(
        &self,
        remains: &Remains,
        dead: &mut Dead,
    ) -> (Vec<Violation>, HashMap<u32, Step>) {
        let mut violations = Vec::new();
        let mut dead_letters = HashMap::new();
        let mut notes: HashMap<(Step, &str), Vec<u32>> = HashMap::new();
        for note in &remains.dead_letter_notes {
            notes
                .entry((note.step, &note.reason))
                .or_default()
                .push(note.number);
        }
        for (step, letter) in &remains.letters {
            let packed = letter
                .id
                .parse()
                .ok()
                .and_then(|id: Uuid| remains.envelopes.get(&id))
                .copied();
            let numbers = notes.get_mut(&(*step, &letter.reason));
            let noted = numbers.and_then(|numbers| {
                let same = numbers
                    .iter()
                    .position(|number| packed.is_none_or(|packed| packed == *number));
                same.map(|at| numbers.swap_remove(at))
            });
            let number = noted.or(packed);
            let trouble = number.and_then(|number| self.messages.get(number as usize)?.0.trouble);
            let expected = trouble.filter(|trouble| {
                trouble.step() == *step
                    && trouble.explains(&letter.reason)
                    && trouble.is_readable() == noted.is_some()
                    && letter.attempts >= trouble.attempts()
            });
            let twice = number.is_some_and(|number| dead_letters.insert(number, *step).is_some());
            match expected.filter(|_| !twice) {
                Some(trouble) => *dead.count(trouble) += 1,
                None => {
                    dead.unexpected += 1;
                    let name = number.map_or_else(|| letter.id.clone(), key);
                    let what = format!(
                        "a dead letter of {step} after {} attempts: {}",
                        letter.attempts, letter.reason
                    );
                    violations.push(Violation::new(Kind::DeadLetter, name, what));
                }
            }
        }
        for ((step, reason), numbers) in notes {
            for number in numbers {
                let what = format!("has a note and no dead letter in {step}: {reason}");
                violations.push(Violation::new(Kind::DeadLetter, key(number), what));
            }
        }
        (violations, dead_letters)
    }
}
