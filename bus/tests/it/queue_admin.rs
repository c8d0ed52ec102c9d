//! What operators see of a backend, and do to it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bus::{
    DeadLetterPayload, Depth, MessageSelector, MessageState, Outgoing, Queue, QueuedMessage,
    Reserve, Settlement,
};
use runtime::SystemClock;
use uuid::Uuid;

use crate::{
    on_both,
    world::{NOTES, Note, OUT, PARTITIONED, World, note, note_of, text},
};

on_both!(
    the_status_counts_and_knows_the_oldest_and_the_rate,
    a_partition_is_counted_and_shown_like_any_other,
    a_peek_shows_everything_in_order_and_changes_nothing,
    a_long_queue_is_shown_and_searched_to_its_end,
    delayed_messages_are_made_ready_one_or_all,
    a_retry_that_is_made_ready_keeps_its_attempts_and_its_partition,
    waiting_messages_are_dropped_but_not_held_ones,
    a_released_message_can_be_dropped_and_its_successors_flow,
    nothing_is_taken_from_a_paused_queue_until_it_is_resumed,
    a_resumed_queue_wakes_whoever_waits,
    dead_letters_are_listed_newest_first_and_found_by_reason,
    a_dead_letter_shows_what_it_holds,
    ten_thousand_letters_are_listed_requeued_and_dropped,
);

const HOUR: Duration = Duration::from_secs(3600);

impl World {
    async fn send_after(&self, queue: &Queue<Note>, text: &str, after: Duration) -> Uuid {
        let packed = Outgoing {
            after,
            ..queue.pack(&note(text), self.clock.as_ref()).unwrap()
        };
        let id = packed.envelope.id;
        self.bus.push(vec![packed]).await.unwrap();
        id
    }

    async fn peek(&self, queue: &Queue<Note>) -> Vec<QueuedMessage> {
        self.bus.peek(&queue.spec(), 100).await.unwrap()
    }

