//! Triggers a hook for each head that is pushed to a repository.

use async_trait::async_trait;
use bus::{Context, Handler, Outcome, Queue};
use pulse::PulseMessage;
use runtime::ServiceError;
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use triggers::{HookError, HookName, Trigger};

use super::{hooks::HOOKS, policies::FROM_PULSE};
use crate::app::{App, queues};

const EXCHANGE: &str = "exchange/hgpushes/v2";

#[derive(Deserialize)]
struct Body {
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    data: Data,
}

/// Messages of other types than a push have no heads.
#[derive(Deserialize)]
struct Data {
    repo_url: String,
    #[serde(default)]
    heads: Vec<String>,
}

/// Handles messages of pushes: triggers a hook once for each head of one repository.
pub struct PushedHeads {
    /// The repository, as messages name it.
    pub repository_url: String,
    /// The hook.
    pub hook: HookName,
    /// The queue of the runner.
    pub hooks: Queue<Trigger>,
}

#[async_trait]
impl Handler<PulseMessage> for PushedHeads {
    type Error = HookError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, HookError> {
        let Data { repo_url, heads } = message.json::<Body>()?.payload.data;
        if repo_url != self.repository_url {
            return Ok(Outcome::Done);
        }
        for head in heads {
            if head.len() != 40 || !head.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(HookError::InvalidMessage {
                    exchange: message.routing.exchange,
                    key: message.routing.key,
                    problem: "a head is not a changeset",
                });
            }
            let payload = json!({"REPOSITORY": repo_url, "REVISION": head});
            Trigger::new(self.hook.clone(), payload, &head).send(&self.hooks, cx)?;
        }
        Ok(Outcome::Done)
    }
}

queues! {
    "pushed heads" in [Worker, All];

    /// Pushes, for the hook of their heads.
    PULSE_HEADS: PulseMessage = "pulse:heads", FROM_PULSE;
}

/// Triggers `hook` for the heads of one repository.
pub(super) fn install(
    app: &mut App,
    repository_url: &str,
    hook: HookName,
) -> Result<(), ServiceError> {
    info!("pushed heads: triggering {hook} for {repository_url}");
    app.route(EXCHANGE, &["#".parse()?], PULSE_HEADS);
    let source = PushedHeads {
        repository_url: repository_url.to_owned(),
        hook,
        hooks: HOOKS,
    };
    app.consumer(PULSE_HEADS, source);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::{Bus, Consumer, MemoryBus};
    use pulse::Routing;
    use runtime::SystemClock;

    use super::*;

    const REPOSITORY: &str = "https://hg.example.com/product";

    fn push(repository: &str, head: &str) -> PulseMessage {
        let data = json!({"repo_url": repository, "heads": [head]});
        let body = json!({"payload": {"type": "changegroup.1", "data": data}});
        let routing = Routing {
            exchange: EXCHANGE.to_owned(),
            key: "product".to_owned(),
            other_routes: Vec::new(),
        };
        PulseMessage {
            routing,
            body: body.to_string().into_bytes().into(),
        }
    }

    #[tokio::test]
    async fn hook_is_triggered_once_for_a_head() {
        let clock = Arc::new(SystemClock);
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(clock.clone()));
        let hook = HookName::new("project-example", "analysis");
        let mut app = App::new(bus.clone(), clock.clone());
        install(&mut app, REPOSITORY, hook.clone()).unwrap();
        let producer = app.producer();
        let services = app.into_services();
        assert_eq!(services[0].name(), FEATURE.queues[0].spec.name);

        let head = "a".repeat(40);
        let pushes = [
            push(REPOSITORY, &head),
            push(REPOSITORY, &head),
            push("https://hg.example.com/other", &"b".repeat(40)),
            push(REPOSITORY, "tip"),
        ];
        for push in &pushes {
            producer.send(&PULSE_HEADS, push).await.unwrap();
        }
        let source = PushedHeads {
            repository_url: REPOSITORY.to_owned(),
            hook,
            hooks: HOOKS,
        };
        let consumer = Consumer::new(bus.clone(), clock, PULSE_HEADS, source);
        assert_eq!(consumer.step().await.unwrap(), pushes.len());
        assert_eq!(bus.depth(&HOOKS.spec()).await.unwrap().ready, 1);
        let dead = bus.dead(&PULSE_HEADS.spec(), "", 10).await.unwrap();
        assert_eq!(dead.len(), 1);
        assert!(dead[0].reason.contains("a head is not a changeset"));
    }
}
