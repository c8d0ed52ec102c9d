//! The routes of messages.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use lapin::{
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use pulse::{PulseMessage, Topic};
use runtime::ManualClock;
use serde_json::Value;

use crate::world::{
    EXCHANGE, OTHERS, TASKS, World, connect, counted, listen, listen_by, logged, logged_lines,
    memory, message, queue_name, recorded, route, take, take_bodies, until_logged, until_stored,
};

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn messages_go_to_queues_of_their_routes() {
    let world = World::share().await;
    topics_match_as_in_rabbitmq(&world).await;
    routes_on_one_exchange_get_their_messages(&world).await;
    recorded_message_is_routed_by_key_and_cc(&world).await;
    malformed_body_is_forwarded_with_its_key(&world).await;
    messages_of_old_binding_are_dropped_and_logged_once(&world).await;
    missing_exchange_is_logged_and_others_are_served(&world).await;
}

async fn topics_match_as_in_rabbitmq(world: &World) {
    let words = ["a", "b", "", "*", "#"];
    let mut patterns: Vec<String> = [
        "", "#", "*", "a", "a.b", "*.#.b", "a.*.#", "#.#", ".", "a.", ".#", "#.*.a",
    ]
    .map(str::to_owned)
    .into();
    patterns.extend(
        words
            .iter()
            .flat_map(|one| words.map(|other| format!("{one}.b.{other}"))),
    );
    let keys = [
        "", "a", "b", "a.b", "b.a", "a.b.a", "b.b.b", ".b.", ".", "a.", ".a", "..", "a..b", "#",
        "*.b", "x.y.z",
    ];
    let connection = connect(&world.rabbit.settings()).await;
    let channel = connection.create_channel().await.unwrap();
    let queue = |number: usize| queue_name(&format!("pattern-{number}"));
    for (number, pattern) in patterns.iter().enumerate() {
        let (name, none) = (queue(number), FieldTable::default());
        let own = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(name.as_str().into(), own, none.clone())
            .await
            .unwrap();
        let bind = channel.queue_bind(
            name.into(),
            EXCHANGE.into(),
            pattern.as_str().into(),
            QueueBindOptions::default(),
            none,
        );
        bind.await.unwrap();
    }
    for key in keys {
        world
            .rabbit
            .publish(&message(EXCHANGE, key, "{}"))
            .await
            .unwrap();
    }
    for (number, pattern) in patterns.iter().enumerate() {
        let mut came = BTreeSet::new();
        while let Some(got) = channel
            .basic_get(queue(number).into(), BasicGetOptions::default())
            .await
            .unwrap()
        {
            came.insert(got.routing_key.to_string());
        }
        let topic: Topic = pattern.parse().unwrap();
        let expected = keys
            .into_iter()
            .filter(|key| topic.matches(key))
            .map(str::to_owned)
            .collect();
        assert_eq!(came, expected, "{pattern:?}");
    }
}

async fn routes_on_one_exchange_get_their_messages(world: &World) {
    let bus = memory();
    let routes = vec![
        route(EXCHANGE, &["primary.#", "#.both"], TASKS),
        route(EXCHANGE, &["route.#", "#.both"], OTHERS),
    ];
    let listening = listen(world.rabbit.settings(), "two", routes, &bus)
        .ready()
        .await;
    for (key, body) in [
        ("primary.a", "for tasks"),
        ("route.a", "for others"),
        ("x.both", "for both"),
    ] {
        world
            .rabbit
            .publish(&message(EXCHANGE, key, body))
            .await
            .unwrap();
    }
    until_stored(&bus, TASKS, 2).await;
    until_stored(&bus, OTHERS, 2).await;
    listening.stop().await;
    let bodies = |messages: Vec<PulseMessage>| {
        messages
            .into_iter()
            .map(|one| one.body.to_vec())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        bodies(take(&bus, TASKS).await),
        [&b"for tasks"[..], b"for both"]
    );
    assert_eq!(
        bodies(take(&bus, OTHERS).await),
        [&b"for others"[..], b"for both"]
    );
}

async fn recorded_message_is_routed_by_key_and_cc(world: &World) {
    let bus = memory();
    let completed = recorded(include_str!("../fixtures/queue-task-completed-1.json"));
    let resolved = recorded(include_str!("../fixtures/queue-task-group-resolved-1.json"));
    assert_eq!(completed.routing.exchange, EXCHANGE);
    world
        .rabbit
        .declare_exchange(&resolved.routing.exchange)
        .await
        .unwrap();
    let routes = vec![
        route(EXCHANGE, &["route.project.relman.codereview.v1.*"], TASKS),
        route(&resolved.routing.exchange, &["#.relman-level-1.#"], TASKS),
    ];
    let listening = listen(world.rabbit.settings(), "recorded", routes, &bus)
        .ready()
        .await;
    for message in [&completed, &resolved] {
        world.rabbit.publish(message).await.unwrap();
    }
    until_stored(&bus, TASKS, 2).await;
    listening.stop().await;
    let came = take(&bus, TASKS).await;
    assert_eq!(came.len(), 2);
    for expected in [completed, resolved] {
        let found = came
            .iter()
            .find(|message| message.routing.exchange == expected.routing.exchange)
            .unwrap();
        assert_eq!(*found, expected);
        assert_eq!(found.json::<Value>().unwrap()["version"], 1);
    }
}

