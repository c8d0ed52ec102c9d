//! The operator's view of a queue.

mod dead_letters;
mod waiting;

use std::{collections::HashSet, time::Duration};

use bus::{Depth, MessageSelector, MessageState, Outgoing, Queue, QueuedMessage, Settlement};
use runtime::SystemClock;
use uuid::Uuid;

use crate::{
    on_both,
    world::{NOTES, Note, PARTITIONED, World, done, note, note_of},
};

on_both!(
    status_has_counts_oldest_message_and_rate,
    partition_is_counted_and_shown_like_any_other,
    peek_shows_all_messages_in_order_and_changes_nothing,
    long_queue_is_shown_and_searched_to_its_end,
);

const HOUR: Duration = Duration::from_secs(3600);

impl World {
    async fn peek(&self, queue: &Queue<Note>) -> Vec<QueuedMessage> {
        self.bus.peek(&queue.spec(), 100).await.unwrap()
    }
}

/// What a peek shows, in short.
fn shown(waiting: &[QueuedMessage]) -> Vec<(String, &'static str, u32)> {
    let state = |waiting: &QueuedMessage| match waiting.state {
        MessageState::Ready { .. } => "ready",
        MessageState::InFlight { .. } => "in flight",
        MessageState::Delayed { .. } => "delayed",
    };
    waiting
        .iter()
        .map(|waiting| (note_of(&waiting.envelope), state(waiting), waiting.attempts))
        .collect()
}

fn row(text: &str, state: &'static str, attempts: u32) -> (String, &'static str, u32) {
    (text.to_owned(), state, attempts)
}

async fn status_has_counts_oldest_message_and_rate(world: World) {
    let spec = NOTES.spec();
    let empty = world.bus.status(&spec).await.unwrap();
    assert_eq!(
        (empty.depth, empty.oldest, empty.paused),
        (Depth::default(), None, false)
    );
    assert_eq!(empty.settled_per_minute, 0.0);

    world.dead_letter(&NOTES, "dead", "poison").await;
    world.send_after(&NOTES, "later", HOUR).await;
    world.send(&NOTES, "held").await;
    let held = world.reserve(&NOTES).await;
    world.pass(Duration::from_millis(300)).await;
    let sent = world.clock.now();
    world.send(&NOTES, "ready").await;
    let status = world.bus.status(&spec).await.unwrap();
    assert_eq!(
        status.depth,
        Depth {
            ready: 1,
            in_flight: 1,
            delayed: 1,
            dead: 1
        }
    );
    let oldest = status.oldest.unwrap();
    assert!(
        oldest >= Duration::from_millis(300) && oldest < Duration::from_secs(60),
        "the held one: {oldest:?}"
    );
    let rate = status.settled_per_minute;
    assert!(
        rate > 0.5 && rate <= 1.0,
        "a dead letter has ended, too: {rate}"
    );

    world.bus.settle(&held.lease, &done()).await.unwrap();
    let status = world.bus.status(&spec).await.unwrap();
    // The server's clock has whole milliseconds.
    let since_sent =
        world.clock.now().duration_since(sent).unsigned_abs() + Duration::from_millis(1);
    assert!(
        status.oldest.unwrap() <= since_sent,
        "now it is the ready one"
    );
    let rate = status.settled_per_minute;
    assert!(
        rate > 1.0 && rate <= 2.0,
        "two in one to two minutes: {rate}"
    );
}

async fn partition_is_counted_and_shown_like_any_other(world: World) {
    for text in ["b1", "a1", "a2"] {
        world.send(&PARTITIONED, text).await;
        world.pass(Duration::from_millis(2)).await;
    }
    let deliveries = world.reserve_up_to(&PARTITIONED, 1).await;
    let status = world.bus.status(&PARTITIONED.spec()).await.unwrap();
    assert_eq!(
        status.depth,
        Depth {
            ready: 2,
            in_flight: 1,
            delayed: 0,
            dead: 0
        }
    );
    let peeked = world.peek(&PARTITIONED).await;
    let texts: Vec<_> = peeked
        .iter()
        .map(|waiting| note_of(&waiting.envelope))
        .collect();
    assert_eq!(
        texts,
        ["b1", "a1", "a2"],
        "the oldest first, whatever its partition"
    );
    let held: Vec<_> = peeked
        .iter()
        .filter(|w| matches!(w.state, MessageState::InFlight { .. }))
        .collect();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].envelope.id, deliveries[0].envelope.id);
    assert_eq!(peeked[1].envelope.partition.as_deref(), Some("a"));
}

