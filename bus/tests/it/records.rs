//! Records: written in one step with messages and settlements, read by anybody, forgotten in the end.

use std::time::Duration;

use bus::{
    BusError, Delivery, EnqueueOutcome, Field, Policy, Queue, Record, RecordStore, RecordUpdate,
    SettleRequest, Settlement,
};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, OUT, World, note, written},
};

on_both!(
    a_message_and_what_is_recorded_with_it_are_one_step,
    a_repeated_message_records_nothing,
    a_message_that_opens_its_record_is_stored_once_while_there_is_the_record,
    a_refused_message_does_not_open_its_record,
    every_way_to_settle_records_but_a_release,
    a_stale_worker_records_nothing,
    settlements_of_one_batch_record_each_its_own,
    a_field_that_is_set_once_keeps_its_first_value,
    of_two_who_swap_the_same_value_one_succeeds,
    compare_and_set_returns_whether_it_was_made,
    failed_compare_and_set_records_nothing,
    concurrent_compare_and_set_has_one_winner,
    an_erased_record_is_empty_and_still_found_by_its_tags,
    tags_list_records_the_newest_first,
    a_record_is_forgotten_after_its_last_change,
    retention_of_an_opened_record_begins_with_its_next_change,
);

const BUILDS: RecordStore = RecordStore {
    name: "builds",
    retention: Duration::from_secs(3600),
};

fn said(record: &str, text: &str) -> RecordUpdate {
    BUILDS.add(record, &text).unwrap()
}

async fn read(world: &World, store: &RecordStore, id: &str) -> Record {
    world
        .other
        .records(store, &[id.to_owned()])
        .await
        .unwrap()
        .pop()
        .unwrap()
}

async fn story(world: &World, id: &str) -> Vec<String> {
    read(world, &BUILDS, id).await.entries().unwrap()
}

async fn tagged(world: &World, store: &RecordStore, tag: &str) -> Vec<String> {
    let found = world.other.tagged(store, tag, 0..10).await.unwrap();
    found.into_iter().map(|(id, _)| id).collect()
}

async fn end(world: &World, leased: &Delivery, how: &Settlement, updates: &[RecordUpdate]) -> bool {
    world
        .bus
        .settle_all(&[SettleRequest {
            lease: &leased.lease,
            how,
            updates,
        }])
        .await
        .unwrap()[0]
        .is_ok()
}

async fn a_message_and_what_is_recorded_with_it_are_one_step(world: World) {
    let updates = vec![
        said("a", "accepted"),
        BUILDS.tag("a", "open"),
        BUILDS.set("a", Field::new("waits"), &7_u64).unwrap(),
    ];
    let message = NOTES.pack(&note("a"), world.clock.as_ref()).unwrap();
    world.bus.push_with(vec![message], updates).await.unwrap();

    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
    let record = read(&world, &BUILDS, "a").await;
    assert_eq!(record.entries::<String>().unwrap(), ["accepted"]);
    assert_eq!(record.field(Field::<u64>::new("waits")).unwrap(), Some(7));
    assert_eq!(record.field(Field::<u64>::new("other")).unwrap(), None);
    assert_eq!(tagged(&world, &BUILDS, "open").await, ["a"]);
    assert!(read(&world, &BUILDS, "b").await.is_empty());

    // Facts alone are a step too.
    world
        .bus
        .push_with(Vec::new(), vec![said("a", "seen")])
        .await
        .unwrap();
    assert_eq!(story(&world, "a").await, ["accepted", "seen"]);
    assert!(
        record.field(Field::<String>::new("waits")).is_err(),
        "a value of another type is no value"
    );
}

async fn a_repeated_message_records_nothing(world: World) {
    for repeated in [0, 1] {
        let updates = vec![said("a", "accepted")];
        let pushed = world
            .producer()
            .send_deduplicated(&NOTES, &note("a"), "key", updates)
            .await
            .unwrap();
        assert_eq!(pushed.duplicates, repeated);
    }
    assert_eq!(story(&world, "a").await, ["accepted"]);
}

