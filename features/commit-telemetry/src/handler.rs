//! Pushes, as Pulse tells of them.
//!
//! A push is one message, and its changesets are worked on side by side. The message is done when each of them has its
//! ping accepted. So whatever dies in between, a push is worked on again as a whole; pings that were sent are sent once more
//! under the same id, and the ingestion drops them.

use async_trait::async_trait;
use bus::{Context, Handler, Outcome, Retry, Retryable};
use futures::{StreamExt, stream};
use observe::statsd::StatsD;
use pulse::PulseMessage;
use serde::Deserialize;
use serde_json::Value;
use tracing::{debug, info, warn};
use url::Url;

use crate::{Node, Repository, Telemetry, TelemetryError, call::located};

/// The messages that tell of pushes.
const CHANGEGROUP: &str = "changegroup.1";
/// How many changesets of a push are worked on at once.
const AT_ONCE: usize = 8;

/// Handles messages of `exchange/hgpushes/v2`: sends the ping of each changeset that was pushed.
pub struct PushHandler {
    telemetry: Telemetry,
    server: Url,
    statsd: Option<StatsD>,
}

impl PushHandler {
    /// Sends pings by `telemetry` for pushes to the repositories of `server` (only scheme, host and port of it count). A
    /// message that names another server is refused: a publisher must not choose the server that gets our requests.
    pub fn new(telemetry: Telemetry, server: Url) -> Self {
        Self {
            telemetry,
            server,
            statsd: None,
        }
    }

    /// Counts the changesets that are begun (`job.items`), and times the messages that the bus brings (`job.time`).
    pub fn counted_by(self, statsd: StatsD) -> Self {
        Self {
            statsd: Some(statsd),
            ..self
        }
    }
}

#[derive(Deserialize)]
struct Body {
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    r#type: String,
    /// What it is depends on the type.
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Changegroup {
    repo_url: Repository,
    pushlog_pushes: Vec<Push>,
}

/// A push, as its message tells.
#[derive(Deserialize)]
struct Push {
    pushid: u64,
    push_json_url: Url,
}

fn useless(message: &PulseMessage, problem: String) -> TelemetryError {
    let PulseMessage { routing, .. } = message;
    TelemetryError::Useless {
        exchange: routing.exchange.clone(),
        key: routing.key.clone(),
        problem,
    }
}

impl PushHandler {
    /// The push that a message tells of. `None`, if it tells of something else.
    fn push_in(
        &self,
        message: &PulseMessage,
    ) -> Result<Option<(Repository, Push)>, TelemetryError> {
        let useless = |problem| useless(message, problem);
        let mut json = serde_json::Deserializer::from_slice(&message.body);
        let Body { payload } = located(&mut json).map_err(useless)?;
        json.end().map_err(|error| useless(error.to_string()))?;
        if payload.r#type != CHANGEGROUP {
            debug!(
                r#type = payload.r#type,
                "ignored, a message of Mercurial that tells of no push"
            );
            return Ok(None);
        }
        let Changegroup {
            repo_url: repository,
            mut pushlog_pushes,
        } = located(payload.data).map_err(|problem| useless(format!("payload.data.{problem}")))?;
        if repository.url().origin() != self.server.origin() {
            let below = self.server.origin().ascii_serialization();
            return Err(TelemetryError::Elsewhere {
                url: repository.to_string(),
                below,
            });
        }
        match pushlog_pushes.len() {
            0 => debug!(%repository, "ignored, a message without a push"),
            1 => return Ok(pushlog_pushes.pop().map(|push| (repository, push))),
            pushes => {
                warn!(%repository, pushes, "ignored, a message with more than one push: no such thing is known")
            }
        }
        Ok(None)
    }

    async fn changeset(&self, repository: &Repository, node: &Node) -> Result<(), TelemetryError> {
        if let Some(statsd) = &self.statsd {
            statsd.count("job.items");
        }
        let ping = self.telemetry.ping_for(repository, node.as_str()).await?;
        self.telemetry.send(&ping).await?;
        let sent = self.telemetry.sends();
        debug!(%repository, %node, system = ?ping.review_system_used, sent, "the ping is made");
        Ok(())
    }

    /// Does what is to be done for a message: when this returns `Ok`, the ping of each changeset that it tells of is accepted.
    pub async fn process(&self, message: &PulseMessage) -> Result<(), TelemetryError> {
        let Some((repository, push)) = self.push_in(message)? else {
            return Ok(());
        };
        if !repository.holds(&push.push_json_url) {
            let problem =
                format!("payload.data.pushlog_pushes[0].push_json_url: is not below {repository}");
            return Err(useless(message, problem));
        }
        let nodes = self
            .telemetry
            .hgweb()
            .push(&repository, push.pushid, &push.push_json_url)
            .await?;
        let (changesets, of) = (nodes.len(), &repository);
        let mut results = stream::iter(nodes)
            .map(|node| async move {
                self.changeset(of, &node)
                    .await
                    .map_err(|error| (node, error))
            })
            .buffer_unordered(AT_ONCE);
        let (mut well, mut failed, mut away) = (0, 0, 0);
        let mut worst: Option<(Node, TelemetryError)> = None;
        while let Some(result) = results.next().await {
            let Err((node, error)) = result else {
                well += 1;
                continue;
            };
            failed += 1;
            let hope = Hope::of(&error);
            if worst
                .as_ref()
                .is_none_or(|(_, known)| hope > Hope::of(known))
            {
                worst = Some((node, error));
            }
            // A server is away, and the others would find that out one by one. But one that fails at a single changeset
            // does not keep the others from their pings.
            away += usize::from(hope == Hope::Later);
            if away == AT_ONCE {
                break;
            }
        }
        let push = push.pushid;
        match worst {
            None => {
                match self.telemetry.sends() {
                    true => info!(%repository, push, changesets, "sent the pings of a push"),
                    false => {
                        info!(%repository, push, changesets, "showed the pings of a push, sent none")
                    }
                }
                Ok(())
            }
            Some((node, source)) => Err(TelemetryError::Push {
                push,
                repository: repository.to_string(),
                changesets,
                failed,
                others_are_well: well > 0 && away < AT_ONCE,
                node,
                source: Box::new(source),
            }),
        }
    }
}

#[async_trait]
impl Handler<PulseMessage> for PushHandler {
    type Error = TelemetryError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, TelemetryError> {
        let begun = cx.clock().now();
        let outcome = self.process(&message).await;
        if let Some(statsd) = &self.statsd {
            statsd.time(
                "job.time",
                cx.clock().now().duration_since(begun).unsigned_abs(),
            );
        }
        outcome?;
        Ok(Outcome::Done)
    }
}

/// What can still be hoped for a changeset that failed. The push takes the failure with the most hope, so that no changeset
/// that could get its ping goes without.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Hope {
    /// Nothing helps.
    Never,
    /// Another setting may help.
    Settings,
    /// Its repository may learn of it.
    Known,
    Again,
    Later,
}

impl Hope {
    fn of(error: &TelemetryError) -> Self {
        match error.retry() {
            Retry::Never if error.is_final() => Self::Never,
            Retry::Never => Self::Settings,
            Retry::Backoff | Retry::After(_) if error.is_missing() => Self::Known,
            Retry::Backoff | Retry::After(_) => Self::Again,
            Retry::Defer(_) | Retry::Hold(_) => Self::Later,
        }
    }
}
