//! A consumer that runs: renewals, partitions side by side, and the end of the process.

use std::collections::HashMap;

use bus::Settlement;
use runtime::{Service, Shutdown};
use tokio::task::JoinHandle;

use super::{ScriptedHandler, WORK};
use crate::{
    on_both,
    world::{LEASE, OUT, PARTITIONED, World},
};

on_both!(
    long_handler_keeps_its_lease,
    stopping_waits_for_messages_in_flight,
    cancelling_releases_messages_in_flight_after_their_handlers_end,
    slow_partition_does_not_delay_another,
    partition_has_a_concurrency_of_its_own,
);

impl World {
    /// Runs a consumer until its handler has begun with a message.
    async fn begin(&self, handler: &ScriptedHandler, text: &str) -> (JoinHandle<()>, Shutdown) {
        let shutdown = Shutdown::new();
        let running = self.run(WORK, handler, &shutdown);
        self.send(&WORK, text).await;
        self.until("the handler to begin", || async { handler.seen(text) == 1 })
            .await;
        (running, shutdown)
    }
}

/// Only a clock that is moved by hand can pass a lease before its renewal.
#[tokio::test]
async fn handler_whose_lease_is_lost_is_cancelled_and_sends_nothing() {
    let world = World::memory().await;
    let handler = ScriptedHandler::default();
    let (running, shutdown) = world.begin(&handler, "wind down").await;
    world.pass(LEASE).await;
    let delivery = world.reserve(&WORK).await;
    world
        .until("the handler to be cancelled", || async {
            !handler.events().is_empty()
        })
        .await;
    assert_eq!(handler.events(), ["children reaped"]);
    world.settle(delivery, Settlement::Release).await;
    shutdown.cancel();
    world
        .until("the consumer to end", || async { running.is_finished() })
        .await;
}

async fn long_handler_keeps_its_lease(world: World) {
    let handler = ScriptedHandler::default();
    let (running, shutdown) = world.begin(&handler, "hold").await;
    for _ in 0..8 {
        world.pass(LEASE / 4).await;
        // The renewal runs in a task of its own; let it.
        tokio::task::yield_now().await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(world.reserve_in_other(&WORK, 1).await.is_empty());
    }
    handler.open();
    world
        .until("the message to be done", || async {
            world.depth(&WORK).await == (0, 0, 0, 0)
        })
        .await;
    assert_eq!(world.texts(&OUT).await, ["hold 1"]);
    shutdown.stop();
    running.await.unwrap();
}

async fn stopping_waits_for_messages_in_flight(world: World) {
    let handler = ScriptedHandler::default();
    let (running, shutdown) = world.begin(&handler, "hold").await;
    shutdown.stop();
    world.send(&WORK, "ok").await;
    handler.open();
    running.await.unwrap();
    assert_eq!(world.texts(&OUT).await, ["hold 1"]);
    assert_eq!(
        world.depth(&WORK).await,
        (1, 0, 0, 0),
        "no new message was reserved"
    );
    assert_eq!(handler.events(), ["closed"]);
}

async fn cancelling_releases_messages_in_flight_after_their_handlers_end(world: World) {
    let handler = ScriptedHandler::default();
    let shutdown = Shutdown::new();
    let running = world.run(WORK, &handler, &shutdown);
    for text in ["wind down", "hold"] {
        world.send(&WORK, text).await;
    }
    world
        .until("both handlers to begin", || async {
            handler.seen("hold") + handler.seen("wind down") == 2
        })
        .await;
    shutdown.cancel();
    world
        .until("the consumer to end", || async { running.is_finished() })
        .await;
    assert_eq!(handler.events(), ["children reaped", "closed"]);
    assert_eq!(world.depth(&WORK).await, (2, 0, 0, 0));
    let again = world.reserve_up_to(&WORK, 2).await;
    assert_eq!(
        again
            .iter()
            .map(|delivery| delivery.attempt)
            .collect::<Vec<_>>(),
        [1, 1]
    );
    assert!(world.texts(&OUT).await.is_empty());
}

async fn slow_partition_does_not_delay_another(world: World) {
    let handler = ScriptedHandler::default();
    let shutdown = Shutdown::new();
    let running = world.run(PARTITIONED, &handler, &shutdown);
    for text in ["h1", "h2", "quick1", "quick2"] {
        world.send(&PARTITIONED, text).await;
    }
    world
        .until("the quick partition to be done", || async {
            handler.seen("quick2") == 1
        })
        .await;
    assert_eq!(
        (handler.seen("h1"), handler.seen("h2")),
        (1, 0),
        "one at a time in a partition"
    );
    handler.open();
    world
        .until("the slow partition to be done", || async {
            world.depth(&PARTITIONED).await == (0, 0, 0, 0)
        })
        .await;
    assert_eq!(handler.seen("h2"), 1);
    shutdown.stop();
    running.await.unwrap();
}

async fn partition_has_a_concurrency_of_its_own(world: World) {
    let handler = ScriptedHandler::default();
    let shutdown = Shutdown::new();
    for text in ["h1", "h2", "h3", "slow1", "slow2"] {
        world.send(&PARTITIONED, text).await;
    }
    let consumer = world
        .consumer(PARTITIONED, &handler)
        .with_partitions(HashMap::from([("h".to_owned(), 2)]));
    let running = tokio::spawn(Box::new(consumer).run(shutdown.clone()));
    world
        .until("two of the wide partition", || async {
            handler.seen("h1") + handler.seen("h2") == 2
        })
        .await;
    world
        .until("one of the other partition", || async {
            handler.seen("slow1") > 0
        })
        .await;
    assert_eq!(handler.seen("h3"), 0, "two at a time in that partition");
    handler.open();
    world
        .until("the wide partition to be done", || async {
            handler.seen("h3") == 1
        })
        .await;
    shutdown.stop();
    running.await.unwrap().unwrap();
}