async fn a_message_that_opens_its_record_is_stored_once_while_there_is_the_record(world: World) {
    const SHORT: RecordStore = RecordStore {
        name: "short",
        retention: Duration::from_millis(400),
    };
    let (bus, clock) = (&world.bus, &world.clock);
    let send = async |store: RecordStore, value: &str| {
        let updates = vec![
            store.open("a", Field::new("accepted"), &value).unwrap(),
            store.add("a", &"accepted").unwrap(),
            store.tag("a", "open"),
        ];
        bus.push_with(
            vec![NOTES.pack(&note("a"), clock.as_ref()).unwrap()],
            updates,
        )
        .await
        .unwrap()
    };
    // A record that is not open yet may have something else.
    bus.push_with(
        Vec::new(),
        vec![BUILDS.set("a", Field::new("now"), &1).unwrap()],
    )
    .await
    .unwrap();
    assert_eq!(
        send(BUILDS, "first").await,
        EnqueueOutcome {
            inserted: 1,
            duplicates: 0
        }
    );
    assert_eq!(
        send(BUILDS, "second").await,
        EnqueueOutcome {
            inserted: 0,
            duplicates: 1
        }
    );
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
    let record = read(&world, &BUILDS, "a").await;
    assert_eq!(
        record
            .field(Field::<String>::new("accepted"))
            .unwrap()
            .as_deref(),
        Some("first")
    );
    assert_eq!(record.entries::<String>().unwrap(), ["accepted"]);
    let leased = world.take(&NOTES).await;
    assert!(end(&world, &leased, &Settlement::Done { emit: Vec::new() }, &[]).await);
    assert_eq!(
        send(BUILDS, "third").await.duplicates,
        1,
        "also when the message is done"
    );

    // Without messages it is a field that keeps its first value, and what is recorded with it is recorded.
    bus.push_with(
        Vec::new(),
        vec![
            BUILDS.open("a", Field::new("accepted"), &"fourth").unwrap(),
            said("a", "seen"),
        ],
    )
    .await
    .unwrap();
    let record = read(&world, &BUILDS, "a").await;
    assert_eq!(
        record
            .field(Field::<String>::new("accepted"))
            .unwrap()
            .as_deref(),
        Some("first")
    );
    assert_eq!(story(&world, "a").await, ["accepted", "seen"]);

    assert_eq!(send(SHORT, "first").await.inserted, 1);
    assert_eq!(send(SHORT, "second").await.duplicates, 1);
    world.pass(Duration::from_millis(400)).await;
    assert_eq!(
        send(SHORT, "third").await.inserted,
        1,
        "a forgotten record is opened again"
    );
}

async fn a_refused_message_does_not_open_its_record(world: World) {
    const BOUNDED: Queue<Note> = Queue::new(
        "bounded",
        Policy {
            max_depth: Some(1),
            ..Policy::DEFAULT
        },
    );
    let send = async |record: &str| {
        let message = BOUNDED.pack(&note("a"), world.clock.as_ref()).unwrap();
        let opening = vec![
            BUILDS.open(record, Field::new("accepted"), &1).unwrap(),
            BUILDS.tag(record, "open"),
        ];
        world.bus.push_with(vec![message], opening).await
    };
    assert_eq!(send("a").await.unwrap().inserted, 1);
    assert!(matches!(send("b").await, Err(BusError::Full { .. })));
    assert!(read(&world, &BUILDS, "b").await.is_empty());
    assert_eq!(tagged(&world, &BUILDS, "open").await, ["a"]);
    assert_eq!(
        send("a").await.unwrap().duplicates,
        1,
        "what is stored already is safe, however full the queue is"
    );
    let leased = world.take(&BOUNDED).await;
    assert!(end(&world, &leased, &Settlement::Done { emit: Vec::new() }, &[]).await);
    assert_eq!(send("b").await.unwrap().inserted, 1);
}

