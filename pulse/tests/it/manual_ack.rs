//! Messages that are acknowledged one by one.

use pulse::{ManualAckConsumer, PulseError, Subscription};
use runtime::SystemClock;

use crate::world::{EXCHANGE, TASKS, World, message, route};

async fn open(world: &World, prefetch: u16) -> ManualAckConsumer {
    let binding = (&route(EXCHANGE, &["#.wanted"], TASKS)).into();
    let subscription = Subscription::durable(world.rabbit.settings(), "taken", vec![binding])
        .unwrap()
        .prefetch(prefetch);
    ManualAckConsumer::open(subscription, &SystemClock)
        .await
        .unwrap()
}

async fn publish(world: &World, count: usize) {
    for number in 0..count {
        world
            .rabbit
            .publish(&message(EXCHANGE, "a.wanted", &format!("m {number}")))
            .await
            .unwrap();
        world
            .rabbit
            .publish(&message(EXCHANGE, "a.b", "not this one"))
            .await
            .unwrap();
    }
}

async fn unacknowledged_messages_return_in_order(world: &World) {
    let mut one = open(world, 2).await;
    publish(world, 3).await;
    let (first, second) = (one.next().await.unwrap(), one.next().await.unwrap());
    assert_eq!(
        (&first.message.body[..], &second.message.body[..]),
        (&b"m 0"[..], &b"m 1"[..])
    );
    world.until_depth("taken", 1).await;
    assert!(first.acknowledge().await);
    assert_eq!(&one.next().await.unwrap().message.body[..], b"m 2");
    one.close().await;
    world.until_depth("taken", 2).await;
    assert!(!second.acknowledge().await, "its connection is closed");
    let mut other = open(world, 0).await;
    for body in [b"m 1", b"m 2"] {
        let taken = other.next().await.unwrap();
        assert_eq!(&taken.message.body[..], body);
        assert!(taken.acknowledge().await);
    }
    other.close().await;
    world.until_depth("taken", 0).await;
}

async fn deleted_queue_and_lost_server_are_errors(world: &mut World) {
    let mut one = open(world, 0).await;
    world
        .rabbit
        .delete_queue("queue/pulseuser/taken")
        .await
        .unwrap();
    let error = one.next().await.err().unwrap();
    assert!(matches!(error, PulseError::Missing { .. }), "{error}");
    let mut one = open(world, 0).await;
    publish(world, 1).await;
    let taken = one.next().await.unwrap();
    world.rabbit.kill().unwrap();
    let error = one.next().await.err().unwrap();
    assert!(
        error
            .to_string()
            .contains("broke while trying to take messages from queue/pulseuser/taken"),
        "{error}"
    );
    assert!(!taken.acknowledge().await);
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn acknowledged_message_is_gone() {
    let mut world = World::lend().await;
    unacknowledged_messages_return_in_order(&world).await;
    deleted_queue_and_lost_server_are_errors(&mut world).await;
}
