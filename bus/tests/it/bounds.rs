//! The bounds of a queue, in messages and in bytes.

use std::time::Duration;

use bus::{Lease, MessageSelector, Outgoing, Queue, Reserve, Settlement};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, World, note},
};

on_both!(bytes_of_a_queue_follow_its_messages);

const MINUTE: Duration = Duration::from_secs(60);

/// A message that is much larger than what a backend keeps beside it.
fn large(world: &World, after: Duration) -> Outgoing {
    Outgoing {
        after,
        ..NOTES
            .pack(&note(&"x".repeat(112_000)), world.clock.as_ref())
            .unwrap()
    }
}

impl World {
    async fn bytes(&self, queue: &Queue<Note>) -> u64 {
        self.bus.status(&queue.spec()).await.unwrap().bytes
    }

    /// Checks that the status counts the bytes of `count` large messages: exactly in memory, and about on Redis.
    async fn assert_large(&self, count: u64, one: u64, after: &str) {
        let bytes = self.bytes(&NOTES).await;
        if self.is_in_memory() {
            assert_eq!(bytes, count * one, "{after}");
        } else {
            let counted = (bytes + one / 2) / one;
            assert_eq!(counted, count, "{after}: {bytes}");
        }
    }

    async fn take_lease(&self) -> Lease {
        self.take(&NOTES).await.lease
    }
}

async fn bytes_of_a_queue_follow_its_messages(world: World) {
    let queue = NOTES.spec();
    let bus = &world.bus;
    let settle = async |lease: &Lease, how: Settlement| bus.settle(lease, &how).await.unwrap();
    let dead = || Settlement::Dead {
        id: world.clock.new_id(),
        reason: "why".to_owned(),
        attempts: 1,
        emit: Vec::new(),
    };

    bus.push(vec![large(&world, Duration::ZERO)]).await.unwrap();
    let one = world.bytes(&NOTES).await;
    assert!(one >= 112_000, "{one}");
    let more = vec![
        large(&world, Duration::ZERO),
        large(&world, MINUTE),
        large(&world, MINUTE),
    ];
    bus.push(more).await.unwrap();
    world.assert_large(4, one, "a push").await;

    let lease = world.take_lease().await;
    world.assert_large(4, one, "a reservation").await;
    settle(&lease, Settlement::Release).await;
    world.assert_large(4, one, "a release").await;
    let lease = world.take_lease().await;
    settle(&lease, Settlement::Retry { after: MINUTE }).await;
    world.assert_large(4, one, "a retry").await;
    let lease = world.take_lease().await;
    let after = Duration::ZERO;
    settle(&lease, Settlement::Defer { after }).await;
    world.assert_large(4, one, "a deferral").await;

    assert_eq!(bus.requeue(&queue, MessageSelector::All).await.unwrap(), 3);
    world.assert_large(4, one, "a requeue").await;
    let stale = world.take_lease().await;
    world.pass(LEASE).await;
    let fresh = world.take_lease().await;
    world.assert_large(4, one, "an expired lease").await;
    bus.settle(&stale, &dead()).await.unwrap_err();
    world.assert_large(4, one, "a stale settlement").await;
    settle(&fresh, dead()).await;
    world.assert_large(3, one, "a dead letter").await;

    let letter = bus.dead(&queue, "", 1).await.unwrap().remove(0).id;
    assert_eq!(bus.requeue_dead(&queue, &[letter]).await.unwrap(), 1);
    world.assert_large(4, one, "a requeued dead letter").await;
    let lease = world.take_lease().await;
    let emit = vec![large(&world, MINUTE), large(&world, Duration::ZERO)];
    settle(&lease, Settlement::Done { emit }).await;
    world.assert_large(5, one, "a message that sends two").await;

    let held = bus.reserve(&queue, Reserve::now(1)).await.unwrap();
    assert_eq!(
        bus.drop_waiting(&queue, MessageSelector::All)
            .await
            .unwrap(),
        4
    );
    world.assert_large(1, one, "what waits was dropped").await;
    settle(&held[0].lease, Settlement::Done { emit: Vec::new() }).await;
    world.assert_large(0, one, "the last message is done").await;
}
