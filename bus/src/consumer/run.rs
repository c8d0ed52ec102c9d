//! A consumer at work: three loops side by side.
//!
//! * [`Run::reserve_all`] takes messages while there is room for them.
//! * [`Run::handle_all`] runs the handler.
//! * [`Run::settle_all`] writes how messages ended. While a batch is on its way the next one gathers, so the busier the
//!   queue is, the more messages share an exchange with the backend; an idle queue's message is settled alone and at once.
//!
//! Each hands its messages to the next, and ends when the one before it has ended and nothing is left. What all of them have
//! to know of the messages between reservation and settlement is in [`Hands`].

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
use uuid::Uuid;

use super::{Consumer, WAIT};
use crate::{
    Delivery, Isolation, POISON_SUSPECT_DELIVERIES, Reserve, Settlement,
    context::Shared,
    isolation::{ActivePermit, ExclusivePermit},
    worker::{Ended, LAST_TRIES, Verdict},
};
use runtime::{Shutdown, error_chain};

/// Handles messages until the process ends.
pub(super) struct Run<'c> {
    consumer: &'c Consumer,
    shared: Arc<Shared>,
    hands: Mutex<Hands<'c>>,
    /// Wakes the reservations: fewer messages are in our hands.
    freed: Notify,
}

/// The messages that were reserved and are not settled.
#[derive(Default)]
struct Hands<'c> {
    messages: usize,
    /// How many of them were not handled to their end.
    unhandled: usize,
    /// How many of them are of a partition.
    partitions: HashMap<String, usize>,
    /// Whether a reservation is on its way, and what interrupts the last one.
    reserving: bool,
    interrupt: Arc<Notify>,
    /// Held while a reservation is on its way or messages are in our hands.
    permit: Option<ActivePermit<'c>>,
    /// Held until a suspect of ours is settled, with its id.
    alone: Option<(ExclusivePermit<'c>, Uuid)>,
    /// Whether that suspect is handled now.
    suspect_works: bool,
}

impl Hands<'_> {
    fn is_suspect(&self, delivery: &Delivery) -> bool {
        self.alone
            .as_ref()
            .is_some_and(|(_, id)| *id == delivery.envelope.id)
    }
}

