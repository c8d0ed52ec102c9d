//! Records: written in one step with messages and settlements, read by anybody, forgotten in the end.

mod compare_and_set;
mod retention;

use std::time::Duration;

use bus::{
    BusError, Delivery, Field, Policy, Queue, Record, RecordStore, RecordUpdate, SettleRequest,
    Settlement,
};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, OUT, World, done, note, outcome, written},
};

on_both!(
    message_and_its_record_updates_are_one_step,
    duplicate_message_records_nothing,
    message_that_opens_its_record_is_stored_once_while_the_record_exists,
    refused_message_does_not_open_its_record,
    every_way_to_settle_records_but_a_release,
    stale_worker_records_nothing,
    settlements_of_one_batch_record_each_its_own,
);

const BUILDS: RecordStore = RecordStore {
    name: "builds",
    retention: Duration::from_secs(3600),
};

fn event(record: &str, text: &str) -> RecordUpdate {
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

async fn events(world: &World, id: &str) -> Vec<String> {
    read(world, &BUILDS, id).await.events().unwrap()
}

async fn indexed(world: &World, store: &RecordStore, index: &str) -> Vec<String> {
    let found = world.other.indexed(store, index, 0..10).await.unwrap();
    found.into_iter().map(|(id, _)| id).collect()
}

async fn end(
    world: &World,
    delivery: &Delivery,
    how: &Settlement,
    updates: &[RecordUpdate],
) -> bool {
    world
        .bus
        .settle_all(&[SettleRequest {
            lease: &delivery.lease,
            how,
            updates,
        }])
        .await
        .unwrap()[0]
        .is_ok()
}

async fn message_and_its_record_updates_are_one_step(world: World) {
    let updates = vec![
        event("a", "accepted"),
        BUILDS.add_to_index("a", "open"),
        BUILDS.set("a", Field::new("waits"), &7_u64).unwrap(),
    ];
    let message = world.packed(&NOTES, "a");
    world.bus.push_with(vec![message], updates).await.unwrap();

    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
    let record = read(&world, &BUILDS, "a").await;
    assert_eq!(record.events::<String>().unwrap(), ["accepted"]);
    assert_eq!(record.field(Field::<u64>::new("waits")).unwrap(), Some(7));
    assert_eq!(record.field(Field::<u64>::new("other")).unwrap(), None);
    assert_eq!(indexed(&world, &BUILDS, "open").await, ["a"]);
    assert!(read(&world, &BUILDS, "b").await.is_empty());

    // Updates alone are a step too.
    world
        .bus
        .push_with(Vec::new(), vec![event("a", "seen")])
        .await
        .unwrap();
    assert_eq!(events(&world, "a").await, ["accepted", "seen"]);
    assert!(
        record.field(Field::<String>::new("waits")).is_err(),
        "a value of another type is no value"
    );
}

async fn duplicate_message_records_nothing(world: World) {
    for repeated in [0, 1] {
        let updates = vec![event("a", "accepted")];
        let pushed = world
            .producer()
            .send_deduplicated(&NOTES, &note("a"), "key", updates)
            .await
            .unwrap();
        assert_eq!(pushed.duplicates, repeated);
    }
    assert_eq!(events(&world, "a").await, ["accepted"]);
}

async fn message_that_opens_its_record_is_stored_once_while_the_record_exists(world: World) {
    const SHORT: RecordStore = RecordStore {
        name: "short",
        retention: Duration::from_millis(400),
    };
    let (bus, clock) = (&world.bus, &world.clock);
    let send = async |store: RecordStore, value: &str| {
        let updates = vec![
            store.open("a", Field::new("accepted"), &value).unwrap(),
            store.add("a", &"accepted").unwrap(),
            store.add_to_index("a", "open"),
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
    assert_eq!(send(BUILDS, "first").await, outcome(1, 0));
    assert_eq!(send(BUILDS, "second").await, outcome(0, 1));
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
    let record = read(&world, &BUILDS, "a").await;
    let accepted: Option<String> = record.field(Field::new("accepted")).unwrap();
    assert_eq!(accepted.as_deref(), Some("first"));
    assert_eq!(record.events::<String>().unwrap(), ["accepted"]);
    let delivery = world.reserve(&NOTES).await;
    assert!(end(&world, &delivery, &done(), &[]).await);
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
            event("a", "seen"),
        ],
    )
    .await
    .unwrap();
    let record = read(&world, &BUILDS, "a").await;
    let accepted: Option<String> = record.field(Field::new("accepted")).unwrap();
    assert_eq!(accepted.as_deref(), Some("first"));
    assert_eq!(events(&world, "a").await, ["accepted", "seen"]);

    assert_eq!(send(SHORT, "first").await.inserted, 1);
    assert_eq!(send(SHORT, "second").await.duplicates, 1);
    world.pass(Duration::from_millis(400)).await;
    assert_eq!(
        send(SHORT, "third").await.inserted,
        1,
        "a forgotten record is opened again"
    );
}

async fn refused_message_does_not_open_its_record(world: World) {
    const BOUNDED: Queue<Note> = Queue::new(
        "bounded",
        Policy {
            max_depth: Some(1),
            ..Policy::DEFAULT
        },
    );
    let send = async |record: &str| {
        let message = world.packed(&BOUNDED, "a");
        let opening = vec![
            BUILDS.open(record, Field::new("accepted"), &1).unwrap(),
            BUILDS.add_to_index(record, "open"),
        ];
        world.bus.push_with(vec![message], opening).await
    };
    assert_eq!(send("a").await.unwrap().inserted, 1);
    assert!(matches!(send("b").await, Err(BusError::Full { .. })));
    assert!(read(&world, &BUILDS, "b").await.is_empty());
    assert_eq!(indexed(&world, &BUILDS, "open").await, ["a"]);
    assert_eq!(
        send("a").await.unwrap().duplicates,
        1,
        "what is stored already is safe, however full the queue is"
    );
    let delivery = world.reserve(&BOUNDED).await;
    assert!(end(&world, &delivery, &done(), &[]).await);
    assert_eq!(send("b").await.unwrap().inserted, 1);
}

async fn every_way_to_settle_records_but_a_release(world: World) {
    let out = || world.packed(&OUT, "out");
    let soon = Duration::from_millis(1);
    let id = out().envelope.id;
    let table = [
        ("done", done()),
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
        let delivery = world.reserve_up_to(&NOTES, 10).await.pop().unwrap();
        assert!(
            end(
                &world,
                &delivery,
                how,
                &[event(record, "ended"), BUILDS.add_to_index(record, "all")]
            )
            .await
        );
        assert_eq!(events(&world, record).await, ["ended"], "{record}");
    }
    assert_eq!(indexed(&world, &BUILDS, "all").await.len(), table.len());
    assert_eq!(world.depth(&OUT).await.0, 3);

    world.send(&NOTES, "released").await;
    let delivery = world.reserve_up_to(&NOTES, 10).await.pop().unwrap();
    assert!(
        end(
            &world,
            &delivery,
            &Settlement::Release,
            &[event("released", "ended")]
        )
        .await
    );
    assert!(events(&world, "released").await.is_empty());
}

async fn stale_worker_records_nothing(world: World) {
    world.send(&NOTES, "a").await;
    let stale = world.reserve(&NOTES).await;
    world.pass(LEASE).await;
    let fresh = world.reserve_in_other(&NOTES, 1).await.pop().unwrap();
    let emit = vec![world.packed(&OUT, "late")];
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
                &[event("a", "by the stale one"), BUILDS.erase("a")]
            )
            .await
        );
    }
    let how = done();
    let updates = [event("a", "by the fresh one")];
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
    assert_eq!(events(&world, "a").await, ["by the fresh one"]);
}

