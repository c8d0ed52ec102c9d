//! What was observed of each message outside the bus, and whether that is what must be.

use std::collections::HashMap;

use bus::DeadLetter;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    campaign,
    chain::{DeadLetterNote, Step, TestMessage, Trouble, key},
    redelivery::Redelivery,
    side_effects::{Entry, Event, Work},
};

/// How many dead letters there are of each kind.
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
    /// They are not meant to be there.
    pub unexpected: u32,
}

impl Dead {
    /// The number of those of one kind.
    pub fn count(&mut self, trouble: Trouble) -> &mut u32 {
        match trouble {
            Trouble::Panic(_) => &mut self.panic,
            Trouble::Abort(_) => &mut self.abort,
            Trouble::Undecodable => &mut self.undecodable,
            Trouble::Version => &mut self.version,
        }
    }
}

/// Something that must not be.
pub type Violation = campaign::Violation<Kind>;

/// Kinds of violations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A message went missing.
    Lost,
    /// An effect was made twice.
    DuplicateEffect,
    /// The bus stored a message twice for one step.
    DuplicateMessage,
    /// A dead letter that is not meant to be, or lacks, or says the wrong thing.
    DeadLetter,
    /// A worker did not end as it should.
    Process,
    /// The campaign did not come to its end.
    Unfinished,
}

/// What was seen of one message in one step.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    begun: u32,
    effects: u32,
    tag: Option<u64>,
    /// Further tags.
    senders: u32,
    last: Option<(u32, Timestamp)>,
}

/// What was seen outside the bus.
#[derive(Debug)]
pub struct Observations {
    messages: Vec<(TestMessage, [Seen; 3])>,
    /// Messages that took effect in the last step.
    pub finished: usize,
    /// Effects that had been made before.
    pub refused: u64,
    /// How long messages of dead workers waited.
    pub redelivery: Redelivery,
}

/// What the bus says at the end.
#[derive(Debug, Default)]
pub struct Remains {
    /// The dead letters by queue.
    pub letters: Vec<(Step, DeadLetter)>,
    /// What the handlers of dead letters have sent.
    pub dead_letter_notes: Vec<DeadLetterNote>,
    /// Which message the producer put into which envelope.
    pub envelopes: HashMap<Uuid, u32>,
}

impl Observations {
    /// Nothing was seen yet.
    pub fn new(messages: &[TestMessage]) -> Self {
        let messages = messages
            .iter()
            .map(|message| (message.clone(), Default::default()))
            .collect();
        Self {
            messages,
            finished: 0,
            refused: 0,
            redelivery: Redelivery::default(),
        }
    }

    /// Records one line of the log. `deaths` says when workers were killed.
    pub fn record(&mut self, at: Timestamp, entry: &Entry, deaths: &HashMap<u32, Timestamp>) {
        let Entry { worker, event } = entry;
        match event {
            Event::Ready => {}
            Event::Begun(work) => self.begun(at, *worker, *work, deaths),
            Event::Effect(work) => {
                let Some((_, seen)) = self.seen(*work) else {
                    return;
                };
                seen.effects += 1;
                if work.step.next().is_none() && seen.effects == 1 {
                    self.finished += 1;
                }
            }
            Event::Repeat(_) => self.refused += 1,
        }
    }

    fn seen(&mut self, work: Work) -> Option<(&TestMessage, &mut Seen)> {
        let (message, steps) = self.messages.get_mut(work.number as usize)?;
        Some((message, &mut steps[work.step as usize]))
    }

    fn begun(&mut self, at: Timestamp, worker: u32, work: Work, deaths: &HashMap<u32, Timestamp>) {
        let Some((message, seen)) = self.seen(work) else {
            return;
        };
        seen.begun += 1;
        if *seen.tag.get_or_insert(work.tag) != work.tag {
            seen.senders += 1;
        }
        let before = seen.last.replace((worker, at));
        let Some((holder, since)) = before.filter(|(holder, _)| *holder != worker) else {
            return;
        };
        // Poison comes back later on purpose.
        let died = deaths
            .get(&holder)
            .filter(|died| **died < at && message.trouble.is_none());
        if let Some(died) = died {
            self.redelivery.add(since.max(*died), at);
        }
    }

    /// Executions of a step beyond its first.
    pub fn repeated(&self) -> u64 {
        self.messages
            .iter()
            .flat_map(|(_, steps)| steps)
            .map(|seen| u64::from(seen.begun.saturating_sub(1)))
            .sum()
    }

