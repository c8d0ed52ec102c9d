//! The bounds of a queue, in messages and in bytes.

use std::time::Duration;

use bus::{Bound, BusError, Lease, MessageSelector, Outgoing, Policy, Queue, Reserve, Settlement};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, World, done, note, outcome},
};

on_both!(
    bound_refuses_pushes_but_not_outputs,
    bound_in_bytes_refuses_new_messages_but_no_duplicates,
    bound_in_bytes_counts_large_messages_from_the_first,
    bytes_of_a_queue_follow_its_messages,
);

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

    async fn reserve_lease(&self) -> Lease {
        self.reserve(&NOTES).await.lease
    }
}

async fn bound_refuses_pushes_but_not_outputs(world: World) {
    const BOUNDED: Queue<Note> = Queue::new(
        "bounded",
        Policy {
            max_depth: Some(2),
            ..Policy::DEFAULT
        },
    );
    world.send(&BOUNDED, "a").await;
    let two = vec![world.packed(&BOUNDED, "b"), world.packed(&BOUNDED, "c")];
    let refused = world.bus.push(two).await;
    assert!(
        matches!(refused, Err(BusError::Full { .. })),
        "all or none: {refused:?}"
    );
    assert_eq!(world.depth(&BOUNDED).await, (1, 0, 0, 0));
    let once = || Outgoing {
        key: Some("b".to_owned()),
        ..world.packed(&BOUNDED, "b")
    };
    let stored = world.bus.push(vec![once(), once()]).await.unwrap();
    assert_eq!(stored, outcome(1, 1), "what repeats itself is counted once");
    let producer = world.producer();
    let refused = producer
        .send_deduplicated(&BOUNDED, &note("c"), "c", Vec::new())
        .await;
    assert!(
        matches!(
            refused,
            Err(BusError::Full {
                queue: "bounded",
                bound: Bound::Messages(2)
            })
        ),
        "{refused:?}"
    );

    world.send(&NOTES, "in").await;
    let delivery = world.reserve(&NOTES).await;
    let emit = vec![world.packed(&BOUNDED, "output")];
    world.settle(delivery, Settlement::Done { emit }).await;
    assert_eq!(world.depth(&BOUNDED).await, (3, 0, 0, 0));

    for _ in 0..2 {
        let delivery = world.reserve(&BOUNDED).await;
        world.settle(delivery, done()).await;
    }
    let accepted = producer
        .send_deduplicated(&BOUNDED, &note("c"), "c", Vec::new())
        .await
        .unwrap();
    assert_eq!(accepted.inserted, 1, "a refused push does not burn its key");
    let again = producer
        .send_deduplicated(&BOUNDED, &note("c"), "c", Vec::new())
        .await
        .unwrap();
    assert_eq!(
        again.duplicates, 1,
        "what is stored already is safe, however full the queue is"
    );
}

async fn bound_in_bytes_refuses_new_messages_but_no_duplicates(world: World) {
    const BOUND: u64 = 200 << 10;
    const BOUNDED: Queue<Note> = Queue::new(
        "bounded",
        Policy {
            max_bytes: Some(BOUND),
            ..Policy::DEFAULT
        },
    );
    let large = |key: &str| Outgoing {
        key: Some(key.to_owned()),
        ..world.packed(&BOUNDED, &"x".repeat(30 << 10))
    };
    let mut stored = 0;
    let refused = loop {
        match world.bus.push(vec![large(&stored.to_string())]).await {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 20, "it has no end");
    };
    assert!(
        matches!(
            refused,
            BusError::Full {
                queue: "bounded",
                bound: Bound::Bytes(BOUND)
            }
        ),
        "{refused:?}"
    );
    assert!((6..=7).contains(&stored), "{stored} of 30 KiB");
    assert_eq!(world.depth(&BOUNDED).await, (stored, 0, 0, 0));
    let again = world.bus.push(vec![large("0")]).await.unwrap();
    assert_eq!((again.inserted, again.duplicates), (0, 1));
    let status = world.bus.status(&BOUNDED.spec()).await.unwrap();
    assert!(
        (100 << 10..300 << 10).contains(&status.bytes),
        "{}",
        status.bytes
    );

    // What handlers send was accepted already, and what is done makes room.
    world.send(&NOTES, "in").await;
    let delivery = world.reserve(&NOTES).await;
    let emit = vec![world.packed(&BOUNDED, "output")];
    world.settle(delivery, Settlement::Done { emit }).await;
    for delivery in world.reserve_up_to(&BOUNDED, 3).await {
        world.settle(delivery, done()).await;
    }
    world.bus.push(vec![large("new")]).await.unwrap();
}

async fn bound_in_bytes_counts_large_messages_from_the_first(world: World) {
    const BOUNDED: Queue<Note> = Queue::new(
        "bounded",
        Policy {
            max_bytes: Some(300 << 10),
            ..Policy::DEFAULT
        },
    );
    let large = note(&"x".repeat(120 << 10));
    let producer = world.producer();
    for _ in 0..3 {
        producer.send(&BOUNDED, &large).await.unwrap();
    }
    let refused = producer.send(&BOUNDED, &large).await;
    assert!(matches!(refused, Err(BusError::Full { .. })), "{refused:?}");
    assert_eq!(world.depth(&BOUNDED).await, (3, 0, 0, 0));
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

    let lease = world.reserve_lease().await;
    world.assert_large(4, one, "a reservation").await;
    settle(&lease, Settlement::Release).await;
    world.assert_large(4, one, "a release").await;
    let lease = world.reserve_lease().await;
    settle(&lease, Settlement::Retry { after: MINUTE }).await;
    world.assert_large(4, one, "a retry").await;
    let lease = world.reserve_lease().await;
    let after = Duration::ZERO;
    settle(&lease, Settlement::Defer { after }).await;
    world.assert_large(4, one, "a deferral").await;

    assert_eq!(bus.requeue(&queue, MessageSelector::All).await.unwrap(), 3);
    world.assert_large(4, one, "a requeue").await;
    let stale = world.reserve_lease().await;
    world.pass(LEASE).await;
    let fresh = world.reserve_lease().await;
    world.assert_large(4, one, "an expired lease").await;
    bus.settle(&stale, &dead()).await.unwrap_err();
    world.assert_large(4, one, "a stale settlement").await;
    settle(&fresh, dead()).await;
    world.assert_large(3, one, "a dead letter").await;

    let letter = bus.dead(&queue, "", 1).await.unwrap().remove(0).id;
    assert_eq!(bus.requeue_dead(&queue, &[letter]).await.unwrap(), 1);
    world.assert_large(4, one, "a requeued dead letter").await;
    let lease = world.reserve_lease().await;
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
