//! Taking messages, and waiting for them.

use std::{sync::Arc, time::Duration};

use redis::Cmd;
use tokio::sync::Notify;
use tracing::{error, warn};

use super::{
    RedisBus,
    entries::{self, RawEntry},
    is_unknown_script,
    scripts::{self, Call, Look as LookCall, Settle, SettleOne, TakeFromPartitions},
};
use crate::{
    Bus, BusError, Delivery, Envelope, Lease, QueueSpec, Reserve, SettleRequest, Settlement, blob,
};
use runtime::error_chain;

/// The longest wait between two looks at what nothing announces.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// What a look found.
struct Look {
    deliveries: Vec<Delivery>,
    /// When a delayed message is due, or [`LOOK`] if that is sooner.
    due: Duration,
    /// To wait by the hint stream from here on, not by reading new messages.
    hint: Option<String>,
}

fn due(pause: i64) -> Duration {
    u64::try_from(pause)
        .map_or(LOOK, Duration::from_millis)
        .min(LOOK)
}

impl RedisBus {
    /// Takes messages; waits for the first.
    pub(super) async fn take(
        &self,
        queue: &QueueSpec,
        request: &Reserve,
    ) -> Result<Vec<Delivery>, BusError> {
        if request.max == 0 {
            return Ok(Vec::new());
        }
        let mut left = request.wait;
        loop {
            let wakeup = self.wakeup.notified();
            tokio::pin!(wakeup);
            wakeup.as_mut().enable();
            let look = if queue.partitions {
                self.look_in_partitions(queue, request).await?
            } else {
                self.look(queue, request.max).await?
            };
            if !look.deliveries.is_empty() || left.is_zero() {
                return Ok(look.deliveries);
            }
            let block = left.min(look.due);
            left = left.saturating_sub(block);
            let ended = Notify::new();
            let waiting = self.wait(queue, request.max, look.hint, block, &ended);
            tokio::pin!(waiting);
            let mut interrupted = false;
            let deliveries = loop {
                tokio::select! {
                    deliveries = &mut waiting => break deliveries?,
                    () = request.interrupt.notified(), if !interrupted => {
                        interrupted = true;
                        left = Duration::ZERO;
                        ended.notify_one();
                    }
                    () = &mut wakeup, if !interrupted => {
                        interrupted = true;
                        ended.notify_one();
                    }
                }
            };
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }

    /// Makes leases of taken entries. Something that is no envelope cannot be handled by anyone: it is buried.
    async fn leases(&self, queue: &QueueSpec, taken: Vec<RawEntry>) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(taken.len());
        for RawEntry {
            partition,
            entry,
            delivery,
            attempts,
            bytes,
        } in taken
        {
            let lease = Lease {
                queue: queue.name,
                length: queue.policy.lease,
                partition,
                entry,
                delivery,
                spent: Some(Arc::default()),
            };
            let times = u32::try_from(delivery).unwrap_or(u32::MAX);
            let attempt = attempts.saturating_add(times);
            match blob::decode::<Envelope>(&bytes.into()) {
                Ok(envelope) => {
                    let envelope = Arc::new(envelope);
                    deliveries.push(Delivery {
                        lease,
                        envelope,
                        attempt,
                        unsettled_deliveries: times.saturating_sub(1),
                    });
                }
                Err(error) => {
                    let reason = format!("not an envelope: {error}");
                    match self.bury(&lease, &reason, attempt).await {
                        Ok(()) => {
                            error!(
                                queue = queue.name,
                                ?entry,
                                reason,
                                "not a message of ours, kept as a dead letter"
                            );
                        }
                        Err(error) => {
                            // The others are good; this one comes back with its lease.
                            let error = error_chain(&error);
                            warn!(
                                queue = queue.name,
                                ?entry,
                                error,
                                "cannot make an entry a dead letter; retrying later"
                            );
                        }
                    }
                }
            }
        }
        deliveries
    }

    /// Keeps what is no envelope as a dead letter under a name of its own.
    async fn bury(&self, lease: &Lease, reason: &str, attempts: u32) -> Result<(), BusError> {
        let (partition, (millis, number)) =
            (lease.partition.as_deref().unwrap_or_default(), lease.entry);
        let id = format!("entry-{partition}{millis}-{number}");
        let doing = "settling a message";
        let dead = [SettleOne::unreadable(lease, id, reason, attempts)];
        let (lost, refused) = self
            .run(doing, &Settle::new(&self.consumer, &dead)?)
            .await?;
        match refused.into_iter().next() {
            Some((_, reason)) => Err(BusError::Refused { doing, reason }),
            None if lost.is_empty() => Ok(()),
            None => Err(BusError::LeaseLost { queue: lease.queue }),
        }
    }

