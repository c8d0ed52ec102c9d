//! Reservations that wait: for a message, a release, an expired lease, or an interrupt.

use std::time::Duration;

use bus::{Reserve, Settlement};

use crate::{
    on_both,
    world::{NOTES, OUT, PARTITIONED, World},
};

on_both!(
    waiting_reservation_wakes_for_a_message_and_for_an_interrupt,
    waiting_reservation_wakes_for_a_release_and_for_an_expired_lease,
);

async fn waiting_reservation_wakes_for_a_message_and_for_an_interrupt(world: World) {
    for queue in [NOTES, PARTITIONED] {
        let waiting = world.wait_in_other(&queue);
        world.send(&queue, "a").await;
        assert_eq!(waiting.await.unwrap().len(), 1);
    }
    let delayed = world.wait_in_other(&OUT);
    world
        .send_after(&OUT, "late", Duration::from_millis(100))
        .await;
    world
        .until("the delayed message", || async { delayed.is_finished() })
        .await;
    assert_eq!(delayed.await.unwrap().len(), 1);

    let request = Reserve {
        wait: Duration::from_secs(3600),
        ..Reserve::now(1)
    };
    request.interrupt.notify_one();
    assert!(
        world
            .bus
            .reserve(&NOTES.spec(), request)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn waiting_reservation_wakes_for_a_release_and_for_an_expired_lease(world: World) {
    world.send(&NOTES, "a").await;
    for release in [true, false] {
        let held = world.reserve(&NOTES).await;
        let waiting = world.wait_in_other(&NOTES);
        if release {
            world.settle(held, Settlement::Release).await;
        }
        world
            .until("the message to come back", || async {
                waiting.is_finished()
            })
            .await;
        let again = waiting.await.unwrap();
        assert_eq!(again.len(), 1);
        world
            .other
            .settle(&again[0].lease, &Settlement::Release)
            .await
            .unwrap();
    }
}