    /// All that is wrong, and the dead letters by kind.
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

    /// Each dead letter must belong to a message that is poison, in its step and with its reason. The letter of a
    /// message that can be read is known by its note, which was stored in the same step.
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
            let said = numbers.and_then(|numbers| {
                let same = numbers
                    .iter()
                    .position(|number| packed.is_none_or(|packed| packed == *number));
                same.map(|at| numbers.swap_remove(at))
            });
            let number = said.or(packed);
            let trouble = number.and_then(|number| self.messages.get(number as usize)?.0.trouble);
            let expected = trouble.filter(|trouble| {
                trouble.step() == *step
                    && trouble.explains(&letter.reason)
                    && trouble.is_readable() == said.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{ATTEMPTS, DEATHS};

    /// A campaign of four messages in which all went well: two are sound, one panics in the second step, one cannot be
    /// read.
    struct Campaign {
        log: Vec<(u32, Event)>,
        remains: Remains,
    }

    const PANIC: &str = "panicked: poison m2";
    const UNREADABLE: &str = "undecodable message body: no message";

    fn letter(id: Uuid, reason: &str, attempts: u32) -> DeadLetter {
        let reason = reason.to_owned();
        DeadLetter {
            id: id.to_string(),
            reason,
            attempts,
            died_at: Timestamp::UNIX_EPOCH,
            unreadable: false,
        }
    }

    fn messages() -> Vec<TestMessage> {
        let troubles = [
            None,
            None,
            Some(Trouble::Panic(Step::Second)),
            Some(Trouble::Undecodable),
        ];
        let message = |(number, trouble)| TestMessage {
            number,
            tag: 0,
            work: [1; 3],
            trouble,
        };
        (0..).zip(troubles).map(message).collect()
    }

    fn work(number: u32, step: Step) -> Work {
        Work {
            number,
            step,
            tag: u64::from(number),
        }
    }

    fn done(number: u32, step: Step) -> [(u32, Event); 2] {
        [
            (1, Event::Begun(work(number, step))),
            (1, Event::Effect(work(number, step))),
        ]
    }

    impl Campaign {
        fn good() -> Self {
            let mut log: Vec<_> = (0..2)
                .flat_map(|n| Step::ALL.map(|step| done(n, step)))
                .flatten()
                .collect();
            log.extend(done(2, Step::First));
            log.push((1, Event::Begun(work(2, Step::Second))));
            let letters = vec![
                (Step::Second, letter(Uuid::from_u128(77), PANIC, ATTEMPTS)),
                (Step::First, letter(Uuid::from_u128(3), UNREADABLE, 1)),
            ];
            let dead_letter_notes = vec![DeadLetterNote {
                number: 2,
                step: Step::Second,
                reason: PANIC.to_owned(),
            }];
            let envelopes = (0..4).map(|n| (Uuid::from_u128(n.into()), n)).collect();
            Self {
                log,
                remains: Remains {
                    letters,
                    dead_letter_notes,
                    envelopes,
                },
            }
        }

        fn observed(&self) -> Observations {
            let mut observed = Observations::new(&messages());
            for (worker, event) in &self.log {
                observed.record(
                    Timestamp::UNIX_EPOCH,
                    &Entry {
                        worker: *worker,
                        event: event.clone(),
                    },
                    &HashMap::new(),
                );
            }
            observed
        }

        fn violations(&self) -> Vec<(Kind, String)> {
            let (violations, _) = self.observed().check(&self.remains);
            violations
                .into_iter()
                .map(|violation| (violation.kind, violation.key))
                .collect()
        }
    }

    fn one(kind: Kind, key: &str) -> Vec<(Kind, String)> {
        vec![(kind, key.to_owned())]
    }

    #[test]
    fn sound_campaign_has_no_violations() {
        let campaign = Campaign::good();
        assert_eq!(campaign.violations(), []);
        let observed = campaign.observed();
        assert_eq!((observed.finished, observed.repeated()), (2, 0));
        let expected = Dead {
            panic: 1,
            undecodable: 1,
            ..Dead::default()
        };
        assert_eq!(observed.check(&campaign.remains).1, expected);
    }

    #[test]
    fn message_without_its_last_effect_is_lost() {
        let mut campaign = Campaign::good();
        campaign.log.retain(
            |(_, event)| !matches!(event, Event::Effect(done) if *done == work(1, Step::Third)),
        );
        assert_eq!(campaign.violations(), one(Kind::Lost, "m1"));
        campaign
            .log
            .retain(|(_, event)| !matches!(event, Event::Effect(done) if done.number == 1));
        assert_eq!(campaign.violations(), one(Kind::Lost, "m1"));
    }

    #[test]
    fn second_effect_is_reported_and_refused_effect_is_not() {
        let mut campaign = Campaign::good();
        campaign.log.push((2, Event::Begun(work(0, Step::Second))));
        campaign.log.push((2, Event::Repeat(work(0, Step::Second))));
        assert_eq!(campaign.violations(), []);
        assert_eq!(
            (campaign.observed().repeated(), campaign.observed().refused),
            (1, 1)
        );
        campaign.log.push((2, Event::Effect(work(0, Step::Second))));
        assert_eq!(campaign.violations(), one(Kind::DuplicateEffect, "m0"));
    }

    #[test]
    fn message_sent_twice_is_reported_despite_one_effect() {
        let mut campaign = Campaign::good();
        campaign.log.push((
            2,
            Event::Begun(Work {
                tag: 99,
                ..work(0, Step::Third)
            }),
        ));
        campaign.log.push((
            2,
            Event::Repeat(Work {
                tag: 99,
                ..work(0, Step::Third)
            }),
        ));
        assert_eq!(campaign.violations(), one(Kind::DuplicateMessage, "m0"));
    }

    #[test]
    fn dead_letter_of_sound_message_is_reported() {
        let mut campaign = Campaign::good();
        campaign
            .log
            .retain(|(_, event)| !matches!(event, Event::Effect(done) if done.number == 1));
        let reason =
            "delivered 5 times in a row and never settled: its worker died, or lost its lease";
        campaign
            .remains
            .letters
            .push((Step::First, letter(Uuid::from_u128(1), reason, DEATHS)));
        let note = DeadLetterNote {
            number: 1,
            step: Step::First,
            reason: reason.to_owned(),
        };
        campaign.remains.dead_letter_notes.push(note);
        assert_eq!(campaign.violations(), one(Kind::DeadLetter, "m1"));
    }

    #[test]
    fn dead_letter_needs_its_reason_attempts_and_note() {
        let spoiled: [fn(&mut Remains); 5] = [
            |remains| remains.letters[1].1.reason = "unknown message version 9".to_owned(),
            |remains| remains.letters[0].1.attempts = 1,
            |remains| remains.letters[0].0 = Step::Third,
            |remains| remains.dead_letter_notes.clear(),
            |remains| {
                remains
                    .letters
                    .push((Step::First, letter(Uuid::from_u128(88), "a stranger", 1)))
            },
        ];
        for (case, spoil) in spoiled.into_iter().enumerate() {
            let mut campaign = Campaign::good();
            spoil(&mut campaign.remains);
            let violations = campaign.violations();
            assert!(
                violations.iter().any(|(kind, _)| *kind == Kind::DeadLetter),
                "case {case}: {violations:?}"
            );
        }
    }

    #[test]
    fn poison_message_must_be_dead_letter_without_effect() {
        let mut campaign = Campaign::good();
        campaign.remains.letters.pop();
        assert_eq!(campaign.violations(), one(Kind::Lost, "m3"));
        let mut campaign = Campaign::good();
        campaign.log.extend(done(2, Step::Second));
        assert_eq!(campaign.violations(), one(Kind::DeadLetter, "m2"));
    }

    #[test]
    fn redelivery_is_measured_from_death_of_the_worker() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut observed = Observations::new(&messages());
        let deaths = HashMap::from([(1, at(10))]);
        let mut begin = |second, worker, number| {
            let event = Event::Begun(work(number, Step::Second));
            observed.record(at(second), &Entry { worker, event }, &deaths);
        };
        begin(5, 1, 0);
        begin(9, 2, 1);
        begin(12, 2, 0);
        // Its worker lives: the lease was lost, or it failed.
        begin(19, 3, 1);
        // Poison.
        begin(5, 1, 2);
        begin(30, 2, 2);
        assert_eq!(observed.redelivery.count(), 1);
        assert_eq!(
            observed.redelivery.longest(&[]),
            std::time::Duration::from_secs(2)
        );
    }
}
