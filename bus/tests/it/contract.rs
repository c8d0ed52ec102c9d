//! The contract of a backend: reserve, extend, settle.

use std::{sync::Arc, time::Duration};

use bus::{
    Bound, BusError, EnqueueOutcome, Lease, Outgoing, Policy, Producer, Queue, Reserve,
    SettleRequest, Settlement,
};

use crate::{
    on_both,
    world::{LEASE, NOTES, Note, OUT, PARTITIONED, World, note, text, written},
};

on_both!(
    what_is_sent_is_taken_once_and_gone_when_done,
    order_is_kept_and_a_released_message_goes_first,
    an_expired_lease_is_taken_over_and_the_stale_worker_is_not_heard,
    an_expired_lease_holds_until_somebody_takes_the_message,
    a_suspect_goes_alone_and_before_what_came_after_it,
    an_extended_lease_is_kept,
    the_same_worker_may_lose_its_own_lease,
    a_lease_that_is_settled_twice_in_one_batch_is_settled_once,
    outputs_and_acknowledgement_are_one_step,
    a_delayed_message_comes_at_its_time,
    retries_count_attempts_and_deferrals_do_not,
    what_comes_back_without_a_wait_is_ready_behind_what_was,
    a_dead_letter_is_kept_and_can_be_requeued,
    a_key_is_stored_once_within_its_window,
    a_bound_refuses_pushes_but_not_outputs,
    bound_in_bytes_refuses_new_messages_and_knows_those_that_it_has,
    large_messages_are_measured_from_the_first_on,
    partitions_are_taken_one_by_one_and_side_by_side,
    a_partition_without_a_name_is_a_partition,
    a_waiting_reservation_wakes_for_a_message_and_for_an_interrupt,
    a_waiting_reservation_wakes_for_a_release_and_for_an_expired_lease,
);

async fn settle(world: &World, leased: bus::Delivery, how: Settlement) {
    world.bus.settle(&leased.lease, &how).await.unwrap();
}

fn done() -> Settlement {
    Settlement::Done { emit: Vec::new() }
}

fn ending<'a>((lease, how): (&'a Lease, &'a Settlement)) -> SettleRequest<'a> {
    SettleRequest::new(lease, how)
}

fn is_lost(result: Result<(), BusError>) -> bool {
    matches!(result, Err(BusError::LeaseLost { .. }))
}

fn packed(world: &World, queue: &Queue<Note>, text: &str, after: Duration) -> Outgoing {
    Outgoing {
        after,
        ..queue.pack(&note(text), world.clock.as_ref()).unwrap()
    }
}

async fn what_is_sent_is_taken_once_and_gone_when_done(world: World) {
    world.send(&NOTES, "a").await;
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));

    let leased = world.take(&NOTES).await;
    assert_eq!((text(&leased).as_str(), leased.attempt), ("a", 1));
    assert!(world.take_all(&NOTES, 10).await.is_empty());
    assert_eq!(world.depth(&NOTES).await, (0, 1, 0, 0));
    assert_eq!(world.texts(&NOTES).await, ["a"]);

    let lease = leased.lease.clone();
    settle(&world, leased, done()).await;
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
    assert!(
        is_lost(world.bus.settle(&lease, &done()).await),
        "a second settlement is refused"
    );
}

async fn order_is_kept_and_a_released_message_goes_first(world: World) {
    for text in ["a", "b", "c"] {
        world.send(&NOTES, text).await;
    }
    let taken = world.take_all(&NOTES, 2).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    for leased in taken {
        settle(&world, leased, Settlement::Release).await;
    }
    assert_eq!(world.depth(&NOTES).await, (3, 0, 0, 0));

    let again = world
        .other
        .reserve(&NOTES.spec(), Reserve::now(3))
        .await
        .unwrap();
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(
        again
            .iter()
            .map(|leased| leased.attempt)
            .collect::<Vec<_>>(),
        [1, 1, 1],
        "no attempt is counted"
    );
}