    async fn bury(&self, queue: &Queue<Note>, message: &str, reason: &str) -> String {
        self.send(queue, message).await;
        let leased = self.take(queue).await;
        assert_eq!(text(&leased), message);
        let id = leased.envelope.id;
        let how = Settlement::Dead {
            id,
            reason: reason.to_owned(),
            attempts: 2,
            emit: Vec::new(),
        };
        self.bus.settle(&leased.lease, &how).await.unwrap();
        // DeadLetterFilter are ordered by time.
        self.pass(Duration::from_millis(2)).await;
        id.to_string()
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

async fn the_status_counts_and_knows_the_oldest_and_the_rate(world: World) {
    let spec = NOTES.spec();
    let empty = world.bus.status(&spec).await.unwrap();
    assert_eq!(
        (empty.depth, empty.oldest, empty.paused),
        (Depth::default(), None, false)
    );
    assert_eq!(empty.finished_per_minute, 0.0);

    world.bury(&NOTES, "dead", "poison").await;
    world.send_after(&NOTES, "later", HOUR).await;
    world.send(&NOTES, "held").await;
    let held = world.take(&NOTES).await;
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
    let rate = status.finished_per_minute;
    assert!(
        rate > 0.5 && rate <= 1.0,
        "a dead letter has ended, too: {rate}"
    );

    world
        .bus
        .settle(&held.lease, &Settlement::Done { emit: Vec::new() })
        .await
        .unwrap();
    let status = world.bus.status(&spec).await.unwrap();
    // The server's clock has whole milliseconds.
    let since_sent =
        world.clock.now().duration_since(sent).unsigned_abs() + Duration::from_millis(1);
    assert!(
        status.oldest.unwrap() <= since_sent,
        "now it is the ready one"
    );
    let rate = status.finished_per_minute;
    assert!(
        rate > 1.0 && rate <= 2.0,
        "two in one to two minutes: {rate}"
    );
}

async fn a_partition_is_counted_and_shown_like_any_other(world: World) {
    for text in ["b1", "a1", "a2"] {
        world.send(&PARTITIONED, text).await;
        world.pass(Duration::from_millis(2)).await;
    }
    let taken = world.take_all(&PARTITIONED, 1).await;
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
    assert_eq!(held[0].envelope.id, taken[0].envelope.id);
    assert_eq!(peeked[1].envelope.partition.as_deref(), Some("a"));
}

async fn a_peek_shows_everything_in_order_and_changes_nothing(world: World) {
    let begun = world.clock.now();
    world.send_after(&NOTES, "much later", 2 * HOUR).await;
    world.send_after(&NOTES, "later", HOUR).await;
    for text in ["first", "second", "third"] {
        world.send(&NOTES, text).await;
    }
    let taken = world.take_all(&NOTES, 2).await;
    world
        .bus
        .settle(&taken[1].lease, &Settlement::Release)
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

async fn a_long_queue_is_shown_and_searched_to_its_end(world: World) {
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
            .bus
            .requeue(&PARTITIONED.spec(), MessageSelector::One(last[1]))
            .await
            .unwrap(),
        1
    );
    assert_eq!(world.depth(&PARTITIONED).await, (451, 0, 449, 0));
    assert_eq!(
        world
            .bus
            .requeue(&PARTITIONED.spec(), MessageSelector::All)
            .await
            .unwrap(),
        449
    );
    assert_eq!(world.depth(&PARTITIONED).await, (900, 0, 0, 0));
    let held = world.take_all(&PARTITIONED, 5).await;
    assert_eq!(held.len(), 5);
    assert_eq!(
        world
            .bus
            .drop_waiting(&PARTITIONED.spec(), MessageSelector::All)
            .await
            .unwrap(),
        895
    );
    assert_eq!(world.depth(&PARTITIONED).await, (0, 5, 0, 0));
}

async fn delayed_messages_are_made_ready_one_or_all(world: World) {
    let spec = NOTES.spec();
    let ready = world.send_after(&NOTES, "ready", Duration::ZERO).await;
    let mut ids = Vec::new();
    for text in ["a", "b", "c"] {
        ids.push(world.send_after(&NOTES, text, HOUR).await);
        world.pass(Duration::from_millis(2)).await;
    }
    assert_eq!(
        world
            .bus
            .requeue(&spec, MessageSelector::One(ids[1]))
            .await
            .unwrap(),
        1
    );
    assert_eq!(world.depth(&NOTES).await, (2, 0, 2, 0));
    for not_delayed in [ids[1], ready, Uuid::nil()] {
        assert_eq!(
            world
                .bus
                .requeue(&spec, MessageSelector::One(not_delayed))
                .await
                .unwrap(),
            0
        );
    }
    assert_eq!(
        world
            .bus
            .requeue(&spec, MessageSelector::All)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        world
            .bus
            .requeue(&spec, MessageSelector::All)
            .await
            .unwrap(),
        0
    );
    let taken = world.take_all(&NOTES, 10).await;
    assert_eq!(
        taken.iter().map(text).collect::<Vec<_>>(),
        ["ready", "b", "a", "c"]
    );
}

async fn a_retry_that_is_made_ready_keeps_its_attempts_and_its_partition(world: World) {
    world.send(&PARTITIONED, "a1").await;
    let leased = world.take(&PARTITIONED).await;
    world
        .bus
        .settle(&leased.lease, &Settlement::Retry { after: HOUR })
        .await
        .unwrap();
    assert_eq!(
        shown(&world.peek(&PARTITIONED).await),
        [row("a1", "delayed", 1)]
    );
    assert_eq!(
        world
            .bus
            .requeue(&PARTITIONED.spec(), MessageSelector::All)
            .await
            .unwrap(),
        1
    );
    let again = world.take(&PARTITIONED).await;
    assert_eq!(
        (again.attempt, again.envelope.partition.as_deref()),
        (2, Some("a"))
    );
}

async fn waiting_messages_are_dropped_but_not_held_ones(world: World) {
    let spec = NOTES.spec();
    let held = world.send_after(&NOTES, "held", Duration::ZERO).await;
    let lease = world.take(&NOTES).await.lease;
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
            world
                .bus
                .drop_waiting(&spec, MessageSelector::One(id))
                .await
                .unwrap(),
            dropped
        );
    }
    assert_eq!(world.depth(&NOTES).await, (1, 1, 1, 0));
    assert_eq!(
        world
            .bus
            .drop_waiting(&spec, MessageSelector::All)
            .await
            .unwrap(),
        2
    );
    assert_eq!(world.depth(&NOTES).await, (0, 1, 0, 0));
    world
        .bus
        .settle(&lease, &Settlement::Done { emit: Vec::new() })
        .await
        .unwrap();
}

