//! IRC at the end of the pipeline: from a message of Pulse to a line in a channel.

use std::{sync::Arc, time::Duration};

use bus::{Bus, Consumer, Depth, MemoryBus, Producer, QueueAdmin};
use notify::{Channels, Dispatcher, Identities, Sender, Status, Templates};
use runtime::{Clock, ManualClock, Service, Shutdown, SystemClock};
use serde_json::json;
use taskcluster::Taskcluster;
use testkit::taskcluster::FakeTaskcluster;

use super::irc;
use crate::{
    peers::{irc_client::Reader, ngircd::Ngircd},
    world::{DIGESTS, NOTIFICATIONS, NOW, ROOT, TASKS, credentials, http, message, metadata},
};

const COUNT: usize = 10;

/// A process that dispatches and sends, until shutdown.
fn process(
    bus: &Arc<MemoryBus>,
    client: Taskcluster,
    channels: Channels,
    shutdown: &Shutdown,
) -> tokio::task::JoinHandle<()> {
    let (channels, templates) = (Arc::new(channels), Arc::new(Templates::ours().unwrap()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let root = ROOT.parse().unwrap();
    let dispatcher = Dispatcher::new(
        client,
        root,
        channels.clone(),
        Identities::default(),
        templates.clone(),
        NOTIFICATIONS,
    );
    let sender = Sender::new(channels, templates, NOTIFICATIONS, DIGESTS, 100);
    let dispatcher = Consumer::new(bus.clone(), clock.clone(), TASKS, dispatcher);
    let sender = Consumer::new(bus.clone(), clock, NOTIFICATIONS, sender);
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        let running = (
            Box::new(dispatcher).run(shutdown.clone()),
            Box::new(sender).run(shutdown),
        );
        let (one, other) = tokio::join!(running.0, running.1);
        one.unwrap();
        other.unwrap();
    })
}

#[tokio::test]
async fn shutdown_during_burst_loses_and_repeats_no_line() {
    let server = Ngircd::start().await;
    let mut ann = Reader::join(server.port, "", "ann", &["#ci"]).await;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let fake = FakeTaskcluster::start(clock.clone()).await.unwrap();
    let client = || {
        Taskcluster::new(
            fake.root().clone(),
            Some(credentials(&fake)),
            http(),
            clock.clone(),
        )
    };
    let bus = Arc::new(MemoryBus::new(clock.clone()));
    let producer = Producer::new(bus.clone() as Arc<dyn Bus>, clock.clone());
    for number in 0..COUNT {
        let section =
            json!({ "plugins": ["irc"], "subject": format!("news {number}"), "message": "." });
        let extra = json!({ "notification": { "task-failed": section } });
        let task = fake.add_task(json!({ "metadata": metadata("build"), "extra": extra }));
        producer
            .send(&TASKS, &message(&task, Status::TaskFailed, |_| {}))
            .await
            .unwrap();
    }
    // The JOIN takes the first of four tokens. The clock stands still, so no other token comes.
    let still = Arc::new(ManualClock::new(NOW.parse().unwrap()));
    let channels = irc::channel_by(still, server.port, &[]).await;
    let shutdown = Shutdown::new();
    let running = process(&bus, client(), channels, &shutdown);
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(ann.message().await.1);
    }
    // The lines that wait for a token are cancelled, as at the end of the grace period.
    shutdown.cancel();
    running.await.unwrap();
    told.extend(ann.messages_until(&[":notifier!", " QUIT "]).await);
    assert_eq!(told.len(), 3, "it ended before it was done");

    let (shutdown, channels) = (Shutdown::new(), irc::channel(server.port, &[]).await);
    let running = process(&bus, client(), channels, &shutdown);
    while bus.depth(&NOTIFICATIONS.spec()).await.unwrap() != Depth::default() {
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    shutdown.stop();
    running.await.unwrap();
    told.extend(ann.messages_until(&[":notifier!", " QUIT "]).await);
    told.sort();
    let expected: Vec<_> = (0..COUNT)
        .map(|number| format!("\u{3}04task-failed: news {number} - "))
        .collect();
    assert_eq!(told.len(), COUNT, "{told:#?}");
    assert!(
        told.iter()
            .zip(&expected)
            .all(|(text, begin)| text.starts_with(begin)),
        "{told:#?}"
    );
}
