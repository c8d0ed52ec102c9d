//! Reservations, and their waits.

use std::{sync::Arc, time::Duration};

use redis::Cmd;
use tokio::sync::Notify;
use tracing::{error, warn};

use super::{
    RedisBus,
    entries::{self, RawEntry},
    is_unknown_script,
    scripts::{self, Call, Poll as PollCall, ReserveFromPartitions, Settle, SettleOne},
};
use crate::{
    Bus, BusError, Delivery, Envelope, Lease, QueueSpec, Reserve, SettleRequest, Settlement, blob,
};
use runtime::error_chain;

/// The longest wait between two polls for messages that no write announces.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The result of a poll.
struct PollResult {
    deliveries: Vec<Delivery>,
    /// The time until a delayed message is due, at most [`POLL_INTERVAL`].
    due: Duration,
    /// The id after which the next wait reads the hint stream; `None` when it reads new messages.
    hint: Option<String>,
}

fn due(pause: i64) -> Duration {
    u64::try_from(pause)
        .map_or(POLL_INTERVAL, Duration::from_millis)
        .min(POLL_INTERVAL)
}

impl RedisBus {
    /// Reserves messages, and waits for the first.
    pub(super) async fn reserve_messages(
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
            let polled = if queue.partitions {
                self.poll_partitions_once(queue, request).await?
            } else {
                self.poll_once(queue, request.max).await?
            };
            if !polled.deliveries.is_empty() || left.is_zero() {
                return Ok(polled.deliveries);
            }
            let block = left.min(polled.due);
            left = left.saturating_sub(block);
            let ended = Notify::new();
            let waiting = self.wait(queue, request.max, polled.hint, block, &ended);
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

    /// Makes deliveries of reserved entries. An entry that is not an envelope becomes a dead letter.
    async fn leases(&self, queue: &QueueSpec, reserved: Vec<RawEntry>) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(reserved.len());
        for RawEntry {
            partition,
            entry,
            delivery,
            attempts,
            bytes,
        } in reserved
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
                    match self.dead_letter_entry(&lease, &reason, attempt).await {
                        Ok(()) => {
                            error!(
                                queue = queue.name,
                                ?entry,
                                reason,
                                "entry is not a message of ours; kept as a dead letter"
                            );
                        }
                        Err(error) => {
                            let error = error_chain(&error);
                            warn!(
                                queue = queue.name,
                                ?entry,
                                error,
                                "cannot keep an entry as a dead letter; retrying when its lease runs out"
                            );
                        }
                    }
                }
            }
        }
        deliveries
    }

    /// Keeps an entry that is not an envelope as a dead letter, with an id made of the entry's.
    async fn dead_letter_entry(
        &self,
        lease: &Lease,
        reason: &str,
        attempts: u32,
    ) -> Result<(), BusError> {
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

    /// Reserves the messages that are ready now, from a queue without partitions.
    async fn poll_once(&self, queue: &QueueSpec, max: usize) -> Result<PollResult, BusError> {
        let doing = "reserving messages";
        let poll = PollCall {
            queue,
            consumer: &self.consumer,
            max,
        };
        let mut pipeline = redis::pipe();
        pipeline
            .ignore_errors()
            .add_command(poll.command(&self.prefix));
        let script_first = self.script_first.lock().contains(queue.name);
        if !script_first {
            pipeline.add_command(self.read(queue, max, None));
        }
        let mut answers = self
            .connections
            .pipeline(doing, &pipeline)
            .await?
            .into_iter();
        let old_messages = answers.next().unwrap_or(Ok(redis::Value::Nil));
        let fresh = answers
            .next()
            .unwrap_or(Ok(redis::Value::Nil))
            .and_then(entries::read);
        let old_messages = match old_messages {
            Err(error) if is_unknown_script(&error) => {
                let load = async |connection: &mut _| poll.script().load_async(connection).await;
                let loaded: Result<String, BusError> = self.connections.run(doing, load).await;
                if !fresh.as_ref().is_ok_and(|fresh| !fresh.is_empty()) {
                    loaded?;
                    return Box::pin(self.poll_once(queue, max)).await;
                }
                Err(error)
            }
            Err(error) => Err(error),
            Ok(answer) => redis::from_redis_value::<<PollCall<'_> as Call>::Answer>(answer)
                .map_err(Into::into),
        };
        let (old, pause, room, closed) = match (old_messages, &fresh) {
            (Ok(old_messages), _) => old_messages,
            // The messages that were read are in flight, so they must be delivered.
            (Err(_), Ok(fresh)) if !fresh.is_empty() => (Vec::new(), 0, max, false),
            (Err(error), _) => return Err(BusError::redis(doing)(error)),
        };
        let fresh = match fresh {
            // New messages were not read yet.
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
            // The script makes the group, and did not run.
            Err(_) if !old.is_empty() => Vec::new(),
            Err(error) if error.code() == Some("NOGROUP") => Vec::new(),
            Err(error) => return Err(BusError::redis(doing)(error)),
        };
        self.remember(queue, closed || !old.is_empty());
        let mut fresh = self.leases(queue, fresh).await;
        // The read came before the script's reply, which has the number of new messages that are wanted.
        let surplus = fresh.split_off(room.min(fresh.len()));
        if !surplus.is_empty() {
            let release = Settlement::Release;
            let back = surplus
                .iter()
                .map(|delivery| SettleRequest::new(&delivery.lease, &release));
            let back: Vec<_> = back.collect();
            if let Err(error) = self.settle_all(&back).await {
                warn!(
                    queue = queue.name,
                    error = error_chain(&error),
                    "cannot release surplus messages; they return when their leases run out"
                );
            }
        }
        let mut deliveries = self.leases(queue, old).await;
        deliveries.append(&mut fresh);
        // No push writes to the hint stream of a queue without partitions: a wait for it ends when the queue is resumed.
        Ok(PollResult {
            deliveries,
            due: due(pause),
            hint: closed.then(|| "$".to_owned()),
        })
    }

    /// Notes whether the next poll runs its script before it reads new messages: it may not want any.
    fn remember(&self, queue: &QueueSpec, script_first: bool) {
        let mut queues = self.script_first.lock();
        if script_first {
            queues.insert(queue.name);
        } else {
            queues.remove(queue.name);
        }
    }

    /// The command that reads new messages. It waits for `block`, if given.
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

    /// Reserves the messages that are ready now, from a queue with partitions.
    async fn poll_partitions_once(
        &self,
        queue: &QueueSpec,
        request: &Reserve,
    ) -> Result<PollResult, BusError> {
        let Reserve {
            max,
            skip_partitions: skip,
            ..
        } = request;
        let reserve = ReserveFromPartitions {
            queue,
            consumer: &self.consumer,
            max: *max,
            skip,
        };
        let (reserved, pause, hint) = self.run("reserving messages", &reserve).await?;
        Ok(PollResult {
            deliveries: self.leases(queue, reserved).await,
            due: due(pause),
            hint: Some(hint),
        })
    }

    /// Waits until `queue` may have a message. Returns it, if the wait has reserved it.
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
