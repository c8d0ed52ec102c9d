//! Publishing again, on a RabbitMQ with Pulse's permissions.

use std::{sync::Arc, time::Duration};

use bus::{Bus, MemoryBus, Message, Policy, Producer, Queue, QueueAdmin};
use notify::{ChannelError, Channels, Recipients};
use pulse::{Listener, PulseMessage, PulseSettings, Route};
use runtime::{Clock, Service, Shutdown, SystemClock};
use tempfile::TempDir;
use testkit::RabbitServer;

use super::{notification, open_with};

const AGAIN: Queue<PulseMessage> = Queue::new("again", Policy::DEFAULT);

async fn repulse(pulse: &PulseSettings, file: &[(&str, &str)]) -> Channels {
    open_with("repulse", file, &|_| None, Some(pulse))
        .await
        .unwrap()
}

async fn send(channels: &Channels) -> Result<(), ChannelError> {
    let channel = channels.get("repulse").unwrap();
    assert!(!channel.is_read_by_people());
    let one = notification("repulse", Recipients::default());
    let exchange = channel.recipients(&one).pop().unwrap();
    channel.send(&one, &exchange).await
}

/// Listens to `exchange` as another user, and sends until a message has come; that message.
async fn received(rabbit: &RabbitServer, exchange: &str, channels: &Channels) -> PulseMessage {
    let bus: Arc<MemoryBus> = Arc::new(MemoryBus::new(Arc::new(SystemClock)));
    let other = PulseSettings {
        user: "admin".to_owned(),
        ..rabbit.settings()
    };
    // By its further key.
    let topics = vec!["route.index.#".parse().unwrap()];
    let route = Route {
        exchange: exchange.to_owned(),
        topics,
        queue: AGAIN,
    };
    let producer = Producer::new(bus.clone() as Arc<dyn Bus>, Arc::new(SystemClock));
    let (listener, shutdown) = (
        Listener::new(other, "again", vec![route], producer).unwrap(),
        Shutdown::new(),
    );
    let listening = tokio::spawn(Box::new(listener).run(shutdown.clone()));
    loop {
        send(channels).await.unwrap();
        if let Some(came) = bus.peek(&AGAIN.spec(), 1).await.unwrap().pop() {
            shutdown.stop();
            listening.await.unwrap().unwrap();
            return PulseMessage::decode(came.envelope.version, &came.envelope.body).unwrap();
        }
        SystemClock.sleep(Duration::from_millis(50)).await;
    }
}

/// They share a server, which takes seconds to start.
#[tokio::test]
async fn message_is_republished_unchanged() {
    let directory = TempDir::new().unwrap();
    let mut rabbit = RabbitServer::start(directory.path()).await.unwrap();
    let ours = rabbit.settings();
    for (file, exchange) in [
        (&[][..], "exchange/pulseuser/notify"),
        (
            &[("exchange", "exchange/pulseuser/more/again")][..],
            "exchange/pulseuser/more/again",
        ),
    ] {
        let channels = repulse(&ours, file).await;
        // Nobody listens yet, which is not an error.
        send(&channels).await.unwrap();
        let (came, mut expected) = (
            received(&rabbit, exchange, &channels).await,
            notification("", Recipients::default()).pulse,
        );
        expected.routing.exchange = exchange.to_owned();
        assert_eq!(came, expected);
    }

    let wrong = repulse(
        &PulseSettings {
            password: "hunter2".into(),
            ..ours.clone()
        },
        &[],
    )
    .await;
    let error = wrong.get("repulse").unwrap().check().await.unwrap_err();
    assert!(matches!(error, ChannelError::Credentials { .. }), "{error}");
    let right = repulse(&ours, &[]).await;
    let checked = right.get("repulse").unwrap().check().await.unwrap();
    assert!(checked.found.unwrap().contains("lets pulseuser in") && checked.by_hand.is_none());
    let error = send(&wrong).await.unwrap_err();
    assert!(matches!(error, ChannelError::Credentials { .. }), "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );

    let channels = repulse(&ours, &[]).await;
    send(&channels).await.unwrap();
    rabbit.kill().unwrap();
    // Over the connection that just broke it may have been taken; after that nobody is there.
    let error = send(&channels).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChannelError::Unreachable { .. } | ChannelError::Failed { .. }
        ),
        "{error}"
    );
    let error = send(&channels).await.unwrap_err();
    assert!(matches!(error, ChannelError::Unreachable { .. }), "{error}");
    rabbit.restart().await.unwrap();
    send(&channels).await.unwrap();
}

#[tokio::test]
async fn exchange_of_another_user_is_refused() {
    let ours = PulseSettings {
        address: "amqp://localhost".parse().unwrap(),
        vhost: "/".to_owned(),
        user: "pulseuser".to_owned(),
        password: "secret".into(),
        ca: None,
    };
    for exchange in [
        "exchange/other/x",
        "exchange/pulseuser",
        "exchange/pulseuser/",
        "exchange/pulseuser2/x",
        "x",
    ] {
        let error = open_with("repulse", &[("exchange", exchange)], &|_| None, Some(&ours))
            .await
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .contains("notify.repulse.exchange is not an exchange of our own"),
            "{error}"
        );
    }
    let error = open_with("repulse", &[], &|_| None, None)
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains("set that one (pulse, or PULSE_LOGIN"),
        "{error}"
    );
}
