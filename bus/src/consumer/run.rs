//! A consumer at work: three loops side by side.
//!
//! * [`Run::reserve_all`] reserves messages while the concurrency of the queue allows.
//! * [`Run::handle_all`] runs the handler.
//! * [`Run::settle_all`] writes settlements. While a batch is on its way, the next one gathers. So the busier the queue is,
//!   the more messages share an exchange with the backend; a message of an idle queue is settled alone and at once.
//!
//! Each loop sends its messages to the next, and ends when the one before it has ended and no message is left. They share
//! the state of the messages between reservation and settlement, [`InFlight`].

#[cfg(test)]
mod tests;

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
};
use tokio_util::sync::ReusableBoxFuture;
use tracing::{error, info, warn};

use super::{Consumer, WAIT};
use crate::{
    Delivery, Isolation, POISON_SUSPECT_DELIVERIES, Reserve, Settlement,
    context::Shared,
    isolation::{ActivePermit, Changes, ExclusivePermit},
    worker::{DeliveryEnd, Ended, LAST_TRIES},
};
use runtime::{Shutdown, error_chain};

/// The state of a consumer that runs until the process ends.
pub(super) struct Run<'c> {
    consumer: &'c Consumer,
    shared: Arc<Shared>,
    in_flight: Mutex<InFlight<'c>>,
    /// Wakes the loop that reserves: fewer messages are in flight.
    freed: Notify,
}

/// The messages of this consumer that were reserved and are not settled.
#[derive(Default)]
struct InFlight<'c> {
    messages: usize,
    /// The number of those whose handler has not ended.
    unhandled: usize,
    /// The number of those of each partition.
    partitions: HashMap<String, usize>,
    /// Whether a reservation is on its way.
    reserving: bool,
    /// Ends the wait of the last reservation.
    interrupt: Arc<Notify>,
    /// Kept while a reservation is on its way or messages are in flight.
    permit: Option<ActivePermit<'c>>,
    /// Kept until the delivery of this consumer that is alone is settled. Not until its *message* is: another delivery of
    /// the same message may be in flight here, such as one that was released a moment ago and whose reply is on its way.
    alone: Option<ExclusivePermit<'c>>,
    /// Whether the handler of that suspect has not ended.
    suspect_works: bool,
}

impl<'c> Run<'c> {
    pub(super) fn new(consumer: &'c Consumer, shutdown: Shutdown) -> Self {
        Self {
            consumer,
            shared: consumer.worker.shared(shutdown),
            in_flight: Mutex::default(),
            freed: Notify::new(),
        }
    }

    pub(super) async fn consume(&self) {
        let (reserved, to_handle) = unbounded_channel();
        let (handled, to_settle) = unbounded_channel();
        tokio::join!(
            self.reserve_all(reserved),
            self.handle_all(to_handle, handled),
            self.settle_all(to_settle),
        );
    }

