//! A fake Taskcluster, its clients, and a clock on which they do not wait.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Bus, Envelope, Message, Producer, Queue};
use jiff::Timestamp;
use runtime::{Clock, ManualClock};
use taskcluster::{Credentials, Taskcluster};
use testkit::taskcluster::FakeTaskcluster;

/// When the responses of Taskcluster were recorded.
pub(crate) const NOW: &str = "2026-11-21T02:48:05.000Z";

/// A clock that is moved by hand, and on which the waits within a call end at once.
#[derive(Debug)]
pub(crate) struct Hurried(pub(crate) Arc<ManualClock>);

impl Hurried {
    pub(crate) fn new(now: &str) -> Arc<Self> {
        Arc::new(Self(Arc::new(ManualClock::new(now.parse().unwrap()))))
    }
}

#[async_trait]
impl Clock for Hurried {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    async fn sleep(&self, _: Duration) {}

    fn random(&self) -> u64 {
        self.0.random()
    }
}

pub(crate) struct Stage {
    pub(crate) fake: FakeTaskcluster,
    clock: Arc<Hurried>,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let clock = Hurried::new(NOW);
        Self {
            fake: FakeTaskcluster::start(clock.clone()).await.unwrap(),
            clock,
        }
    }

    /// A client that may do everything.
    pub(crate) fn client(&self) -> Taskcluster {
        self.client_with(self.credentials())
    }

    pub(crate) fn credentials(&self) -> Credentials {
        credentials(&self.fake)
    }

    pub(crate) fn client_with(&self, credentials: Credentials) -> Taskcluster {
        let root = self.fake.root().clone();
        Taskcluster::new(root, Some(credentials), http(), self.clock.clone())
    }
}

/// Credentials that may do everything.
pub(crate) fn credentials(fake: &FakeTaskcluster) -> Credentials {
    client_credentials(fake.credentials())
}

pub(crate) fn client_credentials(shown: testkit::taskcluster::Credentials) -> Credentials {
    Credentials {
        client_id: shown.client_id,
        access_token: shown.access_token,
        certificate: shown.certificate,
    }
}

pub(crate) fn http() -> reqwest::Client {
    http_client::client(Duration::from_secs(20)).unwrap()
}

/// Sends a message without a deduplication key.
pub(crate) async fn send<M: Message>(
    bus: &Arc<dyn Bus>,
    clock: &Arc<ManualClock>,
    queue: &Queue<M>,
    message: &M,
) {
    Producer::new(bus.clone(), clock.clone())
        .send(queue, message)
        .await
        .unwrap();
}

/// The message in an envelope.
pub(crate) fn decoded<M: Message>(envelope: &Envelope) -> M {
    M::decode(envelope.version, &envelope.body).unwrap()
}

/// The reasons of the dead letters of a queue.
pub(crate) async fn dead_reasons<M: Message>(bus: &dyn Bus, queue: &Queue<M>) -> Vec<String> {
    bus.dead(&queue.spec(), "", 100)
        .await
        .unwrap()
        .into_iter()
        .map(|letter| letter.reason)
        .collect()
}
