//! A Taskcluster with a hook, and a bus.

use std::{sync::Arc, time::Duration};

use bus::{
    Backoff, Bus, Consumer, Depth, Handler, MemoryBus, Message, Policy, Queue, Reserve, Settlement,
};
use pulse::{PulseMessage, Routing};
use runtime::ManualClock;
use serde::Deserialize;
use serde_json::{Value, json};
use taskcluster::Credentials;
use triggers::{HookName, HookRunner, HookTask, Trigger};

use crate::stage::{self, NOW, Stage, dead_reasons, decoded};

/// Three attempts, a minute apart; the deduplication window is a day.
pub(crate) const POLICY: Policy = Policy {
    attempts: 3,
    backoff: Backoff {
        first: Duration::from_secs(60),
        factor: 1,
        cap: Duration::from_secs(60),
    },
    ..Policy::DEFAULT
};
pub(crate) const HOOKS: Queue<Trigger> = Queue::new("hooks", POLICY);
pub(crate) const HOOK_TASKS: Queue<HookTask> = Queue::new("hook-tasks", POLICY);

pub(crate) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than the deferral of a failed attempt, and than a claim.
pub(crate) const LATER: Duration = Duration::from_secs(200);

pub(crate) struct World {
    pub(crate) stage: Stage,
    pub(crate) bus: Arc<dyn Bus>,
    /// The clock of the bus and its consumers. The client of Taskcluster has its own.
    pub(crate) clock: Arc<ManualClock>,
}

/// The hook that exists.
pub(crate) fn bot() -> HookName {
    HookName::new("project-releng", "services-production-staticanalysis/bot")
}

pub(crate) fn trigger(what: &str) -> Trigger {
    Trigger::new(bot(), json!({ "ANALYSIS_ID": what }), what)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(|clock| Arc::new(MemoryBus::new(clock))).await
    }

    pub(crate) async fn on(bus: impl FnOnce(Arc<ManualClock>) -> Arc<dyn Bus>) -> Self {
        let stage = Stage::set().await;
        let bot = bot();
        stage.fake.add_hook(
            &bot.group,
            &bot.id,
            Some(json!({ "metadata": metadata("bot") })),
        );
        let clock = Arc::new(ManualClock::new(NOW.parse().unwrap()));
        Self {
            stage,
            bus: bus(clock.clone()),
            clock,
        }
    }

    /// A process that handles `hooks`.
    pub(crate) fn runner(&self) -> Consumer {
        self.runner_with(self.stage.credentials())
    }

    pub(crate) fn runner_with(&self, credentials: Credentials) -> Consumer {
        let client = self.stage.client_with(credentials);
        self.consumer(HOOKS, HookRunner::new(client, &HOOKS, HOOK_TASKS))
    }

    pub(crate) fn consumer<M: Message>(
        &self,
        queue: Queue<M>,
        handler: impl Handler<M>,
    ) -> Consumer {
        Consumer::new(self.bus.clone(), self.clock.clone(), queue, handler)
    }

    /// Sends a message without a deduplication key.
    pub(crate) async fn send<M: Message>(&self, queue: &Queue<M>, message: &M) {
        stage::send(&self.bus, &self.clock, queue, message).await;
    }

    /// Sends one message, and handles it with `handler`.
    pub(crate) async fn handle<M: Message>(
        &self,
        queue: Queue<M>,
        handler: impl Handler<M>,
        message: &M,
    ) {
        self.send(&queue, message).await;
        assert_eq!(self.consumer(queue, handler).step().await.unwrap(), 1);
    }

    pub(crate) async fn depth<M: Message>(&self, queue: &Queue<M>) -> Depth {
        self.bus.depth(&queue.spec()).await.unwrap()
    }

    /// Removes all ready messages of a queue, and returns them.
    pub(crate) async fn take<M: Message>(&self, queue: &Queue<M>) -> Vec<M> {
        let taken = self
            .bus
            .reserve(&queue.spec(), Reserve::now(100))
            .await
            .unwrap();
        for delivery in &taken {
            self.bus
                .settle(&delivery.lease, &Settlement::Done { emit: Vec::new() })
                .await
                .unwrap();
        }
        taken
            .iter()
            .map(|delivery| decoded(&delivery.envelope))
            .collect()
    }

    /// The reasons of the dead letters of a queue.
    pub(crate) async fn dead<M: Message>(&self, queue: &Queue<M>) -> Vec<String> {
        dead_reasons(self.bus.as_ref(), queue).await
    }

    /// How often a hook was triggered.
    pub(crate) fn triggered(&self) -> usize {
        self.stage.fake.triggers().len()
    }
}

/// The metadata of a task with this name.
pub(crate) fn metadata(name: &str) -> Value {
    json!({ "name": name, "description": "a test task", "owner": "dev@example.com", "source": "https://example.com" })
}

/// A recorded message.
#[derive(Deserialize)]
struct Recorded {
    exchange: String,
    #[serde(rename = "routingKey", alias = "routing_key")]
    key: String,
    body: Value,
}

/// The recorded message in `text`, changed by `change`.
pub(crate) fn recorded(text: &str, change: impl FnOnce(&mut Value)) -> PulseMessage {
    let Recorded {
        exchange,
        key,
        mut body,
    } = serde_json::from_str(text).unwrap();
    change(&mut body);
    let routing = Routing {
        exchange,
        key,
        other_routes: Vec::new(),
    };
    PulseMessage {
        routing,
        body: body.to_string().into_bytes().into(),
    }
}
