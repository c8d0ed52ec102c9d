//! Indexes of records, and when records are forgotten.

use std::time::Duration;

use bus::{Field, RecordStore};

use super::{BUILDS, event, indexed, read};
use crate::{
    on_both,
    world::{NOTES, World},
};

on_both!(
    erased_record_is_empty_and_stays_in_its_indexes,
    index_lists_the_newest_record_first,
    record_expires_after_its_last_change,
    retention_of_an_opened_record_begins_with_its_next_change,
);

async fn erased_record_is_empty_and_stays_in_its_indexes(world: World) {
    let updates = vec![
        event("a", "a name"),
        BUILDS.set("a", Field::new("title"), &"x").unwrap(),
        BUILDS.add_to_index("a", "D1"),
    ];
    world.bus.push_with(Vec::new(), updates).await.unwrap();
    world
        .bus
        .push_with(Vec::new(), vec![BUILDS.erase("a"), event("a", "a number")])
        .await
        .unwrap();
    let record = read(&world, &BUILDS, "a").await;
    assert_eq!(record.events::<String>().unwrap(), ["a number"]);
    assert_eq!(record.field(Field::<String>::new("title")).unwrap(), None);
    assert_eq!(indexed(&world, &BUILDS, "D1").await, ["a"]);
}

async fn index_lists_the_newest_record_first(world: World) {
    for id in ["a", "b", "c"] {
        world
            .bus
            .push_with(
                Vec::new(),
                vec![event(id, "x"), BUILDS.add_to_index(id, "all")],
            )
            .await
            .unwrap();
        world.pass(Duration::from_millis(5)).await;
    }
    world
        .bus
        .push_with(
            Vec::new(),
            vec![
                BUILDS.add_to_index("a", "all"),
                BUILDS.remove_from_index("c", "none"),
            ],
        )
        .await
        .unwrap();
    assert_eq!(indexed(&world, &BUILDS, "all").await, ["c", "b", "a"]);
    for (part, expected) in [
        (0..1, vec!["c"]),
        (1..3, vec!["b", "a"]),
        (3..9, vec![]),
        (1..1, vec![]),
    ] {
        let found = world.bus.indexed(&BUILDS, "all", part).await.unwrap();
        assert_eq!(
            found.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
            expected
        );
    }
    let at = world.bus.indexed(&BUILDS, "all", 0..3).await.unwrap();
    assert!(at[0].1 > at[2].1, "with the time");
    world
        .bus
        .push_with(Vec::new(), vec![BUILDS.remove_from_index("b", "all")])
        .await
        .unwrap();
    assert_eq!(indexed(&world, &BUILDS, "all").await, ["c", "a"]);
}

async fn retention_of_an_opened_record_begins_with_its_next_change(world: World) {
    let short = RecordStore {
        retention: Duration::from_millis(400),
        ..BUILDS
    };
    let accepted = Field::new("accepted");
    for id in ["waits", "handled"] {
        let message = world.packed(&NOTES, id);
        let opening = vec![
            short.open(id, accepted, &1).unwrap(),
            short.add_to_index(id, "all"),
        ];
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

async fn record_expires_after_its_last_change(world: World) {
    let short = RecordStore {
        retention: Duration::from_millis(400),
        ..BUILDS
    };
    let write = async |id: &str| {
        let updates = vec![short.add(id, &"x").unwrap(), short.add_to_index(id, "all")];
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
            .events::<String>()
            .unwrap()
            .len(),
        4
    );
    write("b").await;
    assert!(
        !indexed(&world, &short, "all")
            .await
            .contains(&"a".to_owned())
    );
    world.pass(Duration::from_millis(500)).await;
    assert!(read(&world, &short, "kept").await.is_empty());
}
