//! From Pulse to the bus, once.

use std::sync::Arc;

use bus::{Bus, MemoryBus, Policy, Queue, Reserve, Settlement, SystemClock};
use pulse::PulseMessage;

use crate::world::{
    EXCHANGE, TASKS, World, bodies, counted, depth, listen, logged, logged_times, memory, message, queue_name, redis,
    route, take_bodies, until, until_stored,
};

async fn drains(bus: Arc<dyn Bus>) {
    let world = World::start().await;
    let listening = world.listen("drained", &bus);
    world.until_depth("drained", 0).await;
    // One listens, the other will find what came in between.
    world.publish("while it listens", 1500).await;
    until_stored(&bus, TASKS, 1500).await;
    listening.stop().await;
    world.publish("while nobody listens", 1500).await;
    world.until_depth("drained", 1500).await;
    let (one, other) = (world.listen("drained", &bus), world.listen("drained", &bus));
    until_stored(&bus, TASKS, 3000).await;
    one.stop().await;
    other.stop().await;
    world.until_depth("drained", 0).await;
    let expected = [bodies("while it listens", 1500), bodies("while nobody listens", 1500)].concat();
    assert_eq!(take_bodies(&bus).await, expected);
    let counted = counted(&queue_name("drained"));
    assert_eq!(counted["pulse_messages_totaloutcome=stored"], 3000.0, "{counted:?}");
    assert_eq!(counted["pulse_messages_totaloutcome=repeated"], 0.0, "{counted:?}");
    assert_eq!(counted["pulse_lag_seconds_count"], 3000.0, "{counted:?}");
    assert!(counted.contains_key("pulse_queue_depth"), "{counted:?}");
    assert_eq!(logged_times(&["WARN", "does not exist and is declared"]), 1, "{}", logged());
}

#[tokio::test]
async fn everything_comes_into_memory() {
    drains(memory()).await;
}

#[tokio::test]
async fn everything_comes_into_redis() {
    let (bus, _server, _directory) = redis().await;
    drains(bus).await;
}

#[tokio::test]
async fn a_message_that_comes_again_is_stored_once() {
    let (world, bus) = (World::start().await, memory());
    let listening = world.listen("again", &bus);
    world.until_depth("again", 0).await;
    for body in ["same", "same", "other"] {
        world.rabbit.publish(&message(EXCHANGE, "a", body)).await.unwrap();
    }
    world.rabbit.publish(&message(EXCHANGE, "b", "same")).await.unwrap();
    until("all to be counted", async || {
        counted(&queue_name("again")).get("pulse_messages_totaloutcome=repeated") == Some(&1.0)
            && depth(&bus, TASKS).await == 3
    })
    .await;
    listening.stop().await;
    assert_eq!(take_bodies(&bus).await, ["other", "same", "same"]);
}

#[tokio::test]
async fn a_full_bus_takes_what_has_room_and_the_rest_when_there_is_room_again() {
    let world = World::start().await;
    let bounded: Queue<PulseMessage> = Queue::new("tasks", Policy { bound: Some(7), ..Policy::DEFAULT });
    let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(Arc::new(SystemClock)));
    let before = world.listen("full", &memory());
    world.until_depth("full", 0).await;
    before.stop().await;
    world.publish("of many", 20).await;
    let routes = vec![route(EXCHANGE, &["#"], bounded)];
    let listening = listen(world.rabbit.settings(), "full", routes, &bus);
    until_stored(&bus, bounded, 7).await;
    until("it to be said", async || logged_times(&["WARN", "queue tasks is full: 7 messages wait"]) == 1).await;
    // Nothing is acknowledged that is not stored.
    let mut taken = Vec::new();
    while taken.len() < 20 {
        for leased in bus.reserve(&bounded.spec(), Reserve::now(3)).await.unwrap() {
            assert!(depth(&bus, bounded).await <= 7);
            bus.settle(&leased.lease, &Settlement::Done { emit: Vec::new() }).await.unwrap();
            taken.push(leased.envelope.id);
        }
        tokio::task::yield_now().await;
    }
    listening.stop().await;
    world.until_depth("full", 0).await;
    assert_eq!(depth(&bus, bounded).await, 0);
    assert_eq!(taken.len(), 20);
}

#[tokio::test]
async fn what_comes_by_two_pulse_queues_is_stored_once() {
    let (world, bus) = (World::start().await, memory());
    let both = [world.listen("one-way", &bus), world.listen("another-way", &bus)];
    world.until_depth("one-way", 0).await;
    world.until_depth("another-way", 0).await;
    world.publish("both", 200).await;
    let outcome = |name: &str, how: &str| counted(&queue_name(name))[&format!("pulse_messages_totaloutcome={how}")];
    let sum = |how: &str| outcome("one-way", how) + outcome("another-way", how);
    until("both to have all", async || sum("stored") + sum("repeated") == 400.0).await;
    for listening in both {
        listening.stop().await;
    }
    assert_eq!((sum("stored"), sum("repeated")), (200.0, 200.0));
    assert_eq!(take_bodies(&bus).await, bodies("both", 200));
}