async fn an_expired_lease_is_taken_over_and_the_stale_worker_is_not_heard(world: World) {
    world.send(&NOTES, "a").await;
    let stale = world.take(&NOTES).await;
    world.pass(LEASE).await;
    let fresh = world
        .other
        .reserve(&NOTES.spec(), Reserve::now(1))
        .await
        .unwrap()
        .pop()
        .unwrap();
    assert_eq!((text(&fresh).as_str(), fresh.attempt), ("a", 2));

    assert!(is_lost(world.bus.extend(&stale.lease).await));
    let emit = vec![packed(
        &world,
        &OUT,
        "from the stale worker",
        Duration::ZERO,
    )];
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

async fn an_expired_lease_holds_until_somebody_takes_the_message(world: World) {
    for text in ["a", "b", "c"] {
        world.send(&NOTES, text).await;
    }
    let held = world.take_all(&NOTES, 3).await;
    world.pass(LEASE).await;
    let taken = world
        .other
        .reserve(&NOTES.spec(), Reserve::now(1))
        .await
        .unwrap();
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["a"]);
    world.bus.set_paused(&NOTES.spec(), true).await.unwrap();
    assert!(
        world
            .other
            .reserve(&NOTES.spec(), Reserve::now(1))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(world.depth(&NOTES).await, (0, 3, 0, 0));
    assert!(is_lost(world.bus.extend(&held[0].lease).await));
    world.bus.extend(&held[1].lease).await.unwrap();
    world.bus.settle(&held[2].lease, &done()).await.unwrap();
}

async fn a_suspect_goes_alone_and_before_what_came_after_it(world: World) {
    for text in ["a", "suspect", "new"] {
        world.send(&NOTES, text).await;
    }
    let first = world.take(&NOTES).await;
    world.take(&NOTES).await;
    settle(&world, first, Settlement::Release).await;
    world.pass(LEASE).await;
    let again = world.take_all(&NOTES, 2).await;
    assert_eq!(
        again
            .iter()
            .map(|leased| leased.unsettled_deliveries)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    world.pass(LEASE).await;
    for expected in [&["a"][..], &["suspect"], &["new"]] {
        let taken = world.take_all(&NOTES, 10).await;
        assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), expected);
    }
}

async fn an_extended_lease_is_kept(world: World) {
    world.send(&NOTES, "a").await;
    let leased = world.take(&NOTES).await;
    for _ in 0..3 {
        world.pass(LEASE / 2).await;
        world.bus.extend(&leased.lease).await.unwrap();
        assert!(
            world
                .other
                .reserve(&NOTES.spec(), Reserve::now(1))
                .await
                .unwrap()
                .is_empty()
        );
    }
    settle(&world, leased, done()).await;
}

async fn the_same_worker_may_lose_its_own_lease(world: World) {
    world.send(&NOTES, "a").await;
    let stale = world.take(&NOTES).await;
    world.pass(LEASE).await;
    let fresh = world.take(&NOTES).await;
    assert!(is_lost(world.bus.settle(&stale.lease, &done()).await));
    settle(&world, fresh, Settlement::Release).await;
    assert!(
        is_lost(world.bus.settle(&stale.lease, &done()).await),
        "a release does not revive it"
    );
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
}

async fn a_lease_that_is_settled_twice_in_one_batch_is_settled_once(world: World) {
    world.send(&NOTES, "a").await;
    world.send(&NOTES, "b").await;
    world.send(&NOTES, "c").await;
    let taken = world.take_all(&NOTES, 3).await;
    let [a, b, c] = [&taken[0].lease, &taken[1].lease, &taken[2].lease];
    let retry = Settlement::Retry {
        after: Duration::ZERO,
    };
    let results = world
        .bus
        .settle_all(&[(a, &done()), (a, &retry), (b, &done()), (b, &retry)].map(ending))
        .await
        .unwrap();
    assert_eq!(written(results), [true, false, true, false]);
    let emit = Settlement::Done {
        emit: vec![packed(&world, &OUT, "c", Duration::ZERO)],
    };
    let results = world
        .bus
        .settle_all(&[(c, &emit), (c, &done())].map(ending))
        .await
        .unwrap();
    assert_eq!(written(results), [true, false]);
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
}

async fn outputs_and_acknowledgement_are_one_step(world: World) {
    world.send(&NOTES, "in").await;
    let leased = world.take(&NOTES).await;
    let emit = vec![
        packed(&world, &OUT, "now", Duration::ZERO),
        packed(&world, &OUT, "later", Duration::from_secs(60)),
        packed(&world, &PARTITIONED, "partition", Duration::ZERO),
    ];
    settle(&world, leased, Settlement::Done { emit }).await;
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
    assert_eq!(world.depth(&OUT).await, (1, 0, 1, 0));
    assert_eq!(world.texts(&PARTITIONED).await, ["partition"]);
}

async fn a_delayed_message_comes_at_its_time(world: World) {
    let delay = Duration::from_millis(400);
    world
        .bus
        .push(vec![
            packed(&world, &NOTES, "later", delay),
            packed(&world, &PARTITIONED, "partition", delay),
        ])
        .await
        .unwrap();
    world.send(&NOTES, "now").await;
    let taken = world.take_all(&NOTES, 10).await;
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), ["now"]);
    assert_eq!(world.depth(&NOTES).await, (0, 1, 1, 0));
    world.pass(delay).await;
    assert_eq!(text(&world.take(&NOTES).await), "later");
    assert_eq!(text(&world.take(&PARTITIONED).await), "partition");
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
        let leased = world.take(&NOTES).await;
        attempts.push(leased.attempt);
        settle(&world, leased, how).await;
        world.pass(soon).await;
    }
    attempts.push(world.take(&NOTES).await.attempt);
    assert_eq!(attempts, [1, 2, 2, 3, 3, 3]);
}

