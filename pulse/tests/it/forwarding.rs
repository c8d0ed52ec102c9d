//! From Pulse to the bus, once.

use std::sync::Arc;

use bus::{Bus, MemoryBus, Policy, Queue, Reserve, Settlement};
use pulse::PulseMessage;
use runtime::SystemClock;

use crate::world::{
    EXCHANGE, TASKS, World, bodies, counted, depth, listen, logged, logged_lines, memory, message,
    redis, route, take_bodies, until, until_logged, until_stored,
};

async fn forwards_all(world: &World, name: &str, bus: Arc<dyn Bus>) {
    let listening = world.listen(name, &bus).ready().await;
    // The second listeners find the messages in between.
    world.publish("while it listens", 1500).await;
    until_stored(&bus, TASKS, 1500).await;
    listening.stop().await;
    world.publish("while nobody listens", 1500).await;
    world.until_depth(name, 1500).await;
    let (one, other) = (world.listen(name, &bus), world.listen(name, &bus));
    until_stored(&bus, TASKS, 3000).await;
    one.stop().await;
    other.stop().await;
    world.until_depth(name, 0).await;
    let expected = [
        bodies("while it listens", 1500),
        bodies("while nobody listens", 1500),
    ]
    .concat();
    assert_eq!(take_bodies(&bus).await, expected);
    let counted = counted(name);
    assert_eq!(
        counted["pulse_messages_totaloutcome=stored"], 3000.0,
        "{counted:?}"
    );
    assert_eq!(
        counted["pulse_messages_totaloutcome=duplicate"], 0.0,
        "{counted:?}"
    );
    assert_eq!(counted["pulse_lag_seconds_count"], 3000.0, "{counted:?}");
    assert!(counted.contains_key("pulse_queue_depth"), "{counted:?}");
    assert_eq!(
        logged_lines(name, &["WARN", "does not exist and is declared"]),
        1,
        "{}",
        logged()
    );
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn every_message_is_stored_once() {
    let world = World::share().await;
    all_messages_reach_memory_bus(&world).await;
    all_messages_reach_redis(&world).await;
    equal_message_is_stored_once(&world).await;
    full_bus_stores_rest_when_there_is_room(&world).await;
    message_in_two_pulse_queues_is_stored_once(&world).await;
}

async fn all_messages_reach_memory_bus(world: &World) {
    forwards_all(world, "into-memory", memory()).await;
}

async fn all_messages_reach_redis(world: &World) {
    let (bus, _server, _directory) = redis().await;
    forwards_all(world, "into-redis", bus).await;
}

async fn equal_message_is_stored_once(world: &World) {
    let bus = memory();
    let listening = world.listen("again", &bus).ready().await;
    for body in ["same", "same", "other"] {
        world
            .rabbit
            .publish(&message(EXCHANGE, "a", body))
            .await
            .unwrap();
    }
    world
        .rabbit
        .publish(&message(EXCHANGE, "b", "same"))
        .await
        .unwrap();
    until("all to be counted", async || {
        counted("again").get("pulse_messages_totaloutcome=duplicate") == Some(&1.0)
            && depth(&bus, TASKS).await == 3
    })
    .await;
    listening.stop().await;
    assert_eq!(take_bodies(&bus).await, ["other", "same", "same"]);
}

async fn full_bus_stores_rest_when_there_is_room(world: &World) {
    let bounded: Queue<PulseMessage> = Queue::new(
        "tasks",
        Policy {
            max_depth: Some(7),
            ..Policy::DEFAULT
        },
    );
    let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(Arc::new(SystemClock)));
    let before = world.listen("full", &memory()).ready().await;
    before.stop().await;
    world.publish("of many", 20).await;
    let routes = vec![route(EXCHANGE, &["#"], bounded)];
    let listening = listen(world.rabbit.settings(), "full", routes, &bus);
    until_stored(&bus, bounded, 7).await;
    until_logged("full", &["WARN", "queue tasks is full: 7 messages wait"], 1).await;
    // Nothing is acknowledged that is not stored.
    let mut taken = Vec::new();
    while taken.len() < 20 {
        for delivery in bus.reserve(&bounded.spec(), Reserve::now(3)).await.unwrap() {
            assert!(depth(&bus, bounded).await <= 7);
            bus.settle(&delivery.lease, &Settlement::Done { emit: Vec::new() })
                .await
                .unwrap();
            taken.push(delivery.envelope.id);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!((taken.len(), depth(&bus, bounded).await), (20, 0));
    world.publish("after it", 1).await;
    // A listener that is stopped before it has received the message leaves it on Pulse.
    until_stored(&bus, bounded, 1).await;
    until_logged("full", &["INFO", "stores messages from pulse again"], 1).await;
    listening.stop().await;
    world.until_depth("full", 0).await;
    assert_eq!(
        logged_lines("full", &["WARN", "is full"]),
        1,
        "{}",
        logged()
    );
    assert_eq!(
        logged_lines("full", &["INFO", "stores messages from pulse again"]),
        1,
        "{}",
        logged()
    );
}

async fn message_in_two_pulse_queues_is_stored_once(world: &World) {
    let bus = memory();
    let both = [
        world.listen("one-way", &bus).ready().await,
        world.listen("another-way", &bus).ready().await,
    ];
    world.publish("both", 200).await;
    let outcome =
        |name: &str, how: &str| counted(name)[&format!("pulse_messages_totaloutcome={how}")];
    let sum = |how: &str| outcome("one-way", how) + outcome("another-way", how);
    until("both to have all", async || {
        sum("stored") + sum("duplicate") == 400.0
    })
    .await;
    for listening in both {
        listening.stop().await;
    }
    assert_eq!((sum("stored"), sum("duplicate")), (200.0, 200.0));
    assert_eq!(take_bodies(&bus).await, bodies("both", 200));
}
