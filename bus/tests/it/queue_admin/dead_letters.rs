//! Dead letters: list, show, requeue, drop.

use std::collections::HashSet;

use bus::{DeadLetterPayload, MessageSelector, Settlement};
use runtime::SystemClock;

use crate::{
    on_both,
    world::{NOTES, PARTITIONED, World, note, note_of, text, texts},
};

on_both!(
    dead_letters_are_listed_newest_first_and_found_by_reason,
    dead_letter_shows_its_message,
    ten_thousand_letters_are_listed_requeued_and_dropped,
);

async fn dead_letters_are_listed_newest_first_and_found_by_reason(world: World) {
    let spec = NOTES.spec();
    let mut ids = Vec::new();
    for (text, reason) in [
        ("a", "phabricator is away: 503"),
        ("b", "undecodable"),
        ("c", "mercurial is away"),
    ] {
        ids.push(world.dead_letter(&NOTES, text, reason).await);
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
            .requeue_dead(&NOTES, &[ids[0].clone(), ids[1].clone(), ids[0].clone()])
            .await,
        1
    );
    assert_eq!(listed("", 10).await, [ids[2].clone()]);
    let again = world.reserve(&NOTES).await;
    assert_eq!((text(&again).as_str(), again.attempt), ("a", 1));
    assert_eq!(world.depth(&NOTES).await, (0, 1, 0, 1));
    ids.push(world.dead_letter(&NOTES, "d", "is away").await);
    assert_eq!(
        world
            .requeue_dead(&NOTES, &[ids[3].clone(), ids[2].clone(), ids[3].clone()])
            .await,
        2
    );
    let deliveries = world.reserve_up_to(&NOTES, 10).await;
    assert_eq!(
        texts(&deliveries),
        ["d", "c"],
        "in the order in which they were named"
    );
}

async fn dead_letter_shows_its_message(world: World) {
    let id = world
        .dead_letter(&PARTITIONED, "poison", "it is poison")
        .await;
    assert_eq!(
        world.bus.dead_letter(&NOTES.spec(), &id).await.unwrap(),
        None,
        "it is another queue's"
    );
    let (letter, payload) = world
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
    let DeadLetterPayload::Message(envelope) = payload else {
        panic!("{payload:?}")
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
        let deliveries = world.reserve_up_to(&NOTES, 1000).await;
        let settled = deliveries.iter().enumerate().map(async |(n, delivery)| {
            let reason = if n % 2 == 0 { "even" } else { "odd" };
            let id = delivery.envelope.id;
            let how = Settlement::Dead {
                id,
                reason: reason.to_owned(),
                attempts: 1,
                emit: Vec::new(),
            };
            world.bus.settle(&delivery.lease, &how).await.unwrap();
        });
        futures::future::join_all(settled).await;
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
    assert_eq!(world.drop_waiting(&NOTES, MessageSelector::All).await, 5000);
    assert_eq!(world.depth(&NOTES).await, (0, 0, 0, 0));
}