async fn a_released_message_can_be_dropped_and_its_successors_flow(world: World) {
    world.send(&NOTES, "a").await;
    world.send(&NOTES, "b").await;
    let leased = world.take(&NOTES).await;
    let id = leased.envelope.id;
    world
        .bus
        .settle(&leased.lease, &Settlement::Release)
        .await
        .unwrap();
    assert_eq!(
        world
            .bus
            .drop_waiting(&NOTES.spec(), MessageSelector::One(id))
            .await
            .unwrap(),
        1
    );
    let taken = world.take_all(&NOTES, 10).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["b"]);
}

async fn nothing_is_taken_from_a_paused_queue_until_it_is_resumed(world: World) {
    for queue in [NOTES, PARTITIONED] {
        let spec = queue.spec();
        world.send(&queue, "a").await;
        let held = world.take(&queue).await;
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
        world
            .bus
            .settle(&held.lease, &Settlement::Done { emit: Vec::new() })
            .await
            .unwrap();
        world.send(&OUT, "other queues go on").await;
        assert_eq!(world.take_all(&OUT, 10).await.len(), 1);

        world.bus.set_paused(&spec, false).await.unwrap();
        assert!(!world.bus.status(&spec).await.unwrap().paused);
        let mut taken = world.take_all(&queue, 10).await;
        taken.sort_by_key(text);
        assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["b", "c", "d"]);
    }
}

async fn a_resumed_queue_wakes_whoever_waits(world: World) {
    let spec = NOTES.spec();
    world.bus.set_paused(&spec, true).await.unwrap();
    world.send(&NOTES, "a").await;
    let bus = Arc::clone(&world.other);
    let waiting = tokio::spawn(async move {
        bus.reserve(
            &spec,
            Reserve {
                wait: HOUR,
                ..Reserve::now(1)
            },
        )
        .await
    });
    // It looks, and finds nothing to take.
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    world.bus.set_paused(&spec, false).await.unwrap();
    world
        .until("the message", || async { waiting.is_finished() })
        .await;
    assert_eq!(waiting.await.unwrap().unwrap().len(), 1);
}

async fn dead_letters_are_listed_newest_first_and_found_by_reason(world: World) {
    let spec = NOTES.spec();
    let mut ids = Vec::new();
    for (text, reason) in [
        ("a", "phabricator is away: 503"),
        ("b", "undecodable"),
        ("c", "mercurial is away"),
    ] {
        ids.push(world.bury(&NOTES, text, reason).await);
    }
    let listed = async |reason: &str, max| -> Vec<String> {
        let letters = world.bus.dead(&spec, reason, max).await.unwrap();
        letters.into_iter().map(|letter| letter.id).collect()
    };
    assert_eq!(
        listed("", 10).await,
        [ids[2].clone(), ids[1].clone(), ids[0].clone()]
    );
    assert_eq!(listed("", 1).await, [ids[2].clone()]);
    assert_eq!(
        listed("is away", 10).await,
        [ids[2].clone(), ids[0].clone()]
    );
    assert_eq!(listed("is away", 1).await, [ids[2].clone()]);
    assert!(listed("no such reason", 10).await.is_empty());

    assert_eq!(
        world
            .bus
            .drop_dead(&spec, &[ids[1].clone(), "unknown".to_owned()])
            .await
            .unwrap(),
        1
    );
    assert_eq!(world.bus.dead_letter(&spec, &ids[1]).await.unwrap(), None);
    assert_eq!(
        world
            .bus
            .requeue_dead(&spec, &[ids[0].clone(), ids[1].clone(), ids[0].clone()])
            .await
            .unwrap(),
        1
    );
    assert_eq!(listed("", 10).await, [ids[2].clone()]);
    let again = world.take(&NOTES).await;
    assert_eq!((text(&again).as_str(), again.attempt), ("a", 1));
    assert_eq!(world.depth(&NOTES).await, (0, 1, 0, 1));
    ids.push(world.bury(&NOTES, "d", "is away").await);
    assert_eq!(
        world
            .bus
            .requeue_dead(&spec, &[ids[3].clone(), ids[2].clone(), ids[3].clone()])
            .await
            .unwrap(),
        2
    );
    let taken = world.take_all(&NOTES, 10).await;
    assert_eq!(
        taken.iter().map(text).collect::<Vec<_>>(),
        ["d", "c"],
        "in the order in which they were named"
    );
}