async fn every_way_to_settle_records_but_a_release(world: World) {
    let out = || OUT.pack(&note("out"), world.clock.as_ref()).unwrap();
    let soon = Duration::from_millis(1);
    let id = out().envelope.id;
    let table = [
        ("done", Settlement::Done { emit: Vec::new() }),
        (
            "emits",
            Settlement::Done {
                emit: vec![out(), out()],
            },
        ),
        ("retry", Settlement::Retry { after: soon }),
        (
            "retry at once",
            Settlement::Retry {
                after: Duration::ZERO,
            },
        ),
        ("defer", Settlement::Defer { after: soon }),
        (
            "dead",
            Settlement::Dead {
                id,
                reason: "no".to_owned(),
                attempts: 1,
                emit: vec![out()],
            },
        ),
    ];
    for (record, how) in &table {
        world.send(&NOTES, record).await;
        let leased = world.take_all(&NOTES, 10).await.pop().unwrap();
        assert!(
            end(
                &world,
                &leased,
                how,
                &[said(record, "ended"), BUILDS.tag(record, "all")]
            )
            .await
        );
        assert_eq!(story(&world, record).await, ["ended"], "{record}");
    }
    assert_eq!(tagged(&world, &BUILDS, "all").await.len(), table.len());
    assert_eq!(world.depth(&OUT).await.0, 3);

    world.send(&NOTES, "released").await;
    let leased = world.take_all(&NOTES, 10).await.pop().unwrap();
    assert!(
        end(
            &world,
            &leased,
            &Settlement::Release,
            &[said("released", "ended")]
        )
        .await
    );
    assert!(story(&world, "released").await.is_empty());
}

async fn a_stale_worker_records_nothing(world: World) {
    world.send(&NOTES, "a").await;
    let stale = world.take(&NOTES).await;
    world.pass(LEASE).await;
    let fresh = world
        .other
        .reserve(&NOTES.spec(), bus::Reserve::now(1))
        .await
        .unwrap()
        .pop()
        .unwrap();
    let emit = vec![OUT.pack(&note("late"), world.clock.as_ref()).unwrap()];
    for how in [
        Settlement::Done { emit },
        Settlement::Retry {
            after: Duration::ZERO,
        },
    ] {
        assert!(
            !end(
                &world,
                &stale,
                &how,
                &[said("a", "by the stale one"), BUILDS.erase("a")]
            )
            .await
        );
    }
    let how = Settlement::Done { emit: Vec::new() };
    let updates = [said("a", "by the fresh one")];
    let results = world
        .other
        .settle_all(&[SettleRequest {
            lease: &fresh.lease,
            how: &how,
            updates: &updates,
        }])
        .await
        .unwrap();
    assert_eq!(written(results), [true]);
    assert_eq!(story(&world, "a").await, ["by the fresh one"]);
}

async fn settlements_of_one_batch_record_each_its_own(world: World) {
    for text in ["a", "b", "c", "d"] {
        world.send(&NOTES, text).await;
    }
    let taken = world.take_all(&NOTES, 4).await;
    let done = Settlement::Done { emit: Vec::new() };
    let updates: Vec<Vec<RecordUpdate>> = vec![
        vec![],
        vec![said("b", "1"), said("b", "2")],
        vec![],
        vec![said("d", "1")],
    ];
    let endings: Vec<_> = taken
        .iter()
        .zip(&updates)
        .map(|(leased, updates)| SettleRequest {
            lease: &leased.lease,
            how: &done,
            updates,
        })
        .collect();
    let results = world.bus.settle_all(&endings).await.unwrap();
    assert_eq!(written(results), [true; 4]);
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
    assert_eq!(
        (story(&world, "b").await, story(&world, "d").await),
        (vec!["1".into(), "2".into()], vec!["1".into()])
    );
    assert_eq!(
        written(world.bus.settle_all(&endings).await.unwrap()),
        [false; 4],
        "settled once, recorded once"
    );
    assert_eq!(story(&world, "b").await, ["1", "2"]);
}

async fn a_field_that_is_set_once_keeps_its_first_value(world: World) {
    let value = |value: &str| BUILDS.set_once("a", Field::new("base"), &value).unwrap();
    world
        .bus
        .push_with(Vec::new(), vec![value("first")])
        .await
        .unwrap();
    world
        .other
        .push_with(Vec::new(), vec![value("second")])
        .await
        .unwrap();
    let base = || async {
        read(&world, &BUILDS, "a")
            .await
            .field(Field::<String>::new("base"))
            .unwrap()
    };
    assert_eq!(base().await.as_deref(), Some("first"));
    world
        .bus
        .push_with(
            Vec::new(),
            vec![BUILDS.set("a", Field::new("base"), &"third").unwrap()],
        )
        .await
        .unwrap();
    assert_eq!(base().await.as_deref(), Some("third"));
}

