//! The books: what was seen of each parcel outside the bus, and whether that is what must be.

use std::collections::HashMap;

use bus::DeadLetter;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    chain::{LastWord, Parcel, Step, Trouble, key},
    outside::{Entry, Event, Work},
    redelivery::Redelivery,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Offence {
    /// Of which kind.
    pub kind: Kind,
    /// The parcel, dead letter or worker.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

/// Kinds of offences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A parcel went missing.
    Lost,
    /// An effect was made twice.
    DuplicateEffect,
    /// The bus stored a parcel twice for one step.
    DuplicateMessage,
    /// A dead letter that is not meant to be, or lacks, or says the wrong thing.
    DeadLetter,
    /// A worker did not end as it should.
    Process,
    /// The campaign did not come to its end.
    Unfinished,
}

impl Offence {
    /// An offence.
    pub fn new(kind: Kind, key: String, what: String) -> Self {
        Self { kind, key, what }
    }
}

/// What was seen of one parcel in one step.
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
pub struct Account {
    parcels: Vec<(Parcel, [Seen; 3])>,
    /// Parcels that took effect in the last step.
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
    /// What handlers said at burials.
    pub last_words: Vec<LastWord>,
    /// Which parcel the producer put into which envelope.
    pub envelopes: HashMap<Uuid, u32>,
}

impl Account {
    /// Nothing was seen yet.
    pub fn new(parcels: &[Parcel]) -> Self {
        let parcels = parcels
            .iter()
            .map(|parcel| (parcel.clone(), Default::default()))
            .collect();
        Self {
            parcels,
            finished: 0,
            refused: 0,
            redelivery: Redelivery::default(),
        }
    }