    fn isolation(&self) -> &'c Isolation {
        self.consumer.worker.bus.isolation()
    }

    async fn reserve_all(&self, reserved: UnboundedSender<Vec<Delivery>>) {
        let Shared {
            clock, shutdown, ..
        } = &*self.shared;
        let queue = self.consumer.queue;
        // A bus that does not answer must not delay the end of the process. Messages that it delivers now return when their
        // leases run out.
        let overtime = async {
            shutdown.cancelled().await;
            clock.sleep(LAST_TRIES).await;
        };
        tokio::pin!(overtime);
        let mut failures = 0;
        let mut changes = self.isolation().changes();
        while self.may_reserve(&mut changes).await {
            let request = self.request();
            let interrupt = request.interrupt.clone();
            let answer = tokio::select! {
                answer = self.consumer.reserve(request, failures, shutdown) => answer,
                never = self.interrupt(&interrupt) => match never {},
                () = &mut overtime => return,
            };
            match answer {
                Ok(deliveries) => {
                    if failures > 0 && !shutdown.is_stopping() {
                        info!(
                            queue = queue.name,
                            "bus answers again; resuming reservations"
                        );
                        failures = 0;
                    }
                    self.add_reserved(&deliveries);
                    // It fails after a panic of the loop that handles. The messages return when their leases run out.
                    let _ = reserved.send(deliveries);
                }
                Err(error) => {
                    self.in_flight.lock().reserving = false;
                    failures += 1;
                    if failures == 1 {
                        let error = error_chain(&error);
                        warn!(
                            queue = queue.name,
                            error, "cannot reserve messages; retrying"
                        );
                    }
                }
            }
        }
    }

    /// Waits until the concurrency allows another message; `false` when the process ends.
    async fn may_reserve(&self, changes: &mut Changes) -> bool {
        let concurrency = self.consumer.queue.policy.concurrency;
        while !self.shared.shutdown.is_stopping() {
            let wanted = self.isolation().is_wanted();
            {
                let mut in_flight = self.in_flight.lock();
                self.update_permit(&mut in_flight);
                let unsettled = in_flight.messages - in_flight.unhandled;
                if in_flight.permit.is_some()
                    && !wanted
                    && in_flight.unhandled < concurrency
                    // One batch of settlements is on its way, and one gathers.
                    && unsettled < 2 * concurrency
                {
                    return true;
                }
            }
            // `changes` is older than what was read above. So isolation that begins and ends before this waits is a change:
            // it took the permit, and only a change gives it back.
            tokio::select! {
                () = self.freed.notified() => {}
                () = changes.next() => {}
                () = self.shared.shutdown.stopping() => {}
            }
        }
        false
    }

    /// Drops the permit when isolation is requested and no other message is in flight, and gets one when it ends.
    fn update_permit(&self, in_flight: &mut InFlight<'c>) {
        if in_flight.messages == 0 {
            // A suspect whose task ended by itself was never settled.
            (in_flight.alone, in_flight.suspect_works) = (None, false);
        }
        let rests =
            !in_flight.reserving && in_flight.messages == usize::from(in_flight.suspect_works);
        if rests && self.isolation().is_wanted() {
            in_flight.permit = None;
        } else if in_flight.permit.is_none() && in_flight.alone.is_none() {
            in_flight.permit = self.isolation().enter();
        }
    }

    /// Interrupts a reservation that waits, when the process ends or isolation is requested.
    async fn interrupt(&self, interrupt: &Notify) -> Infallible {
        tokio::select! {
            () = self.shared.shutdown.stopping() => {}
            () = self.isolation().until_wanted() => {}
        }
        interrupt.notify_one();
        std::future::pending().await
    }

    fn request(&self) -> Reserve {
        let policy = self.consumer.queue.policy;
        let limit = |partition: &str| {
            self.consumer
                .partitions
                .get(partition)
                .copied()
                .unwrap_or(policy.partition_concurrency)
        };
        let (mut skip_partitions, wait) = self.consumer.held.at(self.shared.clock.as_ref());
        let mut in_flight = self.in_flight.lock();
        in_flight.reserving = true;
        in_flight.interrupt = Arc::default();
        let full = in_flight
            .partitions
            .iter()
            .filter(|(partition, unsettled)| **unsettled >= limit(partition));
        skip_partitions.extend(full.map(|(partition, _)| partition.clone()));
        Reserve {
            max: policy.concurrency - in_flight.unhandled,
            wait: wait.map_or(WAIT, |wait| wait.min(WAIT)),
            interrupt: in_flight.interrupt.clone(),
            skip_partitions,
        }
    }

    /// Counts reserved messages as in flight.
    fn add_reserved(&self, deliveries: &[Delivery]) {
        let mut in_flight = self.in_flight.lock();
        in_flight.reserving = false;
        in_flight.messages += deliveries.len();
        in_flight.unhandled += deliveries.len();
        for delivery in deliveries {
            if let Some(partition) = &delivery.envelope.partition {
                *in_flight.partitions.entry(partition.clone()).or_default() += 1;
            }
        }
    }

    async fn handle_all(
        &self,
        mut reserved: UnboundedReceiver<Vec<Delivery>>,
        handled: UnboundedSender<Vec<Ended>>,
    ) {
        let mut tasks = JoinSet::new();
        // The memory of a handler that has ended.
        let mut spare = None;
        let mut more = true;
        while more || !tasks.is_empty() {
            tokio::select! {
                deliveries = reserved.recv(), if more => match deliveries {
                    Some(deliveries) => {
                        let mut ended = Vec::with_capacity(deliveries.len());
                        // A handler that ended at once has read the time for the next one.
                        let mut now = None;
                        for delivery in deliveries {
                            let step = self.begin(delivery, now, &mut spare, &mut tasks);
                            now = step.as_ref().and_then(|ended| ended.at);
                            ended.extend(step);
                        }
                        self.end(ended, &handled);
                        // A queue that always has messages must leave the thread to other tasks.
                        tokio::task::yield_now().await;
                    }
                    None => more = false,
                },
                Some(ended) = tasks.join_next() => match ended {
                    Ok(ended) => self.end(vec![ended], &handled),
                    Err(error) => {
                        // A handler's panic is caught where it runs, so this is a fault of the loop. The partition of the
                        // message stays closed in this process.
                        error!(
                            %error,
                            "handler task failed; its message returns when the lease runs out"
                        );
                        let mut in_flight = self.in_flight.lock();
                        in_flight.messages -= 1;
                        in_flight.unhandled -= 1;
                        self.update_permit(&mut in_flight);
                        self.freed.notify_one();
                    }
                },
            }
        }
    }

    /// Runs the handler of a message. `now` is the time, if it is known. A handler that ends without waiting needs neither a
    /// task nor memory of its own; its result is returned.
    fn begin(
        &self,
        delivery: Delivery,
        now: Option<Timestamp>,
        spare: &mut Option<ReusableBoxFuture<'static, Ended>>,
        tasks: &mut JoinSet<Ended>,
    ) -> Option<Ended> {
        let suspect = delivery.unsettled_deliveries >= POISON_SUSPECT_DELIVERIES;
        let alone = if suspect {
            self.isolation().begin()
        } else {
            None
        };
        if self.shared.shutdown.is_stopping() || (suspect && alone.is_none()) {
            // It was not handled: the process ends, or another suspect comes first.
            return Some(Ended {
                delivery,
                alone: false,
                end: DeliveryEnd::Settled(Settlement::Release),
                updates: Vec::new(),
                at: None,
                hold_until: None,
            });
        }
        if let Some(alone) = alone {
            let mut in_flight = self.in_flight.lock();
            in_flight.alone = Some(alone);
            in_flight.suspect_works = true;
        }
        let work =
            Arc::clone(&self.consumer.worker).process(delivery, suspect, self.shared.clone(), now);
        let mut work = match spare.take() {
            Some(mut spare) => {
                spare.set(work);
                spare
            }
            None => ReusableBoxFuture::new(work),
        };
        let ended = (&mut work).now_or_never();
        match ended {
            Some(_) => *spare = Some(work),
            None => {
                tasks.spawn(work);
            }
        }
        ended
    }

    /// Sends messages whose handler has ended to the loop that settles.
    fn end(&self, ended: Vec<Ended>, handled: &UnboundedSender<Vec<Ended>>) {
        if ended.is_empty() {
            return;
        }
        {
            let mut in_flight = self.in_flight.lock();
            in_flight.unhandled -= ended.len();
            if ended.iter().any(|ended| ended.alone) {
                in_flight.suspect_works = false;
            }
        }
        // It fails after a panic of the loop that settles. The messages return when their leases run out.
        let _ = handled.send(ended);
        self.freed.notify_one();
    }

    async fn settle_all(&self, mut handled: UnboundedReceiver<Vec<Ended>>) {
        while let Some(mut batch) = handled.recv().await {
            while let Ok(more) = handled.try_recv() {
                batch.extend(more);
            }
            self.consumer
                .worker
                .settle(&batch, &self.shared.shutdown)
                .await;
            self.settled(&batch);
        }
    }

    /// Removes settled messages from those in flight.
    fn settled(&self, batch: &[Ended]) {
        {
            let mut in_flight = self.in_flight.lock();
            in_flight.messages -= batch.len();
            for ended in batch {
                if ended.alone {
                    in_flight.alone = None;
                }
                self.consumer.held.note(ended);
                let Some(partition) = &ended.delivery.envelope.partition else {
                    continue;
                };
                if let Some(unsettled) = in_flight.partitions.get_mut(partition) {
                    *unsettled -= 1;
                    if *unsettled == 0 {
                        in_flight.partitions.remove(partition);
                    }
                }
            }
            // While the process ends, the loop that reserves has ended, and does not update it.
            self.update_permit(&mut in_flight);
            if self.consumer.queue.partitions {
                in_flight.interrupt.notify_one();
            }
        }
        self.freed.notify_one();
    }
}