async fn what_comes_back_without_a_wait_is_ready_behind_what_was(world: World) {
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
            let leased = world.take(&queue).await;
            world.bus.settle(&leased.lease, &how).await.unwrap();
            assert_eq!(world.depth(&queue).await, (2, 0, 0, 0));
            world.send(&queue, "a3").await;
            for expected in ["a2", "a1", "a3"] {
                let leased = world.take(&queue).await;
                assert_eq!(text(&leased), expected);
                settle(&world, leased, done()).await;
            }
        }
    }
}

async fn a_dead_letter_is_kept_and_can_be_requeued(world: World) {
    world.send(&NOTES, "poison").await;
    let leased = world.take(&NOTES).await;
    let id = leased.envelope.id;
    let emit = vec![packed(&world, &OUT, "last word", Duration::ZERO)];
    let reason = "it did not work".to_owned();
    settle(
        &world,
        leased,
        Settlement::Dead {
            id,
            reason,
            attempts: 1,
            emit,
        },
    )
    .await;
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 1));
    assert_eq!(world.texts(&OUT).await, ["last word"]);

    let letters = world.bus.dead(&NOTES.spec(), "", 10).await.unwrap();
    assert_eq!(
        (letters[0].reason.as_str(), letters[0].attempts),
        ("it did not work", 1)
    );
    assert_eq!(letters[0].id, id.to_string());
    assert_eq!(
        world
            .bus
            .requeue_dead(&NOTES.spec(), &["no such letter".to_owned()])
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        world
            .bus
            .requeue_dead(&NOTES.spec(), &[letters[0].id.clone()])
            .await
            .unwrap(),
        1
    );
    assert_eq!(world.depth(&NOTES).await, (1, 0, 0, 0));
    let again = world.take(&NOTES).await;
    assert_eq!(
        (text(&again).as_str(), again.attempt, again.envelope.id),
        ("poison", 1, id)
    );
}

async fn a_key_is_stored_once_within_its_window(world: World) {
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
    assert_eq!(
        send("k").await,
        EnqueueOutcome {
            inserted: 1,
            duplicates: 0
        }
    );
    assert_eq!(
        send("k").await,
        EnqueueOutcome {
            inserted: 0,
            duplicates: 1
        }
    );
    assert_eq!(
        send("other").await,
        EnqueueOutcome {
            inserted: 1,
            duplicates: 0
        }
    );
    let leased = world.take(&KEYED).await;
    settle(&world, leased, done()).await;
    assert_eq!(
        send("k").await,
        EnqueueOutcome {
            inserted: 0,
            duplicates: 1
        },
        "also when it is done already"
    );
    world.pass(Duration::from_millis(400)).await;
    assert_eq!(
        send("k").await,
        EnqueueOutcome {
            inserted: 1,
            duplicates: 0
        }
    );
}

async fn bound_in_bytes_refuses_new_messages_and_knows_those_that_it_has(world: World) {
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
        ..packed(&world, &BOUNDED, &"x".repeat(30 << 10), Duration::ZERO)
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
    let leased = world.take(&NOTES).await;
    let emit = vec![packed(&world, &BOUNDED, "output", Duration::ZERO)];
    settle(&world, leased, Settlement::Done { emit }).await;
    for leased in world.take_all(&BOUNDED, 3).await {
        settle(&world, leased, Settlement::Done { emit: Vec::new() }).await;
    }
    world.bus.push(vec![large("new")]).await.unwrap();
}