async fn a_dead_letter_shows_what_it_holds(world: World) {
    let id = world.bury(&PARTITIONED, "poison", "it is poison").await;
    assert_eq!(
        world.bus.dead_letter(&NOTES.spec(), &id).await.unwrap(),
        None,
        "it is another queue's"
    );
    let (letter, remains) = world
        .bus
        .dead_letter(&PARTITIONED.spec(), &id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (letter.reason.as_str(), letter.attempts),
        ("it is poison", 2)
    );
    assert_eq!(
        world.bus.dead(&PARTITIONED.spec(), "", 1).await.unwrap(),
        [letter]
    );
    let DeadLetterPayload::Message(envelope) = remains else {
        panic!("{remains:?}")
    };
    assert_eq!(
        (note_of(&envelope).as_str(), envelope.partition.as_deref()),
        ("poison", Some("p"))
    );
    assert_eq!((envelope.id.to_string(), envelope.version), (id, 1));
}

async fn ten_thousand_letters_are_listed_requeued_and_dropped(world: World) {
    let spec = NOTES.spec();
    for _ in 0..10 {
        let packed = (0..1000).map(|n| NOTES.pack(&note(&format!("{n}")), &SystemClock).unwrap());
        world.bus.push(packed.collect()).await.unwrap();
        let taken = world.take_all(&NOTES, 1000).await;
        let buried = taken.iter().enumerate().map(async |(n, leased)| {
            let reason = if n % 2 == 0 { "even" } else { "odd" };
            let id = leased.envelope.id;
            let how = Settlement::Dead {
                id,
                reason: reason.to_owned(),
                attempts: 1,
                emit: Vec::new(),
            };
            world.bus.settle(&leased.lease, &how).await.unwrap();
        });
        futures::future::join_all(buried).await;
    }
    let all = world.bus.dead(&spec, "", usize::MAX).await.unwrap();
    let ids: HashSet<_> = all.iter().map(|letter| &letter.id).collect();
    assert_eq!((all.len(), ids.len()), (10_000, 10_000));
    assert!(
        all.is_sorted_by(|a, b| a.died_at >= b.died_at),
        "the newest first"
    );
    let ids = async |reason| -> Vec<String> {
        let letters = world.bus.dead(&spec, reason, usize::MAX).await.unwrap();
        letters.into_iter().map(|letter| letter.id).collect()
    };
    assert_eq!(
        world
            .bus
            .requeue_dead(&spec, &ids("even").await)
            .await
            .unwrap(),
        5000
    );
    assert_eq!(world.depth(&NOTES).await, (5000, 0, 0, 5000));
    assert_eq!(
        world.bus.drop_dead(&spec, &ids("").await).await.unwrap(),
        5000
    );
    assert_eq!(world.depth(&NOTES).await, (5000, 0, 0, 0));
    assert_eq!(
        world
            .bus
            .drop_waiting(&spec, MessageSelector::All)
            .await
            .unwrap(),
        5000
    );
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
}
