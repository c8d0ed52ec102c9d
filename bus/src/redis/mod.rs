//! The bus on Redis (6.2 or newer) or Valkey: streams with consumer groups, so that every process may take from every
//! queue and what a dead process held is taken over.
//!
//! Each change is one script or one command, and so one atomic step. New messages of a queue without lanes are read by a
//! plain `XREADGROUP` behind the script that takes over old ones: twice as fast as a script that hands them through. A
//! wait is the same read with `BLOCK`. Lanes are streams of their own, read by a script; who waits for them reads a hint
//! stream without a group, which takes nothing. A look at least twice a second finds what nothing announces: leases that
//! ran out, messages that others released or delayed.

mod check;
mod connection;
mod endpoint;
mod entries;
mod ledger;
mod operate;
mod reserve;
mod scripts;

use std::{collections::HashSet, ops::Range, sync::Mutex, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, aio::MultiplexedConnection};
use tokio::sync::Notify;

pub use self::connection::RedisOptions;
pub(crate) use self::endpoint::says;
use self::{
    connection::Connections,
    scripts::{Entry, Scripts},
};
use crate::{
    Bus, BusError, Clock, Ending, Fact, Lease, Leased, Ledger, Outgoing, Pushed, Quarantine, QueueSpec, Record,
    Reserve, Settlement,
};

/// The most settlements in one script run, so that none holds up the server.
const BATCH: usize = 256;