async fn large_messages_are_measured_from_the_first_on(world: World) {
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

async fn a_bound_refuses_pushes_but_not_outputs(world: World) {
    const BOUNDED: Queue<Note> = Queue::new(
        "bounded",
        Policy {
            max_depth: Some(2),
            ..Policy::DEFAULT
        },
    );
    world.send(&BOUNDED, "a").await;
    let two = vec![
        packed(&world, &BOUNDED, "b", Duration::ZERO),
        packed(&world, &BOUNDED, "c", Duration::ZERO),
    ];
    let refused = world.bus.push(two).await;
    assert!(
        matches!(refused, Err(BusError::Full { .. })),
        "all or none: {refused:?}"
    );
    assert_eq!(world.depth(&BOUNDED).await, (1, 0, 0, 0));
    let once = || Outgoing {
        key: Some("b".to_owned()),
        ..packed(&world, &BOUNDED, "b", Duration::ZERO)
    };
    let stored = world.bus.push(vec![once(), once()]).await.unwrap();
    assert_eq!(
        stored,
        EnqueueOutcome {
            inserted: 1,
            duplicates: 1
        },
        "what repeats itself is counted once"
    );
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
    let leased = world.take(&NOTES).await;
    let emit = vec![packed(&world, &BOUNDED, "output", Duration::ZERO)];
    settle(&world, leased, Settlement::Done { emit }).await;
    assert_eq!(world.depth(&BOUNDED).await, (3, 0, 0, 0));

    for _ in 0..2 {
        let leased = world.take(&BOUNDED).await;
        settle(&world, leased, done()).await;
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

async fn partitions_are_taken_one_by_one_and_side_by_side(world: World) {
    for text in ["a1", "a2", "b1", "a3"] {
        world.send(&PARTITIONED, text).await;
    }
    let mut taken = world.take_all(&PARTITIONED, 10).await;
    taken.sort_by_key(text);
    assert_eq!(
        taken.iter().map(text).collect::<Vec<_>>(),
        ["a1", "b1"],
        "one of each partition"
    );

    let busy = Reserve {
        skip_partitions: vec!["a".to_owned(), "b".to_owned()],
        ..Reserve::now(10)
    };
    assert!(
        world
            .bus
            .reserve(&PARTITIONED.spec(), busy)
            .await
            .unwrap()
            .is_empty()
    );
    let only_a_is_busy = Reserve {
        skip_partitions: vec!["a".to_owned()],
        ..Reserve::now(10)
    };
    assert!(
        world
            .bus
            .reserve(&PARTITIONED.spec(), only_a_is_busy)
            .await
            .unwrap()
            .is_empty()
    );

    for leased in taken {
        settle(&world, leased, Settlement::Release).await;
    }
    let mut again: Vec<String> = world
        .take_all(&PARTITIONED, 10)
        .await
        .iter()
        .map(text)
        .collect();
    again.sort();
    assert_eq!(again, ["a1", "b1"], "what was released goes first");
    assert_eq!(world.depth(&PARTITIONED).await, (2, 2, 0, 0));
}

async fn a_partition_without_a_name_is_a_partition(world: World) {
    const NAMED_BY_TEXT: Queue<Note> =
        Queue::with_partitions("named-by-text", Policy::DEFAULT, |note| note.text.clone());
    for text in ["", "", "a"] {
        world.send(&NAMED_BY_TEXT, text).await;
    }
    let mut taken = world.take_all(&NAMED_BY_TEXT, 10).await;
    taken.sort_by_key(text);
    assert_eq!(
        taken.iter().map(text).collect::<Vec<_>>(),
        ["", "a"],
        "one of each partition"
    );
    let nameless = Reserve {
        skip_partitions: vec![String::new()],
        ..Reserve::now(10)
    };
    assert!(
        world
            .bus
            .reserve(&NAMED_BY_TEXT.spec(), nameless)
            .await
            .unwrap()
            .is_empty()
    );
    settle(&world, taken.remove(0), done()).await;
    assert_eq!(text(&world.take(&NAMED_BY_TEXT).await), "");
    assert_eq!(world.depth(&NAMED_BY_TEXT).await, (0, 2, 0, 0));
}

async fn a_waiting_reservation_wakes_for_a_message_and_for_an_interrupt(world: World) {
    let long = Duration::from_secs(3600);
    for queue in [NOTES, PARTITIONED] {
        let waiting = {
            let bus = Arc::clone(&world.other);
            tokio::spawn(async move {
                bus.reserve(
                    &queue.spec(),
                    Reserve {
                        wait: long,
                        ..Reserve::now(1)
                    },
                )
                .await
                .unwrap()
            })
        };
        world.send(&queue, "a").await;
        assert_eq!(waiting.await.unwrap().len(), 1);
    }
    let delayed = {
        let bus = Arc::clone(&world.other);
        tokio::spawn(async move {
            bus.reserve(
                &OUT.spec(),
                Reserve {
                    wait: long,
                    ..Reserve::now(1)
                },
            )
            .await
            .unwrap()
        })
    };
    world
        .bus
        .push(vec![packed(
            &world,
            &OUT,
            "late",
            Duration::from_millis(100),
        )])
        .await
        .unwrap();
    world
        .until("the delayed message", || async { delayed.is_finished() })
        .await;
    assert_eq!(delayed.await.unwrap().len(), 1);

    let request = Reserve {
        wait: long,
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

async fn a_waiting_reservation_wakes_for_a_release_and_for_an_expired_lease(world: World) {
    world.send(&NOTES, "a").await;
    for release in [true, false] {
        let held = world.take(&NOTES).await;
        let waiting = {
            let bus = Arc::clone(&world.other);
            let request = Reserve {
                wait: Duration::from_secs(3600),
                ..Reserve::now(1)
            };
            tokio::spawn(async move { bus.reserve(&NOTES.spec(), request).await.unwrap() })
        };
        if release {
            settle(&world, held, Settlement::Release).await;
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
