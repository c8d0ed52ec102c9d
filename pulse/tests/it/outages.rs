//! Outages of RabbitMQ and the bus, and deletions of the queue.

use tokio::net::TcpListener;

use crate::world::{
    EXCHANGE, TASKS, World, bodies, counted, depth, listen, logged, logged_lines, memory, message,
    queue_name, redis, route, take_bodies, until, until_logged, until_stored,
};

/// Publishes each message until it is confirmed.
async fn publish_through(world: &World, from: usize, to: usize) {
    for number in from..to {
        let message = message(EXCHANGE, "primary.a", &format!("flow {number}"));
        until("a message to be confirmed", async || {
            world.rabbit.publish(&message).await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn listener_survives_restart_of_rabbitmq_under_load() {
    let (mut world, (bus, _server, _directory)) = (World::lend().await, redis().await);
    let listening = world.listen("flow", &bus).ready().await;
    publish_through(&world, 0, 200).await;
    // It is killed with messages in transit.
    world.publish("burst", 400).await;
    world.rabbit.restart().await.unwrap();
    listening.until_ready(2).await;
    publish_through(&world, 200, 300).await;
    world.rabbit.stop_gently().await.unwrap();
    world.rabbit.restart().await.unwrap();
    listening.until_ready(3).await;
    publish_through(&world, 300, 400).await;
    until_stored(&bus, TASKS, 800).await;
    world.until_depth("flow", 0).await;
    listening.stop().await;
    // Nothing is lost, and nothing is stored twice.
    assert_eq!(
        take_bodies(&bus).await,
        [bodies("burst", 400), bodies("flow", 400)].concat()
    );
    assert_eq!(counted("flow")["pulse_reconnects_total"], 2.0);
}

#[tokio::test]
async fn lost_acknowledgement_stores_message_once() {
    let (mut world, (bus, redis, _directory)) = (World::lend().await, redis().await);
    let listening = world.listen("lost", &bus).ready().await;
    world.publish("before", 1).await;
    until_stored(&bus, TASKS, 1).await;
    // Redis responds only after RabbitMQ was killed: what it stores then cannot be acknowledged.
    redis
        .command::<String>(&["CLIENT", "PAUSE", "60000", "WRITE"])
        .await
        .unwrap();
    world.publish("held", 50).await;
    world.until_depth("lost", 0).await;
    world.rabbit.kill().unwrap();
    redis
        .command::<String>(&["CLIENT", "UNPAUSE"])
        .await
        .unwrap();
    until_stored(&bus, TASKS, 51).await;
    world.rabbit.restart().await.unwrap();
    let duplicate = async || counted("lost")["pulse_messages_totaloutcome=duplicate"] >= 50.0;
    until("all to come again", duplicate).await;
    world.until_depth("lost", 0).await;
    listening.stop().await;
    world.until_depth("lost", 0).await;
    assert_eq!(
        take_bodies(&bus).await,
        [bodies("before", 1), bodies("held", 50)].concat()
    );
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_bus_is_away() {
    let (world, (bus, mut redis, _directory)) = (World::share().await, redis().await);
    let listening = world.listen("away", &bus).ready().await;
    redis.stop().unwrap();
    // RabbitMQ keeps what is beyond the prefetch.
    world.publish("away", 700).await;
    world.until_depth("away", 200).await;
    until_logged("away", &["WARN", "the bus does not store"], 1).await;
    listening.stop().await;
    // At shutdown, all messages return to the queue.
    world.until_depth("away", 700).await;
    let listening = world.listen("away", &bus);
    until_logged("away", &["WARN", "the bus does not store"], 2).await;
    redis.restart().await.unwrap();
    until_stored(&bus, TASKS, 700).await;
    world.until_depth("away", 0).await;
    listening.stop().await;
    assert_eq!(take_bodies(&bus).await, bodies("away", 700));
    assert_eq!(
        logged_lines("away", &["the bus does not store"]),
        2,
        "once for each outage: {}",
        logged()
    );
    assert_eq!(
        logged_lines("away", &["INFO", "stores messages from pulse again"]),
        1
    );
}

#[tokio::test]
async fn deleted_queue_is_declared_again_and_logged_as_error() {
    let (mut world, bus) = (World::lend().await, memory());
    let (new, deleted) = (
        ["WARN", "does not exist and is declared"],
        ["ERROR", "queue was deleted", "8000"],
    );
    let listening = world.listen("deleted", &bus).ready().await;
    assert_eq!(logged_lines("deleted", &new), 1, "{}", logged());
    // During a session.
    world
        .rabbit
        .delete_queue(&queue_name("deleted"))
        .await
        .unwrap();
    listening.until_ready(2).await;
    assert_eq!(logged_lines("deleted", &deleted), 1, "{}", logged());
    world.publish("after", 1).await;
    until_stored(&bus, TASKS, 1).await;
    // During an outage, which is when a queue grows.
    world.rabbit.forget().unwrap();
    world.rabbit.restart().await.unwrap();
    world.rabbit.declare_exchange(EXCHANGE).await.unwrap();
    listening.until_ready(3).await;
    assert_eq!(logged_lines("deleted", &deleted), 2, "{}", logged());
    listening.stop().await;
    // While nobody listens, it may be a new queue.
    world
        .rabbit
        .delete_queue(&queue_name("deleted"))
        .await
        .unwrap();
    world.listen("deleted", &bus).ready().await.stop().await;
    assert_eq!(
        (
            logged_lines("deleted", &new),
            logged_lines("deleted", &deleted)
        ),
        (2, 2),
        "{}",
        logged()
    );
}

async fn outage_is_logged_once_and_ends_at_shutdown(world: &mut World) {
    let bus = memory();
    world.rabbit.kill().unwrap();
    let listening = world.listen("outage", &bus);
    until_logged(
        "outage",
        &["WARN", "cannot connect to rabbitmq at amqp://localhost"],
        1,
    )
    .await;
    // Several tries later.
    let tries = TcpListener::bind(("127.0.0.1", world.rabbit.settings().address.port))
        .await
        .unwrap();
    for _ in 0..4 {
        tries.accept().await.unwrap();
    }
    drop(tries);
    assert_eq!(logged_lines("outage", &["WARN"]), 1, "{}", logged());
    listening.stop().await;
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn wrong_setting_fails_start_and_outage_is_logged_once() {
    let mut world = World::lend().await;
    wrong_settings_end_the_start(&world).await;
    outage_is_logged_once_and_ends_at_shutdown(&mut world).await;
}

async fn wrong_settings_end_the_start(world: &World) {
    let bus = memory();
    let mut password = world.rabbit.settings();
    password.password = "not the password".into();
    let mut vhost = world.rabbit.settings();
    vhost.vhost = "nowhere".to_owned();
    for (settings, exchange, expected) in [
        (
            password,
            EXCHANGE,
            "does not accept user pulseuser: set the user and password",
        ),
        (
            vhost,
            EXCHANGE,
            "user pulseuser cannot use the virtual host nowhere",
        ),
        (
            world.rabbit.settings(),
            "exchange/none/v1",
            "cannot find the exchange exchange/none/v1: correct the name",
        ),
        (
            world.rabbit.settings(),
            "amq.topic",
            "user pulseuser may not",
        ),
    ] {
        let refused = listen(
            settings,
            "wrong",
            vec![route(exchange, &["#"], TASKS)],
            &bus,
        );
        let fault = refused.fault().await;
        assert!(fault.contains(expected), "{fault}");
    }
    assert_eq!(
        logged_lines("wrong", &["ERROR"]) + logged_lines("wrong", &["cannot listen to pulse"]),
        0,
        "{}",
        logged()
    );
    assert!(!logged().contains("not the password"));
    assert_eq!(depth(&bus, TASKS).await, 0);
}
