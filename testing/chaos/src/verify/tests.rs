//! A sound campaign has no violations; each fault in it is one.

use bus::DeadLetter;
use uuid::Uuid;

use super::*;
use crate::chain::{ATTEMPTS, DEATHS, DeadLetterNote, Step, Trouble};

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
    let reason = "delivered 5 times in a row and never settled: its worker died, or lost its lease";
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
