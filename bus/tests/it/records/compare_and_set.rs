//! Changes of a field that depend on its value.

use bus::Field;

use super::{BUILDS, event, events, indexed, read};
use crate::{on_both, world::World};

on_both!(
    field_that_is_set_once_keeps_its_first_value,
    compare_and_set_changes_only_the_expected_value,
    compare_and_set_returns_whether_it_was_made,
    failed_compare_and_set_records_nothing,
    concurrent_compare_and_set_has_one_winner,
);

async fn field_that_is_set_once_keeps_its_first_value(world: World) {
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

async fn compare_and_set_changes_only_the_expected_value(world: World) {
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
            event("a", text),
            BUILDS.add_to_index("a", text.to_owned()),
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
    assert_eq!(events(&world, "a").await, ["won"]);
    assert_eq!(indexed(&world, &BUILDS, "won").await, ["a"]);
    assert!(indexed(&world, &BUILDS, "lost").await.is_empty());
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
    assert_eq!(events(&world, "a").await, ["won", "again"]);
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
        let entries: Vec<u32> = read(&world, &BUILDS, "a").await.events().unwrap();
        assert_eq!(entries.len() as u32, round + 1);
        assert_eq!(entries.last(), Some(&winner));
    }
}