    /// Takes what can be taken now from a queue without partitions.
    async fn look(&self, queue: &QueueSpec, max: usize) -> Result<Look, BusError> {
        let doing = "reserving messages";
        let look = LookCall {
            queue,
            consumer: &self.consumer,
            max,
        };
        let mut pipeline = redis::pipe();
        pipeline
            .ignore_errors()
            .add_command(look.command(&self.prefix));
        let script_first = self.script_first.lock().contains(queue.name);
        if !script_first {
            pipeline.add_command(self.read(queue, max, None));
        }
        let mut answers = self
            .connections
            .pipeline(doing, &pipeline)
            .await?
            .into_iter();
        let looked = answers.next().unwrap_or(Ok(redis::Value::Nil));
        let fresh = answers
            .next()
            .unwrap_or(Ok(redis::Value::Nil))
            .and_then(entries::read);
        let looked = match looked {
            Err(error) if is_unknown_script(&error) => {
                let load = async |connection: &mut _| look.script().load_async(connection).await;
                let loaded: Result<String, BusError> = self.connections.run(doing, load).await;
                if !fresh.as_ref().is_ok_and(|fresh| !fresh.is_empty()) {
                    loaded?;
                    return Box::pin(self.look(queue, max)).await;
                }
                Err(error)
            }
            Err(error) => Err(error),
            Ok(answer) => redis::from_redis_value::<<LookCall<'_> as Call>::Answer>(answer)
                .map_err(Into::into),
        };
        let (old, pause, room, closed) = match (looked, &fresh) {
            (Ok(looked), _) => looked,
            // What was read is ours, so it must not be forgotten.
            (Err(_), Ok(fresh)) if !fresh.is_empty() => (Vec::new(), 0, max, false),
            (Err(error), _) => return Err(BusError::redis(doing)(error)),
        };
        let fresh = match fresh {
            // Nothing new was asked for yet.
            Ok(_) if script_first && room > 0 => match self
                .connections
                .command(doing, &self.read(queue, room, None))
                .await
            {
                Ok(answer) => entries::read(answer).map_err(BusError::redis(doing))?,
                Err(_) if !old.is_empty() => Vec::new(),
                Err(error) => return Err(error),
            },
            Ok(fresh) => fresh,
            // The group is made by the script; it was not there to do so.
            Err(_) if !old.is_empty() => Vec::new(),
            Err(error) if error.code() == Some("NOGROUP") => Vec::new(),
            Err(error) => return Err(BusError::redis(doing)(error)),
        };
        self.remember(queue, closed || !old.is_empty());
        let mut fresh = self.leases(queue, fresh).await;
        // The script could not say beforehand how many new ones are wanted.
        let surplus = fresh.split_off(room.min(fresh.len()));
        if !surplus.is_empty() {
            let release = Settlement::Release;
            let back = surplus
                .iter()
                .map(|delivery| SettleRequest::new(&delivery.lease, &release));
            let back: Vec<_> = back.collect();
            if let Err(error) = self.settle_all(&back).await {
                // They come back with their leases.
                warn!(
                    queue = queue.name,
                    error = error_chain(&error),
                    "cannot give back what was read too much"
                );
            }
        }
        let mut deliveries = self.leases(queue, old).await;
        deliveries.append(&mut fresh);
        // Nothing is written to the hint stream of a queue without partitions: who waits for it is left alone.
        Ok(Look {
            deliveries,
            due: due(pause),
            hint: closed.then(|| "$".to_owned()),
        })
    }

    /// Whether the next look runs its script first, and reads new messages afterwards: the script may find them unwanted.
    fn remember(&self, queue: &QueueSpec, script_first: bool) {
        let mut queues = self.script_first.lock();
        if script_first {
            queues.insert(queue.name);
        } else {
            queues.remove(queue.name);
        }
    }

    /// The command that reads new messages, and waits for them.
    fn read(&self, queue: &QueueSpec, max: usize, block: Option<Duration>) -> Cmd {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP")
            .arg(scripts::GROUP)
            .arg(&self.consumer)
            .arg("COUNT")
            .arg(scripts::count(max));
        if let Some(block) = block {
            read.arg("BLOCK").arg(scripts::millis(block).max(1));
        }
        read.arg("STREAMS").arg(self.key(queue, "ready")).arg(">");
        read
    }

    /// Takes what can be taken now from a queue with partitions.
    async fn look_in_partitions(
        &self,
        queue: &QueueSpec,
        request: &Reserve,
    ) -> Result<Look, BusError> {
        let Reserve {
            max,
            skip_partitions: skip,
            ..
        } = request;
        let take = TakeFromPartitions {
            queue,
            consumer: &self.consumer,
            max: *max,
            skip,
        };
        let (taken, pause, hint) = self.run("reserving messages", &take).await?;
        Ok(Look {
            deliveries: self.leases(queue, taken).await,
            due: due(pause),
            hint: Some(hint),
        })
    }

    /// Waits until `queue` may have something to take; brings it along where it can.
    async fn wait(
        &self,
        queue: &QueueSpec,
        max: usize,
        hint: Option<String>,
        block: Duration,
        interrupt: &Notify,
    ) -> Result<Vec<Delivery>, BusError> {
        if let Some(seen) = hint {
            let mut read = redis::cmd("XREAD");
            read.arg("COUNT")
                .arg(1)
                .arg("BLOCK")
                .arg(scripts::millis(block).max(1));
            read.arg("STREAMS").arg(self.key(queue, "hint")).arg(seen);
            return self
                .connections
                .wait(&read, block, interrupt)
                .await
                .map(|_| Vec::new());
        }
        let answer = self
            .connections
            .wait(&self.read(queue, max, Some(block)), block, interrupt)
            .await?;
        let fresh = entries::read(answer).map_err(BusError::redis("waiting for messages"))?;
        Ok(self.leases(queue, fresh).await)
    }
}