async fn malformed_body_is_forwarded_with_its_key(world: &World) {
    let bus = memory();
    let listening = world.listen("unreadable", &bus).ready().await;
    let bodies: [&[u8]; 4] = [b"\xff\x00", b"", b"{\"a\":", b"{}"];
    for body in bodies {
        let message = PulseMessage {
            body: body.to_vec().into(),
            ..message(EXCHANGE, "some.key", "")
        };
        world.rabbit.publish(&message).await.unwrap();
    }
    until_stored(&bus, TASKS, 4).await;
    listening.stop().await;
    let came = take(&bus, TASKS).await;
    assert_eq!(
        came.iter()
            .map(|message| &*message.body)
            .collect::<Vec<_>>(),
        bodies
    );
    let errors: Vec<_> = came
        .iter()
        .filter_map(|message| message.json::<Value>().err())
        .collect();
    assert_eq!(errors.len(), 3);
    for error in errors {
        let text = error.to_string();
        assert!(
            text.contains(EXCHANGE) && text.contains("some.key"),
            "{text}"
        );
    }
    world.until_depth("unreadable", 0).await;
}

async fn messages_of_old_binding_are_dropped_and_logged_once(world: &World) {
    let bus = memory();
    let before = world.listen("narrowed", &bus).ready().await;
    before.stop().await;
    let routes = vec![route(EXCHANGE, &["wanted.#"], TASKS)];
    let listening = listen(world.rabbit.settings(), "narrowed", routes, &bus)
        .ready()
        .await;
    for (key, body) in [("old.a", "1"), ("old.b", "2"), ("wanted.a", "3")] {
        world
            .rabbit
            .publish(&message(EXCHANGE, key, body))
            .await
            .unwrap();
    }
    until_stored(&bus, TASKS, 1).await;
    listening.stop().await;
    world.until_depth("narrowed", 0).await;
    assert_eq!(take_bodies(&bus).await, ["3"]);
    assert_eq!(
        logged_lines("narrowed", &["WARN", "no route matches", "old.a"]),
        1,
        "{}",
        logged()
    );
    assert_eq!(logged_lines("narrowed", &["no route matches"]), 1);
    assert_eq!(
        counted("narrowed")["pulse_messages_totaloutcome=unrouted"],
        2.0
    );
}

async fn missing_exchange_is_logged_and_others_are_served(world: &World) {
    let bus = memory();
    let missing = "exchange/hgpushes/v9";
    let routes = vec![
        route(missing, &["#"], OTHERS),
        route("amq.topic", &["#"], OTHERS),
        route("exchange/pulseuser/own", &["#"], OTHERS),
        route(EXCHANGE, &["#"], TASKS),
    ];
    let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
    let listening = listen_by(
        clock.clone(),
        world.rabbit.settings(),
        "missing",
        routes,
        &bus,
    )
    .ready()
    .await;
    world
        .rabbit
        .publish(&message(EXCHANGE, "a", "{}"))
        .await
        .unwrap();
    until_stored(&bus, TASKS, 1).await;
    // One of the user's own was made.
    world
        .rabbit
        .publish(&message("exchange/pulseuser/own", "a", "{}"))
        .await
        .unwrap();
    until_stored(&bus, OTHERS, 1).await;
    assert_eq!(
        logged_lines(
            "missing",
            &[
                "ERROR",
                "NOT_FOUND",
                missing,
                "correct the name in the configuration"
            ]
        ),
        1
    );
    let forbidden = [
        "ERROR",
        "amq.topic",
        "user pulseuser may not",
        "correct the name or the user",
    ];
    assert_eq!(logged_lines("missing", &forbidden), 1, "{}", logged());
    // The next check finds it, and nothing else is logged until then.
    world.rabbit.declare_exchange(missing).await.unwrap();
    clock.advance(Duration::from_secs(30));
    until_logged(
        "missing",
        &["INFO", "is bound to the exchange now", missing],
        1,
    )
    .await;
    world
        .rabbit
        .publish(&message(missing, "a", "{}"))
        .await
        .unwrap();
    until_stored(&bus, OTHERS, 2).await;
    assert_eq!(logged_lines("missing", &["ERROR"]), 2, "{}", logged());
    listening.stop().await;
}
