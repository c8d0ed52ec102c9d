//! Partitions: messages of one are delivered in order and one at a time, partitions side by side.

use bus::{Policy, Queue, Reserve, Settlement};

use crate::{
    on_both,
    world::{Note, PARTITIONED, World, done, text, texts},
};

on_both!(
    partition_is_serial_and_partitions_are_parallel,
    partition_without_a_name_is_a_partition,
);

async fn partition_is_serial_and_partitions_are_parallel(world: World) {
    for text in ["a1", "a2", "b1", "a3"] {
        world.send(&PARTITIONED, text).await;
    }
    let mut deliveries = world.reserve_up_to(&PARTITIONED, 10).await;
    deliveries.sort_by_key(text);
    assert_eq!(texts(&deliveries), ["a1", "b1"], "one of each partition");

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

    for delivery in deliveries {
        world.settle(delivery, Settlement::Release).await;
    }
    let mut again: Vec<String> = world
        .reserve_up_to(&PARTITIONED, 10)
        .await
        .iter()
        .map(text)
        .collect();
    again.sort();
    assert_eq!(again, ["a1", "b1"], "what was released goes first");
    assert_eq!(world.depth(&PARTITIONED).await, (2, 2, 0, 0));
}

async fn partition_without_a_name_is_a_partition(world: World) {
    const NAMED_BY_TEXT: Queue<Note> =
        Queue::with_partitions("named-by-text", Policy::DEFAULT, |note| note.text.clone());
    for text in ["", "", "a"] {
        world.send(&NAMED_BY_TEXT, text).await;
    }
    let mut deliveries = world.reserve_up_to(&NAMED_BY_TEXT, 10).await;
    deliveries.sort_by_key(text);
    assert_eq!(texts(&deliveries), ["", "a"], "one of each partition");
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
    world.settle(deliveries.remove(0), done()).await;
    assert_eq!(text(&world.reserve(&NAMED_BY_TEXT).await), "");
    assert_eq!(world.depth(&NAMED_BY_TEXT).await, (0, 2, 0, 0));
}
