//! Waiting messages: requeue, drop, pause.

use std::time::Duration;

use bus::{MessageSelector, Reserve, Settlement};
use uuid::Uuid;

use super::{HOUR, row, shown};
use crate::{
    on_both,
    world::{NOTES, OUT, PARTITIONED, World, done, text, texts},
};

on_both!(
    delayed_messages_are_made_ready_one_or_all,
    retry_that_is_made_ready_keeps_its_attempts_and_its_partition,
    waiting_messages_are_dropped_but_not_those_in_flight,
    released_message_can_be_dropped_and_the_next_ones_flow,
    paused_queue_delivers_nothing_until_it_is_resumed,
    resumed_queue_wakes_waiting_reservations,
);

async fn delayed_messages_are_made_ready_one_or_all(world: World) {
    let ready = world.send_after(&NOTES, "ready", Duration::ZERO).await;
    let mut ids = Vec::new();
    for text in ["a", "b", "c"] {
        ids.push(world.send_after(&NOTES, text, HOUR).await);
        world.pass(Duration::from_millis(2)).await;
    }
    assert_eq!(world.requeue(&NOTES, MessageSelector::One(ids[1])).await, 1);
    assert_eq!(world.depth(&NOTES).await, (2, 0, 2, 0));
    for not_delayed in [ids[1], ready, Uuid::nil()] {
        assert_eq!(
            world
                .requeue(&NOTES, MessageSelector::One(not_delayed))
                .await,
            0
        );
    }
    assert_eq!(world.requeue(&NOTES, MessageSelector::All).await, 2);
    assert_eq!(world.requeue(&NOTES, MessageSelector::All).await, 0);
    let deliveries = world.reserve_up_to(&NOTES, 10).await;
    assert_eq!(texts(&deliveries), ["ready", "b", "a", "c"]);
}

async fn retry_that_is_made_ready_keeps_its_attempts_and_its_partition(world: World) {
    world.send(&PARTITIONED, "a1").await;
    let delivery = world.reserve(&PARTITIONED).await;
    world
        .bus
        .settle(&delivery.lease, &Settlement::Retry { after: HOUR })
        .await
        .unwrap();
    assert_eq!(
        shown(&world.peek(&PARTITIONED).await),
        [row("a1", "delayed", 1)]
    );
    assert_eq!(world.requeue(&PARTITIONED, MessageSelector::All).await, 1);
    let again = world.reserve(&PARTITIONED).await;
    assert_eq!(
        (again.attempt, again.envelope.partition.as_deref()),
        (2, Some("a"))
    );
}

async fn waiting_messages_are_dropped_but_not_those_in_flight(world: World) {
    let held = world.send_after(&NOTES, "held", Duration::ZERO).await;
    let lease = world.reserve(&NOTES).await.lease;
    let mut ids = Vec::new();
    for (text, after) in [
        ("a", Duration::ZERO),
        ("b", Duration::ZERO),
        ("c", HOUR),
        ("d", HOUR),
    ] {
        ids.push(world.send_after(&NOTES, text, after).await);
    }
    for (id, dropped) in [
        (held, 0),
        (Uuid::nil(), 0),
        (ids[1], 1),
        (ids[1], 0),
        (ids[2], 1),
    ] {
        assert_eq!(
            world.drop_waiting(&NOTES, MessageSelector::One(id)).await,
            dropped
        );
    }
    assert_eq!(world.depth(&NOTES).await, (1, 1, 1, 0));
    assert_eq!(world.drop_waiting(&NOTES, MessageSelector::All).await, 2);
    assert_eq!(world.depth(&NOTES).await, (0, 1, 0, 0));
    world.bus.settle(&lease, &done()).await.unwrap();
}

async fn released_message_can_be_dropped_and_the_next_ones_flow(world: World) {
    world.send(&NOTES, "a").await;
    world.send(&NOTES, "b").await;
    let delivery = world.reserve(&NOTES).await;
    let id = delivery.envelope.id;
    world
        .bus
        .settle(&delivery.lease, &Settlement::Release)
        .await
        .unwrap();
    assert_eq!(
        world.drop_waiting(&NOTES, MessageSelector::One(id)).await,
        1
    );
    let deliveries = world.reserve_up_to(&NOTES, 10).await;
    assert_eq!(texts(&deliveries), ["b"]);
}

async fn paused_queue_delivers_nothing_until_it_is_resumed(world: World) {
    for queue in [NOTES, PARTITIONED] {
        let spec = queue.spec();
        world.send(&queue, "a").await;
        let held = world.reserve(&queue).await;
        world.bus.set_paused(&spec, true).await.unwrap();
        assert!(world.bus.status(&spec).await.unwrap().paused);
        world.send(&queue, "b").await;
        world
            .send_after(&queue, "c", Duration::from_millis(10))
            .await;
        world.pass(Duration::from_millis(10)).await;
        for bus in [&world.bus, &world.other] {
            let request = Reserve {
                wait: Duration::ZERO,
                ..Reserve::now(10)
            };
            assert!(bus.reserve(&spec, request).await.unwrap().is_empty());
        }
        world.send(&queue, "d").await;
        world.bus.settle(&held.lease, &done()).await.unwrap();
        world.send(&OUT, "other queues go on").await;
        assert_eq!(world.reserve_up_to(&OUT, 10).await.len(), 1);

        world.bus.set_paused(&spec, false).await.unwrap();
        assert!(!world.bus.status(&spec).await.unwrap().paused);
        let mut deliveries = world.reserve_up_to(&queue, 10).await;
        deliveries.sort_by_key(text);
        assert_eq!(texts(&deliveries), ["b", "c", "d"]);
    }
}

async fn resumed_queue_wakes_waiting_reservations(world: World) {
    let spec = NOTES.spec();
    world.bus.set_paused(&spec, true).await.unwrap();
    world.send(&NOTES, "a").await;
    let waiting = world.wait_in_other(&NOTES);
    // It begins, and finds nothing.
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    world.bus.set_paused(&spec, false).await.unwrap();
    world
        .until("the message", || async { waiting.is_finished() })
        .await;
    assert_eq!(waiting.await.unwrap().len(), 1);
}
