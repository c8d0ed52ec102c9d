//! RabbitMQ, the bus or the queue goes away, and comes back.

use bus::{Clock, SystemClock};
use std::time::Duration;

use crate::world::{
    EXCHANGE, TASKS, World, bodies, counted, depth, listen, logged, logged_times, memory, message, queue_name, redis,
    route, take_bodies, until, until_stored,
};

/// Publishes as one who does not give up: what was not confirmed is published again.
async fn publish_through(world: &World, from: usize, to: usize) {
    for number in from..to {
        let message = message(EXCHANGE, "primary.a", &format!("flow {number}"));
        until("a message to be confirmed", async || world.rabbit.publish(&message).await.is_ok()).await;
    }
}

#[tokio::test]
async fn rabbitmq_is_killed_and_restarted_in_the_middle_of_a_flow() {
    let (mut world, (bus, _server, _directory)) = (World::start().await, redis().await);
    let listening = world.listen("flow", &bus);
    world.until_depth("flow", 0).await;
    publish_through(&world, 0, 200).await;
    // It dies with messages that are on their way.
    world.publish("burst", 400).await;
    world.rabbit.restart().await.unwrap();
    publish_through(&world, 200, 300).await;
    world.rabbit.stop_gently().await.unwrap();
    until("it to be missed", async || logged_times(&["WARN", "cannot be listened to"]) >= 2).await;
    world.rabbit.restart().await.unwrap();
    publish_through(&world, 300, 400).await;
    until_stored(&bus, TASKS, 800).await;
    world.until_depth("flow", 0).await;
    listening.stop().await;
    // Nothing is lost, and nothing is stored twice.
    assert_eq!(take_bodies(&bus).await, [bodies("burst", 400), bodies("flow", 400)].concat());
    assert_eq!(counted(&queue_name("flow"))["pulse_reconnects_total"], 2.0);
}

#[tokio::test]
async fn a_lost_acknowledgement_stores_nothing_twice() {
    let (mut world, (bus, redis, _directory)) = (World::start().await, redis().await);
    let listening = world.listen("lost", &bus);
    world.until_depth("lost", 0).await;
    world.publish("before", 1).await;
    until_stored(&bus, TASKS, 1).await;
    // Redis holds its answer back until RabbitMQ is another one: what it stores then cannot be acknowledged.
    redis.command::<String>(&["CLIENT", "PAUSE", "60000", "WRITE"]).await.unwrap();
    world.publish("held", 50).await;
    world.until_depth("lost", 0).await;
    world.rabbit.kill().unwrap();
    redis.command::<String>(&["CLIENT", "UNPAUSE"]).await.unwrap();
    until_stored(&bus, TASKS, 51).await;
    world.rabbit.restart().await.unwrap();
    let repeated = async || counted(&queue_name("lost"))["pulse_messages_totaloutcome=repeated"] >= 50.0;
    until("all to come again", repeated).await;
    world.until_depth("lost", 0).await;
    listening.stop().await;
    world.until_depth("lost", 0).await;
    assert_eq!(take_bodies(&bus).await, [bodies("before", 1), bodies("held", 50)].concat());
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_bus_is_away() {
    let (world, (bus, mut redis, _directory)) = (World::start().await, redis().await);
    let listening = world.listen("away", &bus);
    world.until_depth("away", 0).await;
    redis.stop().unwrap();
    // RabbitMQ keeps what is beyond the prefetch.
    world.publish("away", 700).await;
    world.until_depth("away", 200).await;
    until("it to be said", async || logged_times(&["WARN", "the bus does not store"]) == 1).await;
    listening.stop().await;
    // Whoever stops gives everything back.
    world.until_depth("away", 700).await;
    let listening = world.listen("away", &bus);
    until("it to be said", async || logged_times(&["WARN", "the bus does not store"]) == 2).await;
    redis.restart().await.unwrap();
    until_stored(&bus, TASKS, 700).await;
    world.until_depth("away", 0).await;
    listening.stop().await;
    assert_eq!(take_bodies(&bus).await, bodies("away", 700));
    assert_eq!(logged_times(&["the bus does not store"]), 2, "once for each outage: {}", logged());
    assert_eq!(logged_times(&["INFO", "stores messages from pulse again"]), 1);
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_made_anew_with_a_loud_word() {
    let (mut world, bus) = (World::start().await, memory());
    let listening = world.listen("deleted", &bus);
    world.until_depth("deleted", 0).await;
    world.rabbit.delete_queue(&queue_name("deleted")).await.unwrap();
    let said = |times| async move || logged_times(&["ERROR", "queue was deleted", "8000"]) == times;
    until("it to be said", said(1)).await;
    world.until_depth("deleted", 0).await;
    world.publish("after", 1).await;
    until_stored(&bus, TASKS, 1).await;
    // It is more likely to grow while nobody can listen.
    world.rabbit.kill().unwrap();
    until("it to be missed", async || logged_times(&["WARN", "cannot be listened to"]) == 1).await;
    world.rabbit.restart().await.unwrap();
    until("it to be listened to", async || logged_times(&["INFO", "listening to pulse"]) == 3).await;
    listening.stop().await;
    world.rabbit.delete_queue(&queue_name("deleted")).await.unwrap();
    let listening = world.listen("deleted", &bus);
    until("it to be said", async || logged_times(&["WARN", "does not exist and is declared"]) == 2).await;
    listening.stop().await;
    assert!(said(1)().await, "{}", logged());
}

#[tokio::test]
async fn an_outage_is_said_once_and_can_be_stopped() {
    let (mut world, bus) = (World::start().await, memory());
    world.rabbit.kill().unwrap();
    let listening = world.listen("outage", &bus);
    until("it to be said", async || logged_times(&["WARN", "cannot connect to rabbitmq at amqp://localhost"]) == 1)
        .await;
    // Several tries later.
    SystemClock.sleep(Duration::from_secs(4)).await;
    assert_eq!(logged_times(&["WARN"]), 1, "{}", logged());
    listening.stop().await;
    world.rabbit.restart().await.unwrap();
    let mut wrong = world.rabbit.settings();
    wrong.password = "not the password".into();
    let refused = listen(wrong, "outage", vec![route(EXCHANGE, &["#"], TASKS)], &bus);
    until("it to be said", async || logged_times(&["does not let user pulseuser in: set the user"]) == 1).await;
    refused.stop().await;
    let mut wrong = world.rabbit.settings();
    wrong.vhost = "nowhere".to_owned();
    let refused = listen(wrong, "outage", vec![route(EXCHANGE, &["#"], TASKS)], &bus);
    until("it to be said", async || logged_times(&["cannot use the virtual host nowhere"]) == 1).await;
    refused.stop().await;
    let foreign = listen(world.rabbit.settings(), &"x".repeat(230), vec![route(EXCHANGE, &["#"], TASKS)], &bus);
    until("it to be listened to", async || logged_times(&["INFO", "listening to pulse"]) == 1).await;
    foreign.stop().await;
    assert!(!logged().contains("not the password"));
    assert_eq!(depth(&bus, TASKS).await, 0);
}
