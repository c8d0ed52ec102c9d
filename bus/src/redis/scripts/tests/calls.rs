//! Valid calls, as the builders make them.

use std::time::Duration;

use redis::{Arg, Script};
use runtime::SystemClock;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Call, CompareFirst, Do, Extend, GetLetter, GetStatus, ListLetters, Over, Packed, Poll,
        ProbeWrite, Push, ReserveFromPartitions, SetPaused, Settle, SettleOne, TakeLetters, Walk,
        pack,
    },
    PREFIX,
};
use crate::{
    Field, Lease, Message, MessageSelector, Outgoing, Policy, Queue, QueueSpec, RecordStore,
    RecordUpdate, SettleRequest, Settlement,
};

#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    text: String,
}

impl Message for Note {
    const VERSION: u16 = 1;
}

pub(super) const NOTES: Queue<Note> = Queue::new(
    "notes",
    Policy {
        max_depth: Some(1000),
        ..Policy::DEFAULT
    },
);

pub(super) const PARTITIONED: Queue<Note> =
    Queue::with_partitions("partitioned", Policy::DEFAULT, |_| "x".to_owned());
pub(super) const BUILDS: RecordStore = RecordStore {
    name: "builds",
    retention: Duration::from_secs(60),
};

pub(super) fn packed(queue: &Queue<Note>, text: &str) -> Outgoing {
    let note = Note {
        text: text.to_owned(),
    };
    queue.pack(&note, &SystemClock).unwrap()
}

fn lease(queue: &QueueSpec, partition: Option<&str>, entry: u64) -> Lease {
    let (queue, length) = (queue.name, queue.policy.lease);
    Lease {
        queue,
        length,
        partition: partition.map(str::to_owned),
        entry: (entry, 0),
        delivery: 1,
        spent: None,
    }
}

/// A script by name, and the arguments that call it.
pub(super) type ScriptCall = (&'static str, &'static Script, Vec<Vec<u8>>);

/// A call of each script that changes all that the script can.
pub(super) fn calls() -> Vec<ScriptCall> {
    fn one<C: Call>(name: &'static str, call: &C) -> ScriptCall {
        let command = call.command(PREFIX);
        let arguments = command.args_iter().map(|argument| match argument {
            Arg::Simple(bytes) => bytes.to_vec(),
            _ => panic!("{name}: not bytes"),
        });
        // The command, the script, the number of keys and the key come before.
        (name, call.script(), arguments.skip(4).collect())
    }
    let (notes, partitioned) = (NOTES.spec(), PARTITIONED.spec());
    let message = |queue: &Queue<Note>| packed(queue, "x");
    let keyed = || Outgoing {
        key: Some("k".to_owned()),
        ..message(&NOTES)
    };
    let late = || Outgoing {
        after: Duration::from_secs(5),
        ..message(&PARTITIONED)
    };
    let updates = vec![
        BUILDS.erase("a"),
        BUILDS.set("a", Field::new("one"), &1).unwrap(),
        BUILDS.set("a", Field::new("two"), &2).unwrap(),
        BUILDS.add("a", &"event").unwrap(),
        BUILDS.set_once("a", Field::new("end"), &1).unwrap(),
        BUILDS.open("a", Field::new("begin"), &1).unwrap(),
        BUILDS.add_to_index("a", "all"),
        BUILDS.add_to_index("b", "all"),
        BUILDS.remove_from_index("b", "open"),
    ];
    let first = BUILDS
        .compare_and_set("a", Field::new("by"), None, Some(&1))
        .unwrap();
    let compare_first: Vec<RecordUpdate> =
        [first.into()].into_iter().chain(updates.clone()).collect();
    let push = [
        Packed {
            messages: pack(vec![keyed(), late()]).unwrap(),
            updates: updates.clone(),
        },
        Packed {
            messages: pack(vec![message(&PARTITIONED)]).unwrap(),
            updates: vec![BUILDS.open("c", Field::new("begin"), &1).unwrap()],
        },
        Packed {
            messages: pack(vec![message(&PARTITIONED)]).unwrap(),
            updates: vec![BUILDS.open("d", Field::new("begin"), &1).unwrap()],
        },
    ];
    let dead = Settlement::Dead {
        id: message(&NOTES).envelope.id,
        reason: "why".into(),
        attempts: 1,
        emit: vec![late()],
    };
    let (done, plain) = (
        Settlement::Done {
            emit: vec![keyed()],
        },
        Settlement::Done { emit: Vec::new() },
    );
    let after = Duration::from_secs(1);
    let (retry, defer) = (
        Settlement::Retry { after },
        Settlement::Defer {
            after: Duration::ZERO,
        },
    );
    let leases: Vec<Lease> = (1..=4).map(|entry| lease(&notes, None, entry)).collect();
    let in_partition: Vec<Lease> = (1..=3)
        .map(|entry| lease(&partitioned, Some("x"), entry))
        .collect();
    let settled = |lease, how, updates| {
        SettleOne::new(SettleRequest {
            lease,
            how,
            updates,
        })
        .unwrap()
    };
    let settlements = [
        settled(&leases[0], &plain, &[]),
        settled(&leases[1], &plain, &[]),
        settled(&leases[2], &done, &updates),
        settled(&leases[3], &dead, &updates),
        settled(&in_partition[0], &retry, &updates),
        settled(&in_partition[1], &defer, &[]),
        settled(&in_partition[2], &Settlement::Release, &[]),
    ];
    let from = ("1-0".to_owned(), String::new());
    let due = ("1000".to_owned(), "0".to_owned());
    let ids: Vec<String> = (0..3).map(|number| format!("letter-{number}")).collect();
    let walk = |over, what, from| Walk {
        over,
        queue: &notes,
        what,
        which: MessageSelector::All,
        wanted: 2,
        from,
    };
    vec![
        one("push", &Push { pushes: &push }),
        one(
            "compare_and_set",
            &CompareFirst {
                updates: &compare_first,
            },
        ),
        one(
            "poll",
            &Poll {
                queue: &notes,
                consumer: "me",
                max: 2,
            },
        ),
        one(
            "reserve",
            &ReserveFromPartitions {
                queue: &partitioned,
                consumer: "me",
                max: 2,
                skip: &["y".to_owned()],
            },
        ),
        one("settle", &Settle::new("me", &settlements).unwrap()),
        one(
            "extend",
            &Extend {
                lease: &leases[0],
                consumer: "me",
            },
        ),
        one("probe", &ProbeWrite { consumer: "me" }),
        one("status", &GetStatus { queue: &notes }),
        one("ready", &walk(Over::Ready, Do::Drop, &from)),
        one("delayed", &walk(Over::Delayed, Do::Requeue, &due)),
        one(
            "pause",
            &SetPaused {
                queue: &notes,
                paused: true,
            },
        ),
        one(
            "letters",
            &ListLetters {
                queue: &notes,
                from: &due,
            },
        ),
        one(
            "letter",
            &GetLetter {
                queue: &notes,
                id: "letter-1",
            },
        ),
        one(
            "take_letters",
            &TakeLetters {
                queue: &notes,
                requeue: true,
                ids: &ids,
            },
        ),
    ]
}
