//! What is published is stored, or there is an error.

use std::sync::Arc;

use bus::{Retry, Retryable};
use pulse::{Publisher, PulseError, PulseMessage, Routing};
use runtime::{SystemClock, error_chain};

use crate::world::{
    EXCHANGE, OTHERS, World, connect, listen, memory, message, queue_name, route, take, until,
    until_stored,
};

const OWN: &str = "exchange/pulseuser/builds";
const FANOUT: &str = "exchange/pulseuser/fanout";

async fn publish_waits_for_confirmation(world: &mut World) {
    let bus = memory();
    let routes = vec![route(OWN, &["cc.#"], OTHERS)];
    let listening = listen(world.rabbit.settings(), "published", routes.clone(), &bus)
        .ready()
        .await;
    listening.stop().await;
    let publisher = Publisher::new(world.rabbit.settings(), Arc::new(SystemClock));
    let routing = Routing {
        exchange: OWN.to_owned(),
        key: "a.b".to_owned(),
        other_routes: vec!["cc.x".to_owned()],
    };
    let sent = PulseMessage {
        routing,
        body: b"{\"a\":1}".to_vec().into(),
    };
    publisher.publish(&sent).await.unwrap();
    // What was confirmed outlives the server.
    world.rabbit.restart().await.unwrap();
    world.until_depth("published", 1).await;
    // And the publisher finds the new one.
    let again = PulseMessage {
        body: b"{\"a\":2}".to_vec().into(),
        ..sent.clone()
    };
    until("it to be published", async || {
        publisher.publish(&again).await.is_ok()
    })
    .await;
    let listening = listen(world.rabbit.settings(), "published", routes, &bus);
    until_stored(&bus, OTHERS, 2).await;
    listening.stop().await;
    let mut came = take(&bus, OTHERS).await;
    came.sort_by(|one, other| one.body.cmp(&other.body));
    assert_eq!(came, [sent, again]);
}

async fn refusal_names_remedy_and_affects_no_other_exchange(world: &mut World) {
    let publisher = Publisher::new(world.rabbit.settings(), Arc::new(SystemClock));
    let own = message(OWN, "a", "{}");
    let (foreign, missing) = (
        message(EXCHANGE, "a", "{}"),
        message("exchange/nope", "a", "{}"),
    );
    let (one, other, third) = tokio::join!(
        publisher.publish(&own),
        publisher.publish(&foreign),
        publisher.publish(&missing)
    );
    one.unwrap();
    let error = other.unwrap_err();
    assert!(matches!(error, PulseError::Forbidden { .. }), "{error}");
    assert_eq!(error.retry(), Retry::Never);
    assert!(
        error
            .to_string()
            .starts_with(&format!("user pulseuser may not publish to {EXCHANGE}: ")),
        "{error}"
    );
    let error = third.unwrap_err();
    assert!(matches!(error, PulseError::Missing { .. }), "{error}");
    assert!(
        error.to_string().contains("no exchange 'exchange/nope'"),
        "{error}"
    );
    publisher.publish(&own).await.unwrap();
    let long = publisher
        .publish(&message(OWN, &"k".repeat(256), "{}"))
        .await
        .unwrap_err();
    assert!(long.to_string().contains("has 256 bytes"), "{long}");
    world.rabbit.kill().unwrap();
    let lost = publisher.publish(&own).await.unwrap_err();
    assert!(
        matches!(lost.retry(), Retry::Defer(_)),
        "{}",
        error_chain(&lost)
    );
    world.rabbit.restart().await.unwrap();
    publisher.publish(&own).await.unwrap();
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn publish_stores_message_or_fails() {
    let mut world = World::lend().await;
    exchange_of_another_kind_is_an_error(&world).await;
    refusal_names_remedy_and_affects_no_other_exchange(&mut world).await;
    publish_waits_for_confirmation(&mut world).await;
}

async fn exchange_of_another_kind_is_an_error(world: &World) {
    let connection = connect(&world.rabbit.settings()).await;
    let channel = connection.create_channel().await.unwrap();
    let (kind, none) = (
        lapin::ExchangeKind::Fanout,
        lapin::types::FieldTable::default(),
    );
    channel
        .exchange_declare(FANOUT.into(), kind, Default::default(), none.clone())
        .await
        .unwrap();
    let publisher = Publisher::new(world.rabbit.settings(), Arc::new(SystemClock));
    let error = publisher
        .publish(&message(FANOUT, "a", "{}"))
        .await
        .unwrap_err();
    assert!(matches!(error, PulseError::Mismatch { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(FANOUT) && text.contains("exists with other properties"),
        "{text}"
    );
    // So is a queue.
    let fleeting = queue_name("fleeting");
    channel
        .queue_declare(fleeting.as_str().into(), Default::default(), none)
        .await
        .unwrap();
    let listening = listen(
        world.rabbit.settings(),
        "fleeting",
        vec![route(EXCHANGE, &["#"], OTHERS)],
        &memory(),
    );
    let fault = listening.fault().await;
    assert!(
        fault.contains("queue/pulseuser/fleeting")
            && fault.contains("exists with other properties"),
        "{fault}"
    );
}
