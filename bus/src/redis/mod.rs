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
mod operate;
mod scripts;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind, aio::MultiplexedConnection};
use tokio::sync::Notify;

pub use self::connection::RedisOptions;
pub(crate) use self::endpoint::says;
use self::{
    connection::Connections,
    entries::Taken,
    scripts::{Entry, Scripts},
};
use crate::{
    Bus, BusError, Clock, Envelope, Lease, Leased, Outgoing, Pushed, Quarantine, QueueSpec, Reserve, SUSPECT,
    Settlement, clock::lock, handler::error_chain,
};

/// The longest wait between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(500);

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
    /// Queues whose last look found them paused.
    paused: Mutex<HashSet<&'static str>>,
    /// Something of ours becomes ready before the next look would find it: waits are to look again.
    soon: Notify,
    quarantine: Quarantine,
}

/// What a look found.
struct Look {
    leased: Vec<Leased>,
    /// When a delayed message is due, or [`LOOK`] if that is sooner.
    due: Duration,
    /// To wait by the hint stream from here on, not by reading new messages.
    hint: Option<String>,
}

fn is_no_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

fn due(pause: i64) -> Duration {
    u64::try_from(pause).map_or(LOOK, Duration::from_millis).min(LOOK)
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
            paused: Mutex::default(),
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

    /// Makes leases of taken entries. Something that is no envelope cannot be handled by anyone: it is buried.
    async fn leases(&self, queue: &QueueSpec, taken: Vec<Taken>) -> Vec<Leased> {
        let mut leased = Vec::with_capacity(taken.len());
        for Taken { lane, entry, delivery, attempts, bytes } in taken {
            let lease = Lease {
                queue: queue.name,
                length: queue.policy.lease,
                lane,
                entry,
                delivery,
                known: Some(Arc::default()),
            };
            let deliveries = u32::try_from(delivery).unwrap_or(u32::MAX);
            let attempt = attempts.saturating_add(deliveries);
            match rmp_serde::from_slice::<Envelope>(&bytes) {
                Ok(envelope) => {
                    let envelope = Arc::new(envelope);
                    leased.push(Leased { lease, envelope, attempt, deaths: deliveries.saturating_sub(1) });
                }
                Err(error) => {
                    tracing::error!(queue = queue.name, ?entry, %error, "not a message of ours, kept as a dead letter");
                    if let Err(error) = self.bury(&lease, &format!("not an envelope: {error}"), attempt).await {
                        // The others are good; this one comes back with its lease.
                        let error = error_chain(&error);
                        tracing::warn!(queue = queue.name, error, "cannot bury what is no message, trying again later");
                    }
                }
            }
        }
        leased
    }

    /// Keeps what is no envelope as a dead letter under a name of its own.
    async fn bury(&self, lease: &Lease, reason: &str, attempts: u32) -> Result<(), BusError> {
        let lane = lease.lane.as_deref().unwrap_or_default();
        let entry = || Entry(lease.entry);
        let letter = scripts::letter(lease.queue, reason, attempts)?;
        let id = format!("entry-{lane}{}-{}", lease.entry.0, lease.entry.1);
        self.run("settling a message", &self.scripts.settle, |call| {
            call.arg(&self.consumer).arg(lease.queue).arg(lane).arg(entry()).arg(entry()).arg(1);
            call.arg("dead").arg(lease.delivery).arg(1).arg(entry()).arg(id).arg(letter).arg(0);
        })
        .await
    }

    /// Takes what can be taken now from a queue without lanes.
    async fn look(&self, queue: &QueueSpec, max: usize) -> Result<Look, BusError> {
        let doing = "reserving messages";
        let script = &self.scripts.look;
        let mut look = scripts::call(script, &self.prefix);
        look.arg(queue.name).arg(&self.consumer).arg(max);
        look.arg(scripts::millis(queue.policy.lease)).arg(SUSPECT);
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors().add_command(look);
        let was_closed = lock(&self.paused).contains(queue.name);
        if !was_closed {
            pipeline.add_command(self.read(queue, max, None));
        }
        let mut answers = self.connections.pipeline(doing, &pipeline).await?.into_iter();
        let looked = answers.next().unwrap_or(Ok(redis::Value::Nil));
        let fresh = answers.next().unwrap_or(Ok(redis::Value::Nil)).and_then(entries::read);
        let looked = match looked {
            Err(error) if is_no_script(&error) => {
                let loading = self.connections.run(doing, async |connection| script.load_async(connection).await);
                let _: String = loading.await?;
                if !fresh.as_ref().is_ok_and(|fresh| !fresh.is_empty()) {
                    return Box::pin(self.look(queue, max)).await;
                }
                Err(error)
            }
            Err(error) => Err(error),
            Ok(answer) => redis::from_redis_value::<(Vec<Taken>, i64, usize, bool)>(answer).map_err(Into::into),
        };
        let (old, pause, room, closed) = match (looked, &fresh) {
            (Ok(looked), _) => looked,
            // What was read is ours, so it must not be forgotten.
            (Err(_), Ok(fresh)) if !fresh.is_empty() => (Vec::new(), 0, max, false),
            (Err(error), _) => return Err(BusError::redis(doing)(error)),
        };
        let fresh = match fresh {
            // It was resumed: nothing new was asked for.
            Ok(_) if was_closed && room > 0 => {
                match self.connections.command(doing, &self.read(queue, room, None)).await {
                    Ok(answer) => entries::read(answer).map_err(BusError::redis(doing))?,
                    Err(_) if !old.is_empty() => Vec::new(),
                    Err(error) => return Err(error),
                }
            }
            Ok(fresh) => fresh,
            // The group is made by the script; it was not there to do so.
            Err(_) if !old.is_empty() => Vec::new(),
            Err(error) if error.code() == Some("NOGROUP") => Vec::new(),
            Err(error) => return Err(BusError::redis(doing)(error)),
        };
        self.remember_paused(queue, closed);
        let mut fresh = self.leases(queue, fresh).await;
        // The script could not say beforehand how many new ones are wanted.
        let surplus = fresh.split_off(room.min(fresh.len()));
        if !surplus.is_empty() {
            let back: Vec<_> = surplus.iter().map(|leased| (&leased.lease, &Settlement::Release)).collect();
            self.settle_all(&back).await?;
        }
        let mut leased = self.leases(queue, old).await;
        leased.append(&mut fresh);
        // Nothing is written to the hint stream of a queue without lanes: who waits for it is left alone.
        Ok(Look { leased, due: due(pause), hint: closed.then(|| "$".to_owned()) })
    }

    fn remember_paused(&self, queue: &QueueSpec, closed: bool) {
        let mut paused = lock(&self.paused);
        if closed {
            paused.insert(queue.name);
        } else {
            paused.remove(queue.name);
        }
    }

    /// The command that reads new messages, and waits for them.
    fn read(&self, queue: &QueueSpec, max: usize, block: Option<Duration>) -> Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(scripts::GROUP).arg(&self.consumer).arg("COUNT").arg(max);
        if let Some(block) = block {
            read.arg("BLOCK").arg(scripts::millis(block).max(1));
        }
        read.arg("STREAMS").arg(self.key(queue, "ready")).arg(">");
        read
    }

    /// Takes what can be taken now from a queue with lanes.
    async fn look_in_lanes(&self, queue: &QueueSpec, request: &Reserve) -> Result<Look, BusError> {
        let (taken, pause, hint): (Vec<Taken>, i64, String) = self
            .run("reserving messages", &self.scripts.reserve, |call| {
                call.arg(queue.name)
                    .arg(&self.consumer)
                    .arg(request.max)
                    .arg(scripts::millis(queue.policy.lease))
                    .arg(SUSPECT)
                    .arg(&request.skip_lanes);
            })
            .await?;
        Ok(Look { leased: self.leases(queue, taken).await, due: due(pause), hint: Some(hint) })
    }

    /// Waits until `queue` may have something to take; brings it along where it can.
    async fn wait(
        &self,
        queue: &QueueSpec,
        max: usize,
        hint: Option<String>,
        block: Duration,
        interrupt: &Notify,
    ) -> Result<Vec<Leased>, BusError> {
        if let Some(seen) = hint {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT").arg(1).arg("BLOCK").arg(scripts::millis(block).max(1));
            read.arg("STREAMS").arg(self.key(queue, "hint")).arg(seen);
            return self.connections.wait(&read, block, interrupt).await.map(|_| Vec::new());
        }
        let answer = self.connections.wait(&self.read(queue, max, Some(block)), block, interrupt).await?;
        let fresh = entries::read(answer).map_err(BusError::redis("waiting for messages"))?;
        Ok(self.leases(queue, fresh).await)
    }

    /// Has waits look again when something that we wrote becomes ready before they would.
    fn hasten(&self, how: impl Iterator<Item = Duration>) {
        if how.into_iter().any(|after| after < LOOK) {
            self.soon.notify_waiters();
        }
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn push(&self, messages: Vec<Outgoing>) -> Result<Pushed, BusError> {
        let doing = "storing messages";
        let encoded = scripts::messages(&messages)?;
        if let ([message], [encoded]) = (&messages[..], &encoded[..])
            && message.is_plain()
        {
            // What needs no decision needs no script.
            let mut add = redis::cmd("XADD");
            add.arg(self.key(&message.queue, "ready")).arg("*").arg("a").arg(0).arg("e").arg(&encoded.bytes[..]);
            let _: redis::Value = self.connections.command(doing, &add).await?;
            return Ok(Pushed { stored: 1, repeated: 0 });
        }
        let answer: redis::Value = self.run(doing, &self.scripts.push, |call| scripts::append(call, &encoded)).await?;
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
        if request.max == 0 {
            return Ok(Vec::new());
        }
        let mut left = request.wait;
        loop {
            let soon = self.soon.notified();
            tokio::pin!(soon);
            soon.as_mut().enable();
            let look = if queue.lanes {
                self.look_in_lanes(queue, &request).await?
            } else {
                self.look(queue, request.max).await?
            };
            if !look.leased.is_empty() || left.is_zero() {
                return Ok(look.leased);
            }
            let block = left.min(look.due);
            left = left.saturating_sub(block);
            let ended = Notify::new();
            let waiting = self.wait(queue, request.max, look.hint, block, &ended);
            tokio::pin!(waiting);
            let mut interrupted = false;
            let leased = loop {
                tokio::select! {
                    leased = &mut waiting => break leased?,
                    () = request.interrupt.notified(), if !interrupted => {
                        interrupted = true;
                        left = Duration::ZERO;
                        ended.notify_one();
                    }
                    () = &mut soon, if !interrupted => {
                        interrupted = true;
                        ended.notify_one();
                    }
                }
            };
            if !leased.is_empty() {
                return Ok(leased);
            }
        }
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

    async fn settle_all(&self, ended: &[(&Lease, &Settlement)]) -> Result<Vec<bool>, BusError> {
        let mut written: Vec<bool> = ended.iter().map(|(lease, _)| !lease.is_spent()).collect();
        let unspent: Vec<usize> = (0..ended.len()).filter(|place| written[*place]).collect();
        for batch in unspent.chunks(BATCH) {
            let of_batch: Vec<_> = batch.iter().map(|place| ended[*place]).collect();
            let mut call = scripts::call(&self.scripts.settle, &self.prefix);
            call.arg(&self.consumer);
            for group in of_batch.chunk_by(|(one, _), (next, _)| one.queue == next.queue && one.lane == next.lane) {
                let entries = || group.iter().map(|(lease, _)| lease.entry);
                call.arg(group[0].0.queue).arg(group[0].0.lane.as_deref().unwrap_or_default());
                call.arg(Entry(entries().min().unwrap_or_default()));
                call.arg(Entry(entries().max().unwrap_or_default()));
                scripts::settlements(&mut call, group)?;
            }
            let lost: Vec<usize> = self.eval("settling messages", &self.scripts.settle, &call).await?;
            for place in lost.into_iter().filter_map(|place| batch.get(place)) {
                written[*place] = false;
            }
            batch.iter().filter(|place| written[**place]).for_each(|place| ended[*place].0.spend());
        }
        self.hasten(ended.iter().filter_map(|(_, how)| match how {
            Settlement::Retry { after } | Settlement::Defer { after } => Some(*after),
            Settlement::Release => Some(Duration::ZERO),
            Settlement::Done { emit } | Settlement::Dead { emit, .. } => {
                emit.iter().map(|message| message.after).filter(|after| !after.is_zero()).min()
            }
        }));
        Ok(written)
    }

    fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.connections.command("asking redis for a sign of life", &redis::cmd("PING")).await
    }
}