/// Queues on Redis, shared by all processes that use the same server and prefix.
pub struct RedisBus {
    connections: Connections,
    scripts: Scripts,
    /// All keys start with it. Its hash tag keeps them in one slot of a cluster.
    prefix: String,
    /// This process, as the owner of what it holds.
    consumer: String,
    /// Queues whose last look found them paused, or something to take over: new messages may be unwanted.
    apart: Mutex<HashSet<&'static str>>,
    /// Something of ours becomes ready before the next look would find it: waits are to look again.
    soon: Notify,
    quarantine: Quarantine,
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

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
            apart: Mutex::default(),
            soon: Notify::new(),
            quarantine: Quarantine::default(),
        })
    }

    /// Looks whether the server does for a bus, and returns warnings for what is risky but works.
    ///
    /// [`BusError::Unfit`] when it does not do: too old, no master, or it evicts keys when its memory is full; also when
    /// the url is for another kind of server.
    pub async fn check(&self) -> Result<Vec<String>, BusError> {
        check::check(&self.connections).await
    }

    async fn run<T: FromRedisValue>(
        &self,
        doing: &'static str,
        script: &Script,
        args: impl FnOnce(&mut Cmd),
    ) -> Result<T, BusError> {
        let mut call = scripts::call(script, &self.prefix);
        args(&mut call);
        self.eval(doing, script, &call).await
    }

    /// Runs a call of a script; a server that does not know it (it is new, or forgot) is taught first.
    async fn eval<T: FromRedisValue>(&self, doing: &'static str, script: &Script, call: &Cmd) -> Result<T, BusError> {
        let ask = async |connection: &mut MultiplexedConnection| match call.query_async(connection).await {
            Err(error) if is_no_script(&error) => {
                script.load_async(connection).await?;
                call.query_async(connection).await
            }
            answer => answer,
        };
        self.connections.run(doing, ask).await
    }

    fn key(&self, queue: &QueueSpec, part: &str) -> String {
        format!("{}{}:{part}", self.prefix, queue.name)
    }

    /// Has waits look again when something that we wrote becomes ready before they would.
    fn hasten(&self, how: impl Iterator<Item = Duration>) {
        if how.into_iter().any(|after| after < reserve::LOOK) {
            self.soon.notify_waiters();
        }
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn push_with(&self, messages: Vec<Outgoing>, facts: Vec<Fact>) -> Result<Pushed, BusError> {
        let doing = "storing messages";
        let encoded = scripts::messages(&messages)?;
        if let ([message], [encoded]) = (&messages[..], &encoded[..])
            && message.is_plain()
            && facts.is_empty()
        {
            // What needs no decision needs no script.
            let mut add = redis::cmd("XADD");
            add.arg(self.key(&message.queue, "ready")).arg("*").arg("a").arg(0).arg("e").arg(&encoded.bytes[..]);
            let _: redis::Value = self.connections.command(doing, &add).await?;
            return Ok(Pushed { stored: 1, repeated: 0 });
        }
        let write = |call: &mut Cmd| {
            scripts::append(call, &encoded);
            scripts::append_facts(call, &facts);
        };
        let answer: redis::Value = self.run(doing, &self.scripts.push, write).await?;
        let unreadable = |error: redis::ParsingError| BusError::redis("reading the answer to a push")(error.into());
        if let redis::Value::Array(_) = answer {
            let (stored, repeated) = redis::from_redis_value(answer).map_err(unreadable)?;
            self.hasten(messages.iter().map(|message| message.after).filter(|after| !after.is_zero()));
            return Ok(Pushed { stored, repeated });
        }
        let name: String = redis::from_redis_value(answer).map_err(unreadable)?;
        let full = messages.iter().map(|message| message.queue).find(|queue| queue.name == name);
        let (queue, bound) = full.map_or(("?", 0), |queue| (queue.name, queue.policy.bound.unwrap_or(0)));
        Err(BusError::Full { queue, bound })
    }

    async fn reserve(&self, queue: &QueueSpec, request: Reserve) -> Result<Vec<Leased>, BusError> {
        self.take(queue, &request).await
    }

    async fn extend(&self, lease: &Lease) -> Result<(), BusError> {
        let renewed = !lease.is_spent()
            && self
                .run("renewing a lease", &self.scripts.extend, |call| {
                    scripts::lease(call, lease, &self.consumer);
                })
                .await?;
        if renewed { Ok(()) } else { Err(BusError::LeaseLost { queue: lease.queue }) }
    }

    async fn settle_all(&self, ended: &[Ending<'_>]) -> Result<Vec<bool>, BusError> {
        let mut written: Vec<bool> = ended.iter().map(|ending| !ending.lease.is_spent()).collect();
        let unspent: Vec<usize> = (0..ended.len()).filter(|place| written[*place]).collect();
        for batch in unspent.chunks(BATCH) {
            let of_batch: Vec<_> = batch.iter().map(|place| ended[*place]).collect();
            let mut call = scripts::call(&self.scripts.settle, &self.prefix);
            call.arg(&self.consumer);
            let stream = |ending: &Ending<'_>| (ending.lease.queue, ending.lease.lane.clone());
            for group in of_batch.chunk_by(|one, next| stream(one) == stream(next)) {
                let entries = || group.iter().map(|ending| ending.lease.entry);
                call.arg(group[0].lease.queue).arg(group[0].lease.lane.as_deref().unwrap_or_default());
                call.arg(Entry(entries().min().unwrap_or_default()));
                call.arg(Entry(entries().max().unwrap_or_default()));
                scripts::settlements(&mut call, group)?;
            }
            let lost: Vec<usize> = self.eval("settling messages", &self.scripts.settle, &call).await?;
            for place in lost.into_iter().filter_map(|place| batch.get(place)) {
                written[*place] = false;
            }
            batch.iter().filter(|place| written[**place]).for_each(|place| ended[*place].lease.spend());
        }
        self.hasten(ended.iter().filter_map(|ending| match ending.how {
            Settlement::Retry { after } | Settlement::Defer { after } => Some(*after),
            Settlement::Release => Some(Duration::ZERO),
            Settlement::Done { emit } | Settlement::Dead { emit, .. } => {
                emit.iter().map(|message| message.after).filter(|after| !after.is_zero()).min()
            }
        }));
        Ok(written)
    }

    async fn records(&self, ledger: &Ledger, ids: &[String]) -> Result<Vec<Record>, BusError> {
        self.read_records(ledger, ids).await
    }

    async fn tagged(
        &self,
        ledger: &Ledger,
        tag: &str,
        part: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError> {
        self.read_tag(ledger, tag, part).await
    }

    fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.connections.command("asking redis for a sign of life", &redis::cmd("PING")).await
    }
}
