//! The handler of push messages.
//!
//! A message has one push, and its changesets are processed concurrently. The message is done when the ping of each
//! changeset was accepted. After a crash the whole push is processed again; pings that were sent are sent again under the
//! same id, and the ingestion drops them.

use async_trait::async_trait;
use bus::{Cause, Context, Handler, Outcome, Retry, Retryable};
use futures::{StreamExt, stream};
use observe::statsd::StatsD;
use pulse::PulseMessage;
use serde::Deserialize;
use serde_json::Value;
use tracing::{debug, info, warn};
use url::Url;

use crate::{Node, Repository, Telemetry, TelemetryError, http::decode};

/// The type of messages about pushes.
const CHANGEGROUP: &str = "changegroup.1";
/// The number of changesets of a push that are processed concurrently.
const CONCURRENCY: usize = 8;

/// Handles messages of `exchange/hgpushes/v2`: sends the ping of each pushed changeset.
pub struct PushHandler {
    telemetry: Telemetry,
    server: Url,
    statsd: Option<StatsD>,
}

impl PushHandler {
    /// Handles pushes to the repositories of `server` (only its scheme, host and port matter). A message that names another
    /// server is rejected: a publisher must not choose the server that receives our requests.
    pub fn new(telemetry: Telemetry, server: Url) -> Self {
        Self {
            telemetry,
            server,
            statsd: None,
        }
    }

    /// Counts the changesets of a push when it is done or given up (`job.items`), and reports the duration of messages from
    /// the bus (`job.time`).
    pub fn with_statsd(self, statsd: StatsD) -> Self {
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
    /// Its form depends on the type.
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Changegroup {
    repo_url: Repository,
    pushlog_pushes: Vec<Push>,
}

#[derive(Deserialize)]
struct Push {
    pushid: u64,
    push_json_url: Url,
}

fn malformed(message: &PulseMessage, problem: String) -> TelemetryError {
    TelemetryError::MalformedMessage {
        exchange: message.routing.exchange.clone(),
        key: message.routing.key.clone(),
        problem,
    }
}

impl PushHandler {
    /// The push of a message. `None` for a message without exactly one push.
    fn push_in(
        &self,
        message: &PulseMessage,
    ) -> Result<Option<(Repository, Push)>, TelemetryError> {
        let malformed = |problem| malformed(message, problem);
        let mut json = serde_json::Deserializer::from_slice(&message.body);
        let Body { payload } = decode(&mut json).map_err(malformed)?;
        json.end().map_err(|error| malformed(error.to_string()))?;
        if payload.r#type != CHANGEGROUP {
            debug!(
                r#type = payload.r#type,
                "ignoring a message that is not about a push"
            );
            return Ok(None);
        }
        let Changegroup {
            repo_url: repository,
            mut pushlog_pushes,
        } = decode(payload.data).map_err(|problem| malformed(format!("payload.data.{problem}")))?;
        if repository.url().origin() != self.server.origin() {
            return Err(TelemetryError::ForeignUrl {
                url: repository.to_string(),
                allowed: self.server.origin().ascii_serialization(),
            });
        }
        match pushlog_pushes.len() {
            0 => debug!(%repository, "ignoring a message without a push"),
            1 => return Ok(pushlog_pushes.pop().map(|push| (repository, push))),
            pushes => {
                warn!(%repository, pushes, "ignoring a message with {pushes} pushes (expected exactly one)");
            }
        }
        Ok(None)
    }

    async fn process_changeset(
        &self,
        repository: &Repository,
        node: &Node,
    ) -> Result<(), TelemetryError> {
        let ping = self.telemetry.ping_for(repository, node.as_str()).await?;
        self.telemetry.send(&ping).await?;
        let sent = self.telemetry.sends();
        debug!(%repository, %node, system = ?ping.review_system_used, sent, "made the ping of a changeset");
        Ok(())
    }

    fn count(&self, changesets: usize) {
        if let Some(statsd) = &self.statsd {
            statsd.count("job.items", changesets);
        }
    }

    /// Counts the changesets of a push that is given up because of `failure`. If they were never listed, there are none.
    pub fn count_given_up(&self, failure: &TelemetryError) {
        if let TelemetryError::IncompletePush { changesets, .. } = failure {
            self.count(*changesets);
        }
    }

    /// Processes a message. `Ok` means that the ping of each of its changesets was accepted.
    pub async fn process(&self, message: &PulseMessage) -> Result<(), TelemetryError> {
        let Some((repository, push)) = self.push_in(message)? else {
            return Ok(());
        };
        if !repository.contains(&push.push_json_url) {
            let problem =
                format!("payload.data.pushlog_pushes[0].push_json_url: is not below {repository}");
            return Err(malformed(message, problem));
        }
        let nodes = self
            .telemetry
            .hgweb()
            .push(&repository, push.pushid, &push.push_json_url)
            .await?;
        let push = push.pushid;
        let changesets = nodes.len();
        let results = self.process_changesets(&repository, nodes).await;
        let Some((node, source)) = results.decisive else {
            self.count(changesets);
            match self.telemetry.sends() {
                true => info!(%repository, push, changesets, "sent the pings of a push"),
                false => {
                    info!(%repository, push, changesets, "printed the pings of a push, sent none");
                }
            }
            return Ok(());
        };
        Err(TelemetryError::IncompletePush {
            push,
            repository: repository.to_string(),
            changesets,
            failed: results.failed,
            others_succeed: results.succeeded > 0 && results.outages < CONCURRENCY,
            node,
            source: Box::new(source),
        })
    }

    async fn process_changesets(&self, repository: &Repository, nodes: Vec<Node>) -> Results {
        let mut pending = stream::iter(nodes)
            .map(|node| async move {
                self.process_changeset(repository, &node)
                    .await
                    .map_err(|error| (node, error))
            })
            .buffer_unordered(CONCURRENCY);
        let mut results = Results::default();
        while let Some(result) = pending.next().await {
            results.add(result);
            // A server is away, and the other changesets would find that out one by one. A server that fails at a single
            // changeset does not keep the others from their pings.
            if results.outages == CONCURRENCY {
                break;
            }
        }
        results
    }
}

#[async_trait]
impl Handler<PulseMessage> for PushHandler {
    type Error = TelemetryError;