async fn of_two_who_swap_the_same_value_one_succeeds(world: World) {
    let swap = |from: Option<&str>, to: Option<&str>| {
        let change = BUILDS.compare_and_set("a", Field::new("by"), from.as_ref(), to.as_ref());
        vec![change.unwrap().into()]
    };
    let by = || async {
        read(&world, &BUILDS, "a")
            .await
            .field(Field::<String>::new("by"))
            .unwrap()
    };
    for (from, to, held) in [
        (None, Some("first"), Some("first")),
        (None, Some("second"), Some("first")),
        (Some("second"), None, Some("first")),
        (Some("first"), Some("third"), Some("third")),
        (Some("third"), None, None),
        (Some("third"), Some("fourth"), None),
        (None, Some("fifth"), Some("fifth")),
    ] {
        world
            .bus
            .push_with(Vec::new(), swap(from, to))
            .await
            .unwrap();
        assert_eq!(by().await.as_deref(), held, "{from:?} for {to:?}");
    }
}

async fn compare_and_set_returns_whether_it_was_made(world: World) {
    for (expected, new, is_made) in [
        (Some("first"), None, false),
        (None, Some("first"), true),
        (None, Some("second"), false),
        (None, Some("first"), false),
        (Some("second"), Some("third"), false),
        (Some("first"), Some("first"), true),
        (Some("first"), Some("third"), true),
        (Some("third"), None, true),
        (Some("third"), Some("fourth"), false),
        (None, Some("fifth"), true),
    ] {
        let change = BUILDS.compare_and_set("a", Field::new("by"), expected.as_ref(), new.as_ref());
        let made = world.bus.compare_and_set(change.unwrap(), Vec::new()).await;
        assert_eq!(made.unwrap(), is_made, "{expected:?} for {new:?}");
    }
    let by: Option<String> = read(&world, &BUILDS, "a")
        .await
        .field(Field::new("by"))
        .unwrap();
    assert_eq!(by.as_deref(), Some("fifth"));
}

async fn failed_compare_and_set_records_nothing(world: World) {
    let by = |expected: Option<&str>, new: &str| {
        BUILDS
            .compare_and_set("a", Field::new("by"), expected.as_ref(), Some(&new))
            .unwrap()
    };
    let updates = |text: &str| {
        vec![
            said("a", text),
            BUILDS.tag("a", text.to_owned()),
            BUILDS.set("b", Field::new("text"), &text).unwrap(),
        ]
    };
    for (expected, new, is_made) in [(None, "won", true), (None, "lost", false)] {
        let made = world
            .bus
            .compare_and_set(by(expected, new), updates(new))
            .await;
        assert_eq!(made.unwrap(), is_made);
    }
    assert_eq!(story(&world, "a").await, ["won"]);
    assert_eq!(tagged(&world, &BUILDS, "won").await, ["a"]);
    assert!(tagged(&world, &BUILDS, "lost").await.is_empty());
    let other: Option<String> = read(&world, &BUILDS, "b")
        .await
        .field(Field::new("text"))
        .unwrap();
    assert_eq!(other.as_deref(), Some("won"));
    assert!(
        world
            .bus
            .compare_and_set(by(Some("won"), "again"), updates("again"))
            .await
            .unwrap()
    );
    assert_eq!(story(&world, "a").await, ["won", "again"]);
}

async fn concurrent_compare_and_set_has_one_winner(world: World) {
    for round in 0..20_u32 {
        let tries = (0..16_u32).map(|me| {
            let bus = if me % 2 == 0 {
                &world.bus
            } else {
                &world.other
            };
            let before = round.checked_sub(1);
            let change = BUILDS
                .compare_and_set("a", Field::new("round"), before.as_ref(), Some(&round))
                .unwrap();
            bus.compare_and_set(change, vec![BUILDS.add("a", &me).unwrap()])
        });
        let made = futures::future::try_join_all(tries).await.unwrap();
        let winners: Vec<_> = (0..16_u32).zip(made).filter(|(_, made)| *made).collect();
        let [(winner, _)] = winners[..] else {
            panic!("winners: {winners:?}")
        };
        let entries: Vec<u32> = read(&world, &BUILDS, "a").await.entries().unwrap();
        assert_eq!(entries.len() as u32, round + 1);
        assert_eq!(entries.last(), Some(&winner));
    }
}

