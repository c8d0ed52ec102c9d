//! The stream of the messages of an exchange.

use futures::StreamExt;
use pulse::{Topic, tail};
use runtime::{SystemClock, error_chain};

use crate::world::{
    EXCHANGE, TASKS, World, bodies, logged, memory, message, take_bodies, until, until_stored,
};

async fn tail_shows_matching_messages_and_takes_none_from_others(world: &mut World) {
    let bus = memory();
    let listening = world.listen("beside", &bus).ready().await;
    let topics: Vec<Topic> = vec!["#.shown".parse().unwrap(), "*".parse().unwrap()];
    let settings = world.rabbit.settings();
    let mut shown = Box::pin(
        tail(&settings, EXCHANGE, &topics, &SystemClock)
            .await
            .unwrap(),
    );
    let mut others = Box::pin(
        tail(&settings, EXCHANGE, &topics[..1], &SystemClock)
            .await
            .unwrap(),
    );
    for (number, key) in ["a.shown", "a.b", "a", "b.c.shown"].into_iter().enumerate() {
        world
            .rabbit
            .publish(&message(EXCHANGE, key, &format!("all {number}")))
            .await
            .unwrap();
    }
    for expected in ["a.shown", "a", "b.c.shown"] {
        assert_eq!(shown.next().await.unwrap().unwrap().routing.key, expected);
    }
    for expected in ["a.shown", "b.c.shown"] {
        assert_eq!(others.next().await.unwrap().unwrap().routing.key, expected);
    }
    until_stored(&bus, TASKS, 4).await;
    drop(others);
    world.rabbit.kill().unwrap();
    let error = shown.next().await.unwrap().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("broke while trying to take messages from queue/pulseuser/tail"),
        "{}",
        error_chain(&error)
    );
    assert!(shown.next().await.is_none());
    listening.stop().await;
    assert_eq!(take_bodies(&bus).await, bodies("all", 4), "{}", logged());
}

async fn queue_of_tail_ends_with_it(world: &World) {
    let fixed = runtime::ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let queue = {
        use runtime::Clock;
        let same = runtime::ManualClock::new(jiff::Timestamp::UNIX_EPOCH);
        format!("queue/pulseuser/tail-{:016x}", same.random())
    };
    let shown = tail(
        &world.rabbit.settings(),
        EXCHANGE,
        &["#".parse().unwrap()],
        &fixed,
    )
    .await
    .unwrap();
    // It is the user's alone, so even the administrator learns only that it is there.
    let locked = world.rabbit.depth(&queue).await.unwrap_err();
    assert!(
        error_chain(&locked).contains("exclusive"),
        "{}",
        error_chain(&locked)
    );
    drop(shown);
    until("the queue to end", async || {
        matches!(world.rabbit.depth(&queue).await, Ok(None))
    })
    .await;
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn tail_shows_messages_of_exchange() {
    let mut world = World::lend().await;
    missing_exchange_is_an_error(&world).await;
    queue_of_tail_ends_with_it(&world).await;
    tail_shows_matching_messages_and_takes_none_from_others(&mut world).await;
}

async fn missing_exchange_is_an_error(world: &World) {
    let Err(error) = tail(&world.rabbit.settings(), "exchange/nope", &[], &SystemClock).await
    else {
        panic!("there is nothing to look at")
    };
    assert!(
        error
            .to_string()
            .starts_with("cannot find the exchange exchange/nope: correct the name"),
        "{error}"
    );
}