async fn peek_shows_all_messages_in_order_and_changes_nothing(world: World) {
    let begun = world.clock.now();
    world.send_after(&NOTES, "much later", 2 * HOUR).await;
    world.send_after(&NOTES, "later", HOUR).await;
    for text in ["first", "second", "third"] {
        world.send(&NOTES, text).await;
    }
    let deliveries = world.reserve_up_to(&NOTES, 2).await;
    world
        .bus
        .settle(&deliveries[1].lease, &Settlement::Release)
        .await
        .unwrap();
    let expected = [
        row("first", "in flight", 1),
        row("second", "ready", 0),
        row("third", "ready", 0),
        row("later", "delayed", 0),
        row("much later", "delayed", 0),
    ];
    for _ in 0..2 {
        assert_eq!(shown(&world.peek(&NOTES).await), expected);
    }
    let some = world.bus.peek(&NOTES.spec(), 4).await.unwrap();
    assert_eq!(shown(&some), expected[..4]);
    let MessageState::Delayed { due } = some[3].state else {
        panic!("{some:?}")
    };
    let wait = due.duration_since(begun).unsigned_abs();
    // Redis keeps milliseconds.
    assert!(
        wait + Duration::from_millis(1) >= HOUR && wait < HOUR + Duration::from_secs(60),
        "{wait:?}"
    );

    for waiting in world.peek(&NOTES).await {
        let found = world
            .bus
            .message(&NOTES.spec(), waiting.envelope.id)
            .await
            .unwrap();
        assert_eq!(found, Some(waiting));
    }
    assert_eq!(
        world.bus.message(&NOTES.spec(), Uuid::nil()).await.unwrap(),
        None
    );
}

async fn long_queue_is_shown_and_searched_to_its_end(world: World) {
    let packed = |n: usize, after| Outgoing {
        after,
        ..PARTITIONED
            .pack(&note(&format!("{n}")), &SystemClock)
            .unwrap()
    };
    // Many of the same moment, in ten partitions.
    let ready: Vec<_> = (0..450).map(|n| packed(n, Duration::ZERO)).collect();
    let delayed: Vec<_> = (450..900).map(|n| packed(n, HOUR)).collect();
    let last = [ready[449].envelope.id, delayed[449].envelope.id];
    world.bus.push(ready).await.unwrap();
    world.bus.push(delayed).await.unwrap();
    let all = world.bus.peek(&PARTITIONED.spec(), 10_000).await.unwrap();
    let texts: HashSet<_> = all
        .iter()
        .map(|waiting| note_of(&waiting.envelope))
        .collect();
    assert_eq!((all.len(), texts.len()), (900, 900));
    assert!(
        all[..450]
            .iter()
            .all(|waiting| matches!(waiting.state, MessageState::Ready { .. }))
    );
    assert_eq!(
        world
            .bus
            .peek(&PARTITIONED.spec(), 500)
            .await
            .unwrap()
            .len(),
        500
    );
    for id in last {
        assert_eq!(
            world
                .bus
                .message(&PARTITIONED.spec(), id)
                .await
                .unwrap()
                .map(|found| found.envelope.id),
            Some(id)
        );
    }
    assert_eq!(
        world
            .requeue(&PARTITIONED, MessageSelector::One(last[1]))
            .await,
        1
    );
    assert_eq!(world.depth(&PARTITIONED).await, (451, 0, 449, 0));
    assert_eq!(world.requeue(&PARTITIONED, MessageSelector::All).await, 449);
    assert_eq!(world.depth(&PARTITIONED).await, (900, 0, 0, 0));
    let held = world.reserve_up_to(&PARTITIONED, 5).await;
    assert_eq!(held.len(), 5);
    assert_eq!(
        world.drop_waiting(&PARTITIONED, MessageSelector::All).await,
        895
    );
    assert_eq!(world.depth(&PARTITIONED).await, (0, 5, 0, 0));
}