async fn an_erased_record_is_empty_and_still_found_by_its_tags(world: World) {
    let updates = vec![
        said("a", "a name"),
        BUILDS.set("a", Field::new("title"), &"x").unwrap(),
        BUILDS.tag("a", "D1"),
    ];
    world.bus.push_with(Vec::new(), updates).await.unwrap();
    world
        .bus
        .push_with(Vec::new(), vec![BUILDS.erase("a"), said("a", "a number")])
        .await
        .unwrap();
    let record = read(&world, &BUILDS, "a").await;
    assert_eq!(record.entries::<String>().unwrap(), ["a number"]);
    assert_eq!(record.field(Field::<String>::new("title")).unwrap(), None);
    assert_eq!(tagged(&world, &BUILDS, "D1").await, ["a"]);
}

async fn tags_list_records_the_newest_first(world: World) {
    for id in ["a", "b", "c"] {
        world
            .bus
            .push_with(Vec::new(), vec![said(id, "x"), BUILDS.tag(id, "all")])
            .await
            .unwrap();
        world.pass(Duration::from_millis(5)).await;
    }
    world
        .bus
        .push_with(
            Vec::new(),
            vec![BUILDS.tag("a", "all"), BUILDS.untag("c", "none")],
        )
        .await
        .unwrap();
    assert_eq!(tagged(&world, &BUILDS, "all").await, ["c", "b", "a"]);
    for (part, expected) in [
        (0..1, vec!["c"]),
        (1..3, vec!["b", "a"]),
        (3..9, vec![]),
        (1..1, vec![]),
    ] {
        let found = world.bus.tagged(&BUILDS, "all", part).await.unwrap();
        assert_eq!(
            found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
            expected
        );
    }
    let at = world.bus.tagged(&BUILDS, "all", 0..3).await.unwrap();
    assert!(at[0].1 > at[2].1, "with the time");
    world
        .bus
        .push_with(Vec::new(), vec![BUILDS.untag("b", "all")])
        .await
        .unwrap();
    assert_eq!(tagged(&world, &BUILDS, "all").await, ["c", "a"]);
}

async fn retention_of_an_opened_record_begins_with_its_next_change(world: World) {
    let short = RecordStore {
        retention: Duration::from_millis(400),
        ..BUILDS
    };
    let accepted = Field::new("accepted");
    for id in ["waits", "handled"] {
        let message = NOTES.pack(&note(id), world.clock.as_ref()).unwrap();
        let opening = vec![short.open(id, accepted, &1).unwrap(), short.tag(id, "all")];
        world.bus.push_with(vec![message], opening).await.unwrap();
    }
    world
        .bus
        .push_with(Vec::new(), vec![short.add("handled", &"x").unwrap()])
        .await
        .unwrap();
    world.pass(Duration::from_millis(500)).await;
    assert_eq!(
        read(&world, &short, "waits").await.field(accepted).unwrap(),
        Some(1)
    );
    assert!(read(&world, &short, "handled").await.is_empty());
    world
        .bus
        .push_with(Vec::new(), vec![short.add("waits", &"x").unwrap()])
        .await
        .unwrap();
    world.pass(Duration::from_millis(500)).await;
    assert!(read(&world, &short, "waits").await.is_empty());
}

async fn a_record_is_forgotten_after_its_last_change(world: World) {
    let short = RecordStore {
        retention: Duration::from_millis(400),
        ..BUILDS
    };
    let write = async |id: &str| {
        let updates = vec![short.add(id, &"x").unwrap(), short.tag(id, "all")];
        world.bus.push_with(Vec::new(), updates).await.unwrap();
    };
    write("a").await;
    write("kept").await;
    for _ in 0..3 {
        world.pass(Duration::from_millis(150)).await;
        world
            .bus
            .push_with(Vec::new(), vec![short.add("kept", &"y").unwrap()])
            .await
            .unwrap();
    }
    assert!(read(&world, &short, "a").await.is_empty());
    assert_eq!(
        read(&world, &short, "kept")
            .await
            .entries::<String>()
            .unwrap()
            .len(),
        4
    );
    write("b").await;
    assert!(
        !tagged(&world, &short, "all")
            .await
            .contains(&"a".to_owned())
    );
    world.pass(Duration::from_millis(500)).await;
    assert!(read(&world, &short, "kept").await.is_empty());
}

/// What cannot be encoded is a fault of the program, and says where.
#[test]
fn an_entry_that_cannot_be_encoded_is_an_error() {
    struct Broken;
    impl serde::Serialize for Broken {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("broken"))
        }
    }
    assert!(matches!(
        BUILDS.add("a", &Broken),
        Err(BusError::Encode {
            queue: "builds",
            ..
        })
    ));
}
