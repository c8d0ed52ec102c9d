//! The bus on Redis (6.2 or newer) or Valkey: streams with consumer groups, so that each process may reserve from each
//! queue, and the messages of a dead process are delivered again.
//!
//! Each change is one script or one command, and so one atomic step. New messages of a queue without partitions are read by
//! a plain `XREADGROUP` after the script that reserves old ones: twice as fast as a script that returns both. A wait is the
//! same read with `BLOCK`. Partitions are streams of their own, which a script reads; a wait for them reads a hint stream
//! without a group, and reserves nothing. A poll at least twice a second finds messages that no write announces: those whose
//! lease has run out, and those that other processes released or delayed.

mod check;
mod connection;
mod endpoint;
mod entries;
mod error;
mod pushes;
mod queue_admin;
mod records;
mod reserve;
mod scripts;

use std::{collections::HashSet, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use parking_lot::Mutex;
use redis::{
    Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, Script, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::sync::Notify;

pub use self::connection::RedisOptions;
use self::{
    connection::Connections,
    pushes::Pushes,
    scripts::{
        Call, CompareFirst, CompareFirstAnswer, Extend, Packed, ProbeWrite, PushAnswer, Settle,
        SettleOne,
    },
};
use crate::{
    Bound, Bus, BusError, CompareAndSet, Delivery, EnqueueOutcome, Isolation, Lease, Outgoing,
    Policy, QueueSpec, Record, RecordStore, RecordUpdate, Reserve, SettleRequest, Settlement,
};
use runtime::Clock;

/// The maximum number of settlements of one script run, which blocks the server.
const BATCH: usize = 256;

/// Queues and records on Redis, shared by all processes that use the same server and namespace.
pub struct RedisBus {
    connections: Arc<Connections>,
    pushes: Pushes,
    /// The beginning of all keys. Its hash tag keeps them in one slot of a Cluster.
    prefix: Arc<str>,
    /// The name of this process in consumer groups, as the owner of its leases.
    consumer: String,
    /// Queues whose last poll found them paused, or found old messages: the next poll may not want new ones.
    script_first: Mutex<HashSet<&'static str>>,
    /// Ends waits for another poll: a message of this process becomes ready before the next poll would find it.
    wakeup: Notify,
    isolation: Isolation,
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}

/// Calls a script. Loads it first when the server does not have it.
async fn eval<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    script: &Script,
    call: &Cmd,
) -> RedisResult<T> {
    match call.query_async(connection).await {
        Err(error) if is_unknown_script(&error) => {
            script.load_async(connection).await?;
            call.query_async(connection).await
        }
        answer => answer,
    }
}

impl RedisBus {
    /// A bus on the server of `options`. It connects at its first operation.
    ///
    /// [`BusError::Unfit`] when the url has none of the supported forms.
    pub fn new(options: &RedisOptions, clock: &dyn Clock) -> Result<Self, BusError> {
        let connections = Arc::new(Connections::new(options)?);
        let prefix: Arc<str> = format!("{{{}}}:", options.namespace).into();
        Ok(Self {
            pushes: Pushes::new(connections.clone(), prefix.clone()),
            connections,
            prefix,
            consumer: clock.new_id().to_string(),
            script_first: Mutex::default(),
            wakeup: Notify::new(),
            isolation: Isolation::default(),
        })
    }

    /// Checks that the bus can use the server. Returns warnings about settings that work and may lose messages.
    ///
    /// [`BusError::Unfit`] when the server is too old, is not a master, or evicts keys when its memory is full, and when
    /// the url is for another kind of server.
    pub async fn check(&self) -> Result<Vec<String>, BusError> {
        check::check(&self.connections).await
    }

    async fn run<C: Call>(&self, doing: &'static str, call: &C) -> Result<C::Answer, BusError> {
        let (script, command) = (call.script(), call.command(&self.prefix));
        self.connections
            .run(doing, async |connection| {
                eval(connection, script, &command).await
            })
            .await
    }

    fn key(&self, queue: &QueueSpec, part: &str) -> String {
        format!("{}{}:{part}", self.prefix, queue.name)
    }

    /// Ends waits of this process when a message that it delays by `how` is due before their next poll.
    fn wake_waiters_before(&self, how: impl Iterator<Item = Duration>) {
        if how.into_iter().any(|after| after < reserve::POLL_INTERVAL) {
            self.wakeup.notify_waiters();
        }
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn push_with(
        &self,
        messages: Vec<Outgoing>,
        updates: Vec<RecordUpdate>,
    ) -> Result<EnqueueOutcome, BusError> {
        let doing = "storing messages";
        if messages.is_empty() && updates.is_empty() {
            return Ok(EnqueueOutcome::default());
        }
        let push = Packed {
            messages: scripts::pack(messages)?,
            updates,
        };
        if let [message] = &push.messages[..]
            && message.outgoing.is_plain()
            && push.updates.is_empty()
        {
            // A plain message needs no check, and so no script.
            let mut add = redis::cmd("XADD");
            add.arg(self.key(&message.outgoing.queue, "ready"))
                .arg("*")
                .arg("a")
                .arg(0)
                .arg("e")
                .arg(&message.bytes[..]);
            let _: redis::Value = self.connections.command(doing, &add).await?;
            return Ok(EnqueueOutcome {
                inserted: 1,
                duplicates: 0,
            });
        }
        let queues: Vec<QueueSpec> = push
            .messages
            .iter()
            .map(|message| message.outgoing.queue)
            .collect();
        let after = push
            .messages
            .iter()
            .map(|message| message.outgoing.after)
            .filter(|after| !after.is_zero())
            .min();
        match self
            .pushes
            .push(push)
            .await
            .map_err(BusError::redis(doing))?
        {
            PushAnswer::Stored(inserted) => {
                self.wake_waiters_before(after.into_iter());
                Ok(EnqueueOutcome {
                    inserted,
                    duplicates: queues.len().saturating_sub(inserted),
                })
            }
            PushAnswer::Full { queue, in_bytes } => {
                let full = queues.into_iter().find(|one| one.name == queue);
                let (queue, policy) =
                    full.map_or(("?", Policy::DEFAULT), |queue| (queue.name, queue.policy));
                let bound = match in_bytes {
                    true => Bound::Bytes(policy.max_bytes.unwrap_or_default()),
                    false => Bound::Messages(policy.max_depth.unwrap_or_default()),
                };
                Err(BusError::Full { queue, bound })
            }
            PushAnswer::Refused(reason) => Err(BusError::Refused { doing, reason }),
            PushAnswer::Failed(error) => Err(BusError::redis(doing)(error)),
        }
    }

    async fn compare_and_set(
        &self,
        change: CompareAndSet,
        mut updates: Vec<RecordUpdate>,
    ) -> Result<bool, BusError> {
        let doing = "changing a record";
        updates.insert(0, change.into());
        match self.run(doing, &CompareFirst { updates: &updates }).await? {
            CompareFirstAnswer::Made => Ok(true),
            CompareFirstAnswer::Differs => Ok(false),
            CompareFirstAnswer::Refused(reason) => Err(BusError::Refused { doing, reason }),
        }
    }

    async fn reserve(
        &self,
        queue: &QueueSpec,
        request: Reserve,
    ) -> Result<Vec<Delivery>, BusError> {
        self.reserve_messages(queue, &request).await
    }

    async fn extend(&self, lease: &Lease) -> Result<(), BusError> {
        let renewed = !lease.is_spent()
            && self
                .run(
                    "renewing a lease",
                    &Extend {
                        lease,
                        consumer: &self.consumer,
                    },
                )
                .await?;
        if renewed {
            Ok(())
        } else {
            Err(BusError::LeaseLost { queue: lease.queue })
        }
    }

    async fn settle_all(
        &self,
        ended: &[SettleRequest<'_>],
    ) -> Result<Vec<Result<(), BusError>>, BusError> {
        let doing = "settling a message";
        let mut results = Vec::with_capacity(ended.len());
        let mut settlements = Vec::with_capacity(ended.len());
        let mut places = Vec::with_capacity(ended.len());
        for (place, request) in ended.iter().enumerate() {
            let lease = request.lease;
            results.push(Ok(()));
            if lease.is_spent() {
                results[place] = Err(BusError::LeaseLost { queue: lease.queue });
                continue;
            }
            match SettleOne::new(*request) {
                Ok(settlement) => {
                    settlements.push(settlement);
                    places.push(place);
                }
                Err(error) => results[place] = Err(error),
            }
        }
        for (batch, places) in settlements.chunks(BATCH).zip(places.chunks(BATCH)) {
            let settle = Settle::new(&self.consumer, batch)?;
            let (lost, refused) = self.run(doing, &settle).await?;
            for place in lost.into_iter().filter_map(|place| places.get(place)) {
                let queue = ended[*place].lease.queue;
                results[*place] = Err(BusError::LeaseLost { queue });
            }
            for (place, reason) in refused {
                if let Some(place) = places.get(place) {
                    results[*place] = Err(BusError::Refused { doing, reason });
                }
            }
            for place in places.iter().filter(|place| results[**place].is_ok()) {
                ended[*place].lease.spend();
            }
        }
        self.wake_waiters_before(ended.iter().filter_map(|request| {
            match request.how {
                Settlement::Retry { after } | Settlement::Defer { after } => Some(*after),
                Settlement::Release => Some(Duration::ZERO),
                Settlement::Done { emit } | Settlement::Dead { emit, .. } => emit
                    .iter()
                    .map(|message| message.after)
                    .filter(|after| !after.is_zero())
                    .min(),
            }
        }));
        Ok(results)
    }

    async fn records(&self, store: &RecordStore, ids: &[String]) -> Result<Vec<Record>, BusError> {
        self.read_records(store, ids).await
    }

    async fn indexed(
        &self,
        store: &RecordStore,
        index: &str,
        part: Range<usize>,
    ) -> Result<Vec<(String, Timestamp)>, BusError> {
        self.read_index(store, index, part).await
    }

    fn isolation(&self) -> &Isolation {
        &self.isolation
    }

    async fn ping(&self) -> Result<(), BusError> {
        self.connections
            .command("checking that redis answers", &redis::cmd("PING"))
            .await
    }

    async fn probe_write(&self) -> Result<(), BusError> {
        self.run(
            "checking that redis accepts writes",
            &ProbeWrite {
                consumer: &self.consumer,
            },
        )
        .await
    }
}