    /// Books one line of the log. `deaths` says when workers were killed.
    pub fn book(&mut self, at: Timestamp, entry: &Entry, deaths: &HashMap<u32, Timestamp>) {
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

    fn seen(&mut self, work: Work) -> Option<(&Parcel, &mut Seen)> {
        let (parcel, steps) = self.parcels.get_mut(work.number as usize)?;
        Some((parcel, &mut steps[work.step as usize]))
    }

    fn begun(&mut self, at: Timestamp, worker: u32, work: Work, deaths: &HashMap<u32, Timestamp>) {
        let Some((parcel, seen)) = self.seen(work) else {
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
            .filter(|died| **died < at && parcel.trouble.is_none());
        if let Some(died) = died {
            self.redelivery.add(since.max(*died), at);
        }
    }

    /// Executions of a step beyond its first.
    pub fn repeated(&self) -> u64 {
        self.parcels
            .iter()
            .flat_map(|(_, steps)| steps)
            .map(|seen| u64::from(seen.begun.saturating_sub(1)))
            .sum()
    }

    /// All that is wrong, and the dead letters by kind.
    pub fn check(&self, remains: &Remains) -> (Vec<Offence>, Dead) {
        let mut dead = Dead::default();
        let (mut offences, buried) = self.check_letters(remains, &mut dead);
        for (parcel, steps) in &self.parcels {
            let mut offend =
                |kind, what| offences.push(Offence::new(kind, key(parcel.number), what));
            for (step, seen) in Step::ALL.into_iter().zip(steps) {
                if seen.effects > 1 {
                    offend(
                        Kind::DuplicateEffect,
                        format!("took effect {} times in {step}", seen.effects),
                    );
                }
                if seen.senders > 0 {
                    offend(
                        Kind::DuplicateMessage,
                        format!("was sent {} times to {step}", seen.senders + 1),
                    );
                }
            }
            let grave = buried.get(&parcel.number).copied();
            // An unexpected burial has been told of.
            let end = grave.or(parcel.trouble.map(|trouble| trouble.step()));
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
                offend(Kind::Lost, format!("{when} took no effect in {step}"));
            }
            if let Some(trouble) = parcel.trouble {
                if missing.is_none() && grave.is_none() {
                    offend(Kind::Lost, format!("is no dead letter, though {trouble:?}"));
                }
                if steps[trouble.step() as usize..]
                    .iter()
                    .any(|seen| seen.effects > 0)
                {
                    offend(Kind::DeadLetter, format!("took effect, though {trouble:?}"));
                }
            }
        }
        (offences, dead)
    }

    /// Each dead letter must belong to a parcel that is poison, in its step and with its reason. The letter of a
    /// parcel that can be read is known by the last word on it, which was stored in the same step.
    fn check_letters(
        &self,
        remains: &Remains,
        dead: &mut Dead,
    ) -> (Vec<Offence>, HashMap<u32, Step>) {
        let mut offences = Vec::new();
        let mut buried = HashMap::new();
        let mut spoken: HashMap<(Step, &str), Vec<u32>> = HashMap::new();
        for word in &remains.last_words {
            spoken
                .entry((word.step, &word.reason))
                .or_default()
                .push(word.number);
        }
        for (step, letter) in &remains.letters {
            let packed = letter
                .id
                .parse()
                .ok()
                .and_then(|id: Uuid| remains.envelopes.get(&id))
                .copied();
            let words = spoken.get_mut(&(*step, &letter.reason));
            let said = words.and_then(|numbers| {
                let same = numbers
                    .iter()
                    .position(|number| packed.is_none_or(|packed| packed == *number));
                same.map(|at| numbers.swap_remove(at))
            });
            let number = said.or(packed);
            let trouble = number.and_then(|number| self.parcels.get(number as usize)?.0.trouble);
            let expected = trouble.filter(|trouble| {
                trouble.step() == *step
                    && trouble.explains(&letter.reason)
                    && trouble.is_readable() == said.is_some()
                    && letter.attempts >= trouble.attempts()
            });
            let twice = number.is_some_and(|number| buried.insert(number, *step).is_some());
            match expected.filter(|_| !twice) {
                Some(trouble) => *dead.count(trouble) += 1,
                None => {
                    dead.unexpected += 1;
                    let name = number.map_or_else(|| letter.id.clone(), key);
                    let what = format!(
                        "a dead letter of {step} after {} attempts: {}",
                        letter.attempts, letter.reason
                    );
                    offences.push(Offence::new(Kind::DeadLetter, name, what));
                }
            }
        }
        for ((step, reason), numbers) in spoken {
            for number in numbers {
                let what = format!("has a last word and no dead letter in {step}: {reason}");
                offences.push(Offence::new(Kind::DeadLetter, key(number), what));
            }
        }
        (offences, buried)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{ATTEMPTS, DEATHS};

    /// A campaign of four parcels in which all went well: two are sound, one panics in the second step, one cannot be
    /// read.
    struct Campaign {
        log: Vec<(u32, Event)>,
        remains: Remains,
    }

    const PANIC: &str = "panicked: poison m2";
    const UNREADABLE: &str = "undecodable message body: no parcel";

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

    fn parcels() -> Vec<Parcel> {
        let troubles = [
            None,
            None,
            Some(Trouble::Panic(Step::Second)),
            Some(Trouble::Undecodable),
        ];
        let parcel = |(number, trouble)| Parcel {
            number,
            tag: 0,
            work: [1; 3],
            trouble,
        };
        (0..).zip(troubles).map(parcel).collect()
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
            let last_words = vec![LastWord {
                number: 2,
                step: Step::Second,
                reason: PANIC.to_owned(),
            }];
            let envelopes = (0..4).map(|n| (Uuid::from_u128(n.into()), n)).collect();
            Self {
                log,
                remains: Remains {
                    letters,
                    last_words,
                    envelopes,
                },
            }
        }

        fn account(&self) -> Account {
            let mut account = Account::new(&parcels());
            for (worker, event) in &self.log {
                account.book(
                    Timestamp::UNIX_EPOCH,
                    &Entry {
                        worker: *worker,
                        event: event.clone(),
                    },
                    &HashMap::new(),
                );
            }
            account
        }

        fn offences(&self) -> Vec<(Kind, String)> {
            let (offences, _) = self.account().check(&self.remains);
            offences
                .into_iter()
                .map(|offence| (offence.kind, offence.key))
                .collect()
        }
    }

    fn one(kind: Kind, key: &str) -> Vec<(Kind, String)> {
        vec![(kind, key.to_owned())]
    }

    #[test]
    fn a_campaign_without_fault_has_no_offences() {
        let campaign = Campaign::good();
        assert_eq!(campaign.offences(), []);
        let account = campaign.account();
        assert_eq!((account.finished, account.repeated()), (2, 0));
        let expected = Dead {
            panic: 1,
            undecodable: 1,
            ..Dead::default()
        };
        assert_eq!(account.check(&campaign.remains).1, expected);
    }

    #[test]
    fn a_parcel_that_does_not_come_through_is_lost() {
        let mut campaign = Campaign::good();
        campaign.log.retain(
            |(_, event)| !matches!(event, Event::Effect(done) if *done == work(1, Step::Third)),
        );
        assert_eq!(campaign.offences(), one(Kind::Lost, "m1"));
        campaign
            .log
            .retain(|(_, event)| !matches!(event, Event::Effect(done) if done.number == 1));
        assert_eq!(campaign.offences(), one(Kind::Lost, "m1"));
    }

    #[test]
    fn an_effect_that_is_made_twice_is_reported_and_one_that_was_refused_is_not() {
        let mut campaign = Campaign::good();
        campaign.log.push((2, Event::Begun(work(0, Step::Second))));
        campaign.log.push((2, Event::Repeat(work(0, Step::Second))));
        assert_eq!(campaign.offences(), []);
        assert_eq!(
            (campaign.account().repeated(), campaign.account().refused),
            (1, 1)
        );
        campaign.log.push((2, Event::Effect(work(0, Step::Second))));
        assert_eq!(campaign.offences(), one(Kind::DuplicateEffect, "m0"));
    }

    #[test]
    fn a_parcel_with_two_senders_is_reported_even_though_its_effect_is_one() {
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
        assert_eq!(campaign.offences(), one(Kind::DuplicateMessage, "m0"));
    }

    #[test]
    fn an_innocent_dead_letter_is_reported_as_that() {
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
        let word = LastWord {
            number: 1,
            step: Step::First,
            reason: reason.to_owned(),
        };
        campaign.remains.last_words.push(word);
        assert_eq!(campaign.offences(), one(Kind::DeadLetter, "m1"));
    }

    #[test]
    fn a_dead_letter_must_have_its_reason_its_attempts_and_its_last_word() {
        let spoiled: [fn(&mut Remains); 5] = [
            |remains| remains.letters[1].1.reason = "unknown message version 9".to_owned(),
            |remains| remains.letters[0].1.attempts = 1,
            |remains| remains.letters[0].0 = Step::Third,
            |remains| remains.last_words.clear(),
            |remains| {
                remains
                    .letters
                    .push((Step::First, letter(Uuid::from_u128(88), "a stranger", 1)))
            },
        ];
        for (case, spoil) in spoiled.into_iter().enumerate() {
            let mut campaign = Campaign::good();
            spoil(&mut campaign.remains);
            let offences = campaign.offences();
            assert!(
                offences.iter().any(|(kind, _)| *kind == Kind::DeadLetter),
                "case {case}: {offences:?}"
            );
        }
    }

    #[test]
    fn poison_that_is_no_dead_letter_is_lost_and_may_have_no_effect() {
        let mut campaign = Campaign::good();
        campaign.remains.letters.pop();
        assert_eq!(campaign.offences(), one(Kind::Lost, "m3"));
        let mut campaign = Campaign::good();
        campaign.log.extend(done(2, Step::Second));
        assert_eq!(campaign.offences(), one(Kind::DeadLetter, "m2"));
    }

    #[test]
    fn a_redelivery_is_measured_from_the_death_of_a_worker_that_held_the_message() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut account = Account::new(&parcels());
        let deaths = HashMap::from([(1, at(10))]);
        let mut begin = |second, worker, number| {
            let event = Event::Begun(work(number, Step::Second));
            account.book(at(second), &Entry { worker, event }, &deaths);
        };
        begin(5, 1, 0);
        begin(9, 2, 1);
        begin(12, 2, 0);
        // Its worker lives: the lease was lost, or it failed.
        begin(19, 3, 1);
        // Poison.
        begin(5, 1, 2);
        begin(30, 2, 2);
        assert_eq!(account.redelivery.count(), 1);
        assert_eq!(
            account.redelivery.longest(&[]),
            std::time::Duration::from_secs(2)
        );
    }
}
