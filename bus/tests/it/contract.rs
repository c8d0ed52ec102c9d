//! The contract of a backend: reserve, renew, settle.

use std::time::Duration;

use bus::{Lease, Policy, Producer, Queue, SettleRequest, Settlement};

use crate::{
    on_both,
    world::{
        LEASE, NOTES, Note, OUT, PARTITIONED, World, done, is_lost, note, outcome, text, texts,
        written,
    },
};

on_both!(
    message_is_delivered_once_and_gone_when_done,
    order_is_kept_and_released_message_goes_first,
    expired_lease_is_taken_over_and_the_stale_worker_settles_nothing,
    expired_lease_is_valid_until_the_message_is_delivered_again,
    poison_suspect_is_delivered_alone_and_before_newer_messages,
    renewed_lease_is_kept,
    worker_can_lose_a_lease_to_itself,
    lease_that_is_settled_twice_in_one_batch_is_settled_once,
    outputs_and_settlement_are_one_step,
    delayed_message_is_delivered_at_its_time,
    retries_count_attempts_and_deferrals_do_not,
    message_that_returns_without_a_wait_is_ready_behind_the_others,
    dead_letter_is_kept_and_can_be_requeued,
    deduplication_key_is_stored_once_within_its_window,
);

fn request<'a>((lease, how): (&'a Lease, &'a Settlement)) -> SettleRequest<'a> {
    SettleRequest::new(lease, how)
}

async fn message_is_delivered_once_and_gone_when_done(world: World) {
    world.send(&NOTES, "a").await;
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));

    let delivery = world.reserve(&NOTES).await;
    assert_eq!((text(&delivery).as_str(), delivery.attempt), ("a", 1));
    assert!(world.reserve_up_to(&NOTES, 10).await.is_empty());
    assert_eq!(world.depth(&NOTES).await, (0, 1, 0, 0));
    assert_eq!(world.texts(&NOTES).await, ["a"]);

    let lease = delivery.lease.clone();
    world.settle(delivery, done()).await;
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
    assert!(
        is_lost(world.bus.settle(&lease, &done()).await),
        "a second settlement is refused"
    );
}

async fn order_is_kept_and_released_message_goes_first(world: World) {
    for text in ["a", "b", "c"] {
        world.send(&NOTES, text).await;
    }
    let deliveries = world.reserve_up_to(&NOTES, 2).await;
    assert_eq!(texts(&deliveries), ["a", "b"]);
    for delivery in deliveries {
        world.settle(delivery, Settlement::Release).await;
    }
    assert_eq!(world.depth(&NOTES).await, (3, 0, 0, 0));

    let again = world.reserve_in_other(&NOTES, 3).await;
    assert_eq!(texts(&again), ["a", "b", "c"]);
    assert_eq!(
        again
            .iter()
            .map(|delivery| delivery.attempt)
            .collect::<Vec<_>>(),
        [1, 1, 1],
        "no attempt is counted"
    );
}

async fn expired_lease_is_taken_over_and_the_stale_worker_settles_nothing(world: World) {
    world.send(&NOTES, "a").await;
    let stale = world.reserve(&NOTES).await;
    world.pass(LEASE).await;
    let fresh = world.reserve_in_other(&NOTES, 1).await.pop().unwrap();
    assert_eq!((text(&fresh).as_str(), fresh.attempt), ("a", 2));

    assert!(is_lost(world.bus.extend(&stale.lease).await));
    let emit = vec![world.packed(&OUT, "from the stale worker")];
    assert!(is_lost(
        world
            .bus
            .settle(&stale.lease, &Settlement::Done { emit })
            .await
    ));
    assert_eq!(world.depth(&OUT).await, (0, 0, 0, 0));
    for how in [
        Settlement::Release,
        Settlement::Retry {
            after: Duration::ZERO,
        },
        Settlement::Dead {
            id: stale.envelope.id,
            reason: String::new(),
            attempts: 1,
            emit: Vec::new(),
        },
    ] {
        assert!(
            is_lost(world.bus.settle(&stale.lease, &how).await),
            "{how:?}"
        );
    }
    world.other.settle(&fresh.lease, &done()).await.unwrap();
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
}