    async fn handle(&self, message: PulseMessage, cx: &Context) -> Result<Outcome, TelemetryError> {
        let begun = cx.clock().now();
        let result = self.process(&message).await;
        if let Some(statsd) = &self.statsd {
            let duration = cx.clock().now().duration_since(begun).unsigned_abs();
            statsd.time("job.time", duration);
        }
        result?;
        Ok(Outcome::Done)
    }

    async fn on_dead_letter(
        &self,
        _message: PulseMessage,
        cause: Cause<'_, TelemetryError>,
        _cx: &Context,
    ) -> Result<(), TelemetryError> {
        if let Some(failure) = cause.error() {
            self.count_given_up(failure);
        }
        Ok(())
    }
}

/// The results of a push's changesets.
#[derive(Default)]
struct Results {
    succeeded: usize,
    failed: usize,
    /// The number of failures because a server is away.
    outages: usize,
    /// The first failure with the best prospect.
    decisive: Option<(Node, TelemetryError)>,
}

impl Results {
    fn add(&mut self, result: Result<(), (Node, TelemetryError)>) {
        let Err((node, error)) = result else {
            self.succeeded += 1;
            return;
        };
        self.failed += 1;
        let prospect = Prospect::of(&error);
        self.outages += usize::from(prospect == Prospect::Outage);
        if self
            .decisive
            .as_ref()
            .is_none_or(|(_, known)| prospect > Prospect::of(known))
        {
            self.decisive = Some((node, error));
        }
    }
}

/// The prospect of a failed changeset to get its ping, from the worst to the best. The best one decides about the retry of
/// the push, so that each changeset that can get its ping gets it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Prospect {
    /// No retry helps.
    Hopeless,
    /// Other settings may help.
    Settings,
    /// The changeset may still arrive in its repository.
    Missing,
    Retry,
    Outage,
}

impl Prospect {
    fn of(error: &TelemetryError) -> Self {
        match error.retry() {
            Retry::Never if error.is_final() => Self::Hopeless,
            Retry::Never => Self::Settings,
            Retry::Backoff | Retry::After(_) if error.is_missing_changeset() => Self::Missing,
            Retry::Backoff | Retry::After(_) => Self::Retry,
            Retry::Defer(_) | Retry::Hold(_) => Self::Outage,
        }
    }
}