impl<'c> Run<'c> {
    pub(super) fn new(consumer: &'c Consumer, shutdown: Shutdown) -> Self {
        Self {
            consumer,
            shared: consumer.worker.shared(shutdown),
            hands: Mutex::default(),
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
        // A bus that does not answer must not keep the process: what it may give now comes back with its lease.
        let overtime = async {
            shutdown.cancelled().await;
            clock.sleep(LAST_TRIES).await;
        };
        tokio::pin!(overtime);
        let mut failures = 0;
        while self.may_reserve().await {
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
                        info!(queue = queue.name, "the bus answers again");
                        failures = 0;
                    }
                    self.take(&deliveries);
                    // It fails when nobody handles any more: those panicked, and the messages come back with their leases.
                    let _ = reserved.send(deliveries);
                }
                Err(error) => {
                    self.hands.lock().reserving = false;
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

    /// Waits until there is room for messages; `false` when nothing is to be reserved any more.
    async fn may_reserve(&self) -> bool {
        let concurrency = self.consumer.queue.policy.concurrency;
        while !self.shared.shutdown.is_stopping() {
            let wanted = self.isolation().is_wanted();
            {
                let mut hands = self.hands.lock();
                self.keep_apart(&mut hands);
                let unsettled = hands.messages - hands.unhandled;
                if hands.permit.is_some()
                    && !wanted
                    && hands.unhandled < concurrency
                    // One batch is on its way, and one gathers.
                    && unsettled < 2 * concurrency
                {
                    return true;
                }
            }
            tokio::select! {
                () = self.freed.notified() => {}
                () = self.isolation().until_wanted(!wanted) => {}
                () = self.shared.shutdown.stopping() => {}
            }
        }
        false
    }

    /// Leaves when a suspect wants to be alone and nothing else is in our hands; comes back when it is done.
    fn keep_apart(&self, hands: &mut Hands<'c>) {
        if hands.messages == 0 {
            // Also when the suspect's task ended by itself and so was never settled.
            (hands.alone, hands.suspect_works) = (None, false);
        }
        let rests = !hands.reserving && hands.messages == usize::from(hands.suspect_works);
        if rests && self.isolation().is_wanted() {
            hands.permit = None;
        } else if hands.permit.is_none() && hands.alone.is_none() {
            hands.permit = self.isolation().enter();
        }
    }

    /// Interrupts a reservation that waits when the process ends, or a suspect wants to be alone.
    async fn interrupt(&self, interrupt: &Notify) -> Infallible {
        tokio::select! {
            () = self.shared.shutdown.stopping() => {}
            () = self.isolation().until_wanted(true) => {}
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
        let mut hands = self.hands.lock();
        hands.reserving = true;
        hands.interrupt = Arc::default();
        let full = hands
            .partitions
            .iter()
            .filter(|(partition, unsettled)| **unsettled >= limit(partition));
        skip_partitions.extend(full.map(|(partition, _)| partition.clone()));
        Reserve {
            max: policy.concurrency - hands.unhandled,
            wait: wait.map_or(WAIT, |wait| wait.min(WAIT)),
            interrupt: hands.interrupt.clone(),
            skip_partitions,
        }
    }

    /// Notes what was reserved.
    fn take(&self, deliveries: &[Delivery]) {
        let mut hands = self.hands.lock();
        hands.reserving = false;
        hands.messages += deliveries.len();
        hands.unhandled += deliveries.len();
        for delivery in deliveries {
            if let Some(partition) = &delivery.envelope.partition {
                *hands.partitions.entry(partition.clone()).or_default() += 1;
            }
        }
    }

    async fn handle_all(
        &self,
        mut reserved: UnboundedReceiver<Vec<Delivery>>,
        handled: UnboundedSender<Vec<Ended>>,
    ) {
        let mut tasks = JoinSet::new();
        // The memory of a step that has ended.
        let mut spare = None;
        let mut more = true;
        while more || !tasks.is_empty() {
            tokio::select! {
                deliveries = reserved.recv(), if more => match deliveries {
                    Some(deliveries) => {
                        let mut ended = Vec::with_capacity(deliveries.len());
                        // Where one step ends at once, the next begins.
                        let mut now = None;
                        for delivery in deliveries {
                            let step = self.begin(delivery, now, &mut spare, &mut tasks);
                            now = step.as_ref().and_then(|ended| ended.at);
                            ended.extend(step);
                        }
                        self.end(ended, &handled);
                        // What is ready at once for ever must not keep the thread from others.
                        tokio::task::yield_now().await;
                    }
                    None => more = false,
                },
                Some(ended) = tasks.join_next() => match ended {
                    Ok(ended) => self.end(vec![ended], &handled),
                    Err(error) => {
                        // A handler's panic is caught where it runs, so this is a fault of the loop. The message comes
                        // back when its lease runs out; its partition stays closed in this process.
                        error!(%error, "a worker task ended by itself");
                        let mut hands = self.hands.lock();
                        hands.messages -= 1;
                        hands.unhandled -= 1;
                        self.keep_apart(&mut hands);
                        self.freed.notify_one();
                    }
                },
            }
        }
    }

    /// Begins with a message `now`, when that is known. Many steps end without waiting for anything; those need neither a task
    /// nor memory of their own, and are returned.
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
            // Nobody has touched it: the process ends, or another suspect comes first.
            return Some(Ended {
                delivery,
                verdict: Verdict::Settled(Settlement::Release),
                updates: Vec::new(),
                at: None,
                hold_until: None,
            });
        }
        if let Some(alone) = alone {
            let mut hands = self.hands.lock();
            hands.alone = Some((alone, delivery.envelope.id));
            hands.suspect_works = true;
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

    /// Hands messages on whose handler has ended.
    fn end(&self, ended: Vec<Ended>, handled: &UnboundedSender<Vec<Ended>>) {
        if ended.is_empty() {
            return;
        }
        {
            let mut hands = self.hands.lock();
            hands.unhandled -= ended.len();
            if ended.iter().any(|ended| hands.is_suspect(&ended.delivery)) {
                hands.suspect_works = false;
            }
        }
        // It fails when nobody settles any more: those panicked, and the messages come back with their leases.
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

    /// Forgets messages that are settled.
    fn settled(&self, batch: &[Ended]) {
        {
            let mut hands = self.hands.lock();
            hands.messages -= batch.len();
            for ended in batch {
                if hands.is_suspect(&ended.delivery) {
                    hands.alone = None;
                }
                self.consumer.held.note(ended);
                let Some(partition) = &ended.delivery.envelope.partition else {
                    continue;
                };
                if let Some(unsettled) = hands.partitions.get_mut(partition) {
                    *unsettled -= 1;
                    if *unsettled == 0 {
                        hands.partitions.remove(partition);
                    }
                }
            }
            // While the process ends, the loop that reserves has ended, and does not do it.
            self.keep_apart(&mut hands);
            if self.consumer.queue.partitions {
                hands.interrupt.notify_one();
            }
        }
        self.freed.notify_one();
    }
}