async fn settlements_of_one_batch_record_each_its_own(world: World) {
    for text in ["a", "b", "c", "d"] {
        world.send(&NOTES, text).await;
    }
    let deliveries = world.reserve_up_to(&NOTES, 4).await;
    let done = done();
    let updates: Vec<Vec<RecordUpdate>> = vec![
        vec![],
        vec![event("b", "1"), event("b", "2")],
        vec![],
        vec![event("d", "1")],
    ];
    let requests: Vec<_> = deliveries
        .iter()
        .zip(&updates)
        .map(|(delivery, updates)| SettleRequest {
            lease: &delivery.lease,
            how: &done,
            updates,
        })
        .collect();
    let results = world.bus.settle_all(&requests).await.unwrap();
    assert_eq!(written(results), [true; 4]);
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
    assert_eq!(
        (events(&world, "b").await, events(&world, "d").await),
        (vec!["1".into(), "2".into()], vec!["1".into()])
    );
    assert_eq!(
        written(world.bus.settle_all(&requests).await.unwrap()),
        [false; 4],
        "settled once, recorded once"
    );
    assert_eq!(events(&world, "b").await, ["1", "2"]);
}

/// What cannot be encoded is a fault of the program, and says where.
#[test]
fn event_that_cannot_be_encoded_is_an_error() {
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
