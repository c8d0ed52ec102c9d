//! The bus on Redis (6.2 or newer) or Valkey: streams with consumer groups, so that every process may take from every
//! queue and what a dead process held is taken over.
//!
//! Each operation is one script, and so one atomic step. Waiting is an `XREAD BLOCK` without a group beside it: it
//! takes nothing, so it may be dropped at any time, and it is only a hint; the next script run is the truth. A look at
//! least once a second finds the leases that ran out, which nothing announces.

mod check;
mod connection;
mod operate;
mod scripts;

use std::time::Duration;

use async_trait::async_trait;
use redis::FromRedisValue;

pub use self::connection::RedisOptions;
use self::{connection::Connections, scripts::Scripts};
use crate::{
    Bus, BusError, Clock, Envelope, Lease, Leased, Outgoing, Pushed, QueueSpec, Reserve, Settlement,
    handler::error_chain,
};

/// The longest wait between two looks for leases that ran out.
const LOOK: Duration = Duration::from_secs(1);

/// Queues on Redis, shared by all processes that use the same server and prefix.
pub struct RedisBus {
    connections: Connections,
    scripts: Scripts,
    /// All keys start with it. Its hash tag keeps them in one slot of a cluster.
    prefix: String,
    /// This process, as the owner of what it holds.
    consumer: String,
}

/// An entry as `reserve.lua` returns it: lane, entry, delivery, attempts, envelope.
type Taken = (String, String, u64, u32, Vec<u8>);

impl RedisBus {
    /// A bus on the server that `options` name. Connects when it is first used.
    ///
    /// [`BusError::Unfit`] when the url is none that Redis knows.
    pub fn new(options: &RedisOptions, clock: &dyn Clock) -> Result<Self, BusError> {
        Ok(Self {
            connections: Connections::new(options)?,
            scripts: Scripts::new(),
            prefix: format!("{{{}}}:", options.namespace),
            consumer: clock.new_id().to_string(),
        })
    }

    /// Looks whether the server does for a bus, and returns warnings for what is risky but works.
    ///
    /// [`BusError::Unfit`] when it does not do: too old, or it evicts keys when its memory is full.
    pub async fn check(&self) -> Result<Vec<String>, BusError> {
        let mut connection = self.connections.command("checking the server").await?;
        let info: String =
            redis::cmd("INFO").query_async(&mut connection).await.map_err(BusError::redis("checking the server"))?;
        check::check(&info)
    }

    async fn run<T: FromRedisValue>(
        &self,
        doing: &'static str,
        script: &redis::Script,
        args: impl FnOnce(&mut redis::ScriptInvocation<'_>),
    ) -> Result<T, BusError> {
        let mut connection = self.connections.command(doing).await?;
        let mut invocation = script.key(&self.prefix);
        args(&mut invocation);
        invocation.invoke_async(&mut connection).await.map_err(BusError::redis(doing))
    }

    async fn command<T: FromRedisValue>(&self, doing: &'static str, command: &redis::Cmd) -> Result<T, BusError> {
        let mut connection = self.connections.command(doing).await?;
        command.query_async(&mut connection).await.map_err(BusError::redis(doing))
    }

    fn key(&self, queue: &QueueSpec, part: &str) -> String {
        format!("{}{}:{part}", self.prefix, queue.name)
    }

    /// Makes a lease of a taken entry. Something that is no envelope cannot be handled by anyone: it is buried.
    async fn lease(&self, queue: &QueueSpec, taken: Taken) -> Result<Option<Leased>, BusError> {
        let (lane, entry, delivery, attempts, bytes) = taken;
        let lane = Some(lane).filter(|lane| !lane.is_empty());
        let lease = Lease { queue: queue.name, length: queue.policy.lease, lane, entry, delivery };
        let deliveries = u32::try_from(delivery).unwrap_or(u32::MAX);
        let attempt = attempts.saturating_add(deliveries);
        match rmp_serde::from_slice::<Envelope>(&bytes) {
            Ok(envelope) => Ok(Some(Leased { lease, envelope, attempt, deaths: deliveries.saturating_sub(1) })),
            Err(error) => {
                let id = format!("entry-{}{}", lease.lane.as_deref().unwrap_or_default(), lease.entry);
                tracing::error!(queue = queue.name, id, %error, "not a message of ours, kept as a dead letter");
                let letter = Letter { id, reason: format!("not an envelope: {error}"), attempts: attempt };
                self.settle_as(&lease, "dead", Duration::ZERO, Some(letter), &[]).await?;
                Ok(None)
            }
        }
    }

    async fn settle_as(
        &self,
        lease: &Lease,
        how: &str,
        after: Duration,
        letter: Option<Letter>,
        emit: &[Outgoing],
    ) -> Result<(), BusError> {
        let (id, record) = match letter {
            Some(letter) => (letter.id.clone(), encode(lease.queue, &(letter.reason, letter.attempts))?),
            None => Default::default(),
        };
        let messages = scripts::messages(emit)?;
        let written: bool = self
            .run("settling a message", &self.scripts.settle, |invocation| {
                scripts::lease(invocation, lease, &self.consumer);
                invocation.arg(how).arg(scripts::millis(after)).arg(id).arg(record);
                scripts::append(invocation, messages);
            })
            .await?;
        if written { Ok(()) } else { Err(BusError::LeaseLost { queue: lease.queue }) }
    }

    /// Returns when `queue` may have something to take, or after `wait` at most. Takes nothing.
    async fn wait(&self, queue: &QueueSpec, wait: Duration, seen: (String, String)) -> Result<(), BusError> {
        let mut connection = self.connections.blocking().await?;
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT")
            .arg(1)
            .arg("BLOCK")
            .arg(scripts::millis(wait).max(1))
            .arg("STREAMS")
            .arg(self.key(queue, "ready"))
            .arg(self.key(queue, "hint"))
            .arg(seen.0)
            .arg(seen.1);
        // A server that vanished without a word would be waited for without end. The next script finds out.
        let answer = read.query_async::<redis::Value>(connection.get());
        if let Ok(answer) = tokio::time::timeout(wait + connection::ANSWER, answer).await {
            answer.map_err(BusError::redis("waiting for messages"))?;
            connection.give_back();
        }
        Ok(())
    }
}

struct Letter {
    id: String,
    reason: String,
    attempts: u32,
}

fn encode<T: serde::Serialize>(queue: &'static str, value: &T) -> Result<Vec<u8>, BusError> {
    rmp_serde::to_vec_named(value).map_err(|source| BusError::Encode { queue, source })
}

#[async_trait]
impl Bus for RedisBus {
    async fn push(&self, messages: Vec<Outgoing>) -> Result<Pushed, BusError> {
        let encoded = scripts::messages(&messages)?;
        let answer: redis::Value =
            self.run("storing messages", &self.scripts.push, |invocation| scripts::append(invocation, encoded)).await?;
        if let redis::Value::Array(_) = answer {
            let (stored, repeated) = redis::from_redis_value(answer)
                .map_err(|error| BusError::redis("reading the answer to a push")(error.into()))?;
            return Ok(Pushed { stored, repeated });
        }
        let name: String = redis::from_redis_value(answer)
            .map_err(|error| BusError::redis("reading the answer to a push")(error.into()))?;
        let full = messages.iter().map(|message| message.queue).find(|queue| queue.name == name);
        let (queue, bound) = full.map_or(("?", 0), |queue| (queue.name, queue.policy.bound.unwrap_or(0)));
        Err(BusError::Full { queue, bound })
    }

