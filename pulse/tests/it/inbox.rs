//! Messages that somebody is done with only later.

use pulse::{Inbox, PulseError};

use crate::world::{EXCHANGE, TASKS, World, message, route};

async fn open(world: &World, ahead: u16) -> Inbox {
    Inbox::open(
        world.rabbit.settings(),
        "taken",
        route(EXCHANGE, &["#.wanted"], TASKS),
        ahead,
    )
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

async fn what_is_not_acknowledged_goes_back_in_its_order(world: &World) {
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
    assert!(!second.acknowledge().await, "it is not ours any more");
    let mut other = open(world, 0).await;
    for body in [b"m 1", b"m 2"] {
        let taken = other.next().await.unwrap();
        assert_eq!(&taken.message.body[..], body);
        assert!(taken.acknowledge().await);
    }
    other.close().await;
    world.until_depth("taken", 0).await;
}

async fn a_queue_that_is_deleted_and_a_server_that_dies_are_told(world: &mut World) {
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
    let mut world = World::start().await;
    what_is_not_acknowledged_goes_back_in_its_order(&world).await;
    a_queue_that_is_deleted_and_a_server_that_dies_are_told(&mut world).await;
}