async fn expired_lease_is_valid_until_the_message_is_delivered_again(world: World) {
    for text in ["a", "b", "c"] {
        world.send(&NOTES, text).await;
    }
    let held = world.reserve_up_to(&NOTES, 3).await;
    world.pass(LEASE).await;
    let deliveries = world.reserve_in_other(&NOTES, 1).await;
    assert_eq!(texts(&deliveries), ["a"]);
    world.bus.set_paused(&NOTES.spec(), true).await.unwrap();
    assert!(world.reserve_in_other(&NOTES, 1).await.is_empty());
    assert_eq!(world.depth(&NOTES).await, (0, 3, 0, 0));
    assert!(is_lost(world.bus.extend(&held[0].lease).await));
    world.bus.extend(&held[1].lease).await.unwrap();
    world.bus.settle(&held[2].lease, &done()).await.unwrap();
}

async fn poison_suspect_is_delivered_alone_and_before_newer_messages(world: World) {
    for text in ["a", "suspect", "new"] {
        world.send(&NOTES, text).await;
    }
    let first = world.reserve(&NOTES).await;
    world.reserve(&NOTES).await;
    world.settle(first, Settlement::Release).await;
    world.pass(LEASE).await;
    let again = world.reserve_up_to(&NOTES, 2).await;
    assert_eq!(
        again
            .iter()
            .map(|delivery| delivery.unsettled_deliveries)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    world.pass(LEASE).await;
    for expected in [&["a"][..], &["suspect"], &["new"]] {
        let deliveries = world.reserve_up_to(&NOTES, 10).await;
        assert_eq!(texts(&deliveries), expected);
    }
}

async fn renewed_lease_is_kept(world: World) {
    world.send(&NOTES, "a").await;
    let delivery = world.reserve(&NOTES).await;
    for _ in 0..3 {
        world.pass(LEASE / 2).await;
        world.bus.extend(&delivery.lease).await.unwrap();
        assert!(world.reserve_in_other(&NOTES, 1).await.is_empty());
    }
    world.settle(delivery, done()).await;
}

async fn worker_can_lose_a_lease_to_itself(world: World) {
    world.send(&NOTES, "a").await;
    let stale = world.reserve(&NOTES).await;
    world.pass(LEASE).await;
    let fresh = world.reserve(&NOTES).await;
    assert!(is_lost(world.bus.settle(&stale.lease, &done()).await));
    world.settle(fresh, Settlement::Release).await;
    assert!(
        is_lost(world.bus.settle(&stale.lease, &done()).await),
        "a release does not revive it"
    );
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
}

async fn lease_that_is_settled_twice_in_one_batch_is_settled_once(world: World) {
    world.send(&NOTES, "a").await;
    world.send(&NOTES, "b").await;
    world.send(&NOTES, "c").await;
    let deliveries = world.reserve_up_to(&NOTES, 3).await;
    let [a, b, c] = [
        &deliveries[0].lease,
        &deliveries[1].lease,
        &deliveries[2].lease,
    ];
    let retry = Settlement::Retry {
        after: Duration::ZERO,
    };
    let results = world
        .bus
        .settle_all(&[(a, &done()), (a, &retry), (b, &done()), (b, &retry)].map(request))
        .await
        .unwrap();
    assert_eq!(written(results), [true, false, true, false]);
    let emit = Settlement::Done {
        emit: vec![world.packed(&OUT, "c")],
    };
    let results = world
        .bus
        .settle_all(&[(c, &emit), (c, &done())].map(request))
        .await
        .unwrap();
    assert_eq!(written(results), [true, false]);
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
}

async fn outputs_and_settlement_are_one_step(world: World) {
    world.send(&NOTES, "in").await;
    let delivery = world.reserve(&NOTES).await;
    let emit = vec![
        world.packed(&OUT, "now"),
        world.packed_after(&OUT, "later", Duration::from_secs(60)),
        world.packed(&PARTITIONED, "partition"),
    ];
    world.settle(delivery, Settlement::Done { emit }).await;
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
    assert_eq!(world.depth(&OUT).await, (1, 0, 1, 0));
    assert_eq!(world.texts(&PARTITIONED).await, ["partition"]);
}

async fn delayed_message_is_delivered_at_its_time(world: World) {
    let delay = Duration::from_millis(400);
    world
        .bus
        .push(vec![
            world.packed_after(&NOTES, "later", delay),
            world.packed_after(&PARTITIONED, "partition", delay),
        ])
        .await
        .unwrap();
    world.send(&NOTES, "now").await;
    let deliveries = world.reserve_up_to(&NOTES, 10).await;
    assert_eq!(texts(&deliveries), ["now"]);
    assert_eq!(world.depth(&NOTES).await, (0, 1, 1, 0));
    world.pass(delay).await;
    assert_eq!(text(&world.reserve(&NOTES).await), "later");
    assert_eq!(text(&world.reserve(&PARTITIONED).await), "partition");
}

async fn retries_count_attempts_and_deferrals_do_not(world: World) {
    world.send(&NOTES, "a").await;
    let soon = Duration::from_millis(50);
    let mut attempts = Vec::new();
    for how in [
        Settlement::Retry { after: soon },
        Settlement::Defer { after: soon },
        Settlement::Retry { after: soon },
        Settlement::Release,
        Settlement::Defer { after: soon },
    ] {
        let delivery = world.reserve(&NOTES).await;
        attempts.push(delivery.attempt);
        world.settle(delivery, how).await;
        world.pass(soon).await;
    }
    attempts.push(world.reserve(&NOTES).await.attempt);
    assert_eq!(attempts, [1, 2, 2, 3, 3, 3]);
}

async fn message_that_returns_without_a_wait_is_ready_behind_the_others(world: World) {
    for how in [
        Settlement::Retry {
            after: Duration::ZERO,
        },
        Settlement::Defer {
            after: Duration::ZERO,
        },
    ] {
        for queue in [NOTES, PARTITIONED] {
            world.send(&queue, "a1").await;
            world.send(&queue, "a2").await;
            let delivery = world.reserve(&queue).await;
            world.bus.settle(&delivery.lease, &how).await.unwrap();
            assert_eq!(world.depth(&queue).await, (2, 0, 0, 0));
            world.send(&queue, "a3").await;
            for expected in ["a2", "a1", "a3"] {
                let delivery = world.reserve(&queue).await;
                assert_eq!(text(&delivery), expected);
                world.settle(delivery, done()).await;
            }
        }
    }
}

async fn dead_letter_is_kept_and_can_be_requeued(world: World) {
    world.send(&NOTES, "poison").await;
    let delivery = world.reserve(&NOTES).await;
    let id = delivery.envelope.id;
    let emit = vec![world.packed(&OUT, "dead-letter output")];
    let reason = "it did not work".to_owned();
    world
        .settle(
            delivery,
            Settlement::Dead {
                id,
                reason,
                attempts: 1,
                emit,
            },
        )
        .await;
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 1));
    assert_eq!(world.texts(&OUT).await, ["dead-letter output"]);

    let letters = world.bus.dead(&NOTES.spec(), "", 10).await.unwrap();
    assert_eq!(
        (letters[0].reason.as_str(), letters[0].attempts),
        ("it did not work", 1)
    );
    assert_eq!(letters[0].id, id.to_string());
    assert_eq!(
        world
            .requeue_dead(&NOTES, &["no such letter".to_owned()])
            .await,
        0
    );
    assert_eq!(
        world.requeue_dead(&NOTES, &[letters[0].id.clone()]).await,
        1
    );
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
    let again = world.reserve(&NOTES).await;
    assert_eq!(
        (text(&again).as_str(), again.attempt, again.envelope.id),
        ("poison", 1, id)
    );
}

async fn deduplication_key_is_stored_once_within_its_window(world: World) {
    const KEYED: Queue<Note> = Queue::new(
        "keyed",
        Policy {
            dedup_window: Duration::from_millis(400),
            ..Policy::DEFAULT
        },
    );
    let producer = world.producer();
    let send = |key: &'static str| {
        let producer: Producer = producer.clone();
        async move {
            producer
                .send_deduplicated(&KEYED, &note("a"), key, Vec::new())
                .await
                .unwrap()
        }
    };
    assert_eq!(send("k").await, outcome(1, 0));
    assert_eq!(send("k").await, outcome(0, 1));
    assert_eq!(send("other").await, outcome(1, 0));
    let delivery = world.reserve(&KEYED).await;
    world.settle(delivery, done()).await;
    assert_eq!(
        send("k").await,
        outcome(0, 1),
        "also when it is done already"
    );
    world.pass(Duration::from_millis(400)).await;
    assert_eq!(send("k").await, outcome(1, 0));
}