    async fn reserve(&self, queue: &QueueSpec, request: Reserve) -> Result<Vec<Leased>, BusError> {
        let mut left = request.wait;
        let mut interrupted = false;
        loop {
            let (taken, pause, ready, hint): (Vec<Taken>, i64, String, String) = self
                .run("reserving messages", &self.scripts.reserve, |invocation| {
                    invocation
                        .arg(queue.name)
                        .arg(&self.consumer)
                        .arg(request.max)
                        .arg(scripts::millis(queue.policy.lease))
                        .arg(if queue.lanes { "1" } else { "0" })
                        .arg(&request.skip_lanes);
                })
                .await?;
            let found = !taken.is_empty();
            let mut leased = Vec::with_capacity(taken.len());
            for taken in taken {
                match self.lease(queue, taken).await {
                    Ok(lease) => leased.extend(lease),
                    // The others were taken in the same step and are good; this one comes back with its lease.
                    Err(error) => tracing::warn!(
                        queue = queue.name,
                        error = error_chain(&error),
                        "cannot bury what is no message, trying again later"
                    ),
                }
            }
            if found || left.is_zero() || interrupted {
                return Ok(leased);
            }
            let due = u64::try_from(pause).map_or(LOOK, Duration::from_millis);
            let pause = left.min(LOOK).min(due);
            left = left.saturating_sub(pause);
            tokio::select! {
                waited = self.wait(queue, pause, (ready, hint)) => waited?,
                () = request.interrupt.notified() => interrupted = true,
            }
        }
    }

    async fn extend(&self, lease: &Lease) -> Result<(), BusError> {
        let renewed: bool = self
            .run("renewing a lease", &self.scripts.extend, |invocation| {
                scripts::lease(invocation, lease, &self.consumer);
            })
            .await?;
        if renewed { Ok(()) } else { Err(BusError::LeaseLost { queue: lease.queue }) }
    }

    async fn settle(&self, lease: &Lease, how: &Settlement) -> Result<(), BusError> {
        match how {
            Settlement::Done { emit } => self.settle_as(lease, "done", Duration::ZERO, None, emit).await,
            Settlement::Retry { after } => self.settle_as(lease, "retry", *after, None, &[]).await,
            Settlement::Defer { after } => self.settle_as(lease, "defer", *after, None, &[]).await,
            Settlement::Release => self.settle_as(lease, "release", Duration::ZERO, None, &[]).await,
            Settlement::Dead { id, reason, attempts, emit } => {
                let letter = Letter { id: id.to_string(), reason: reason.clone(), attempts: *attempts };
                self.settle_as(lease, "dead", Duration::ZERO, Some(letter), emit).await
            }
        }
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.command("asking redis for a sign of life", &redis::cmd("PING")).await
    }
}
