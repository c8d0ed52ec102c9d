//! The bus, through its public face.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Bus, BusError, Consumer, Context, Handler, MemoryBus, Message, Outcome, Policy, Producer,
    Queue, RedisBus, Reserve, SettleRequest, Settlement,
};
use runtime::{Clock, Service, Shutdown, SystemClock};
use serde::{Deserialize, Serialize};
use testkit::RedisServer;
use tokio::sync::{Notify, mpsc, watch};

use crate::scale::scale;

/// The size of a message's content, in bytes.
pub const SIZE: usize = 1024;
/// How many senders are at work at once.
pub const SENDERS: u32 = 128;
/// How many messages are read and settled together.
pub const BATCH: usize = 256;
/// How many messages may be on their way where sending and handling go on at once.
const WINDOW: u32 = 10_000;
/// The number of handled messages between two reports of progress to the waiting senders. If they polled, they would take
/// the processor and the cache from what is measured.
const REPORTED: u32 = 1_000;

#[derive(Serialize, Deserialize)]
struct Parcel {
    #[serde(with = "serde_bytes")]
    content: Vec<u8>,
}

impl Message for Parcel {
    const VERSION: u16 = 1;
}

fn parcel() -> Parcel {
    Parcel {
        content: vec![7; SIZE],
    }
}

const PARCELS: Queue<Parcel> = Queue::new(
    "parcels",
    Policy {
        concurrency: BATCH,
        ..Policy::DEFAULT
    },
);

/// As many bytes as an envelope with a parcel has on Redis.
pub fn envelope_size() -> usize {
    let outgoing = PARCELS
        .pack(&parcel(), &SystemClock)
        .expect("a parcel is packed");
    rmp_serde::to_vec_named(&outgoing.envelope)
        .expect("an envelope is encoded")
        .len()
}

fn on(server: &RedisServer) -> Arc<dyn Bus> {
    Arc::new(RedisBus::new(&server.options(), &SystemClock).expect("a bus on redis"))
}

/// Sends from many tasks, one message each at a time; they wait while [`WINDOW`] messages are not handled.
fn send_all(
    bus: &Arc<dyn Bus>,
    messages: u32,
    handled: Option<watch::Receiver<u32>>,
) -> tokio::task::JoinHandle<()> {
    let producer = Producer::new(bus.clone(), Arc::new(SystemClock));
    tokio::spawn(async move {
        let senders = (0..SENDERS).map(|_| {
            let (producer, mut handled) = (producer.clone(), handled.clone());
            tokio::spawn(async move {
                let mut until = WINDOW;
                for sent in 0..messages / SENDERS {
                    if let Some(handled) = handled.as_mut().filter(|_| sent * SENDERS > until) {
                        let has_room = |handled: &u32| sent * SENDERS <= handled + WINDOW;
                        let handled = handled.wait_for(has_room).await;
                        until = WINDOW + *handled.expect("the handler lives");
                    }
                    producer
                        .send(&PARCELS, &parcel())
                        .await
                        .expect("the bus stores it");
                }
            })
        });
        futures::future::try_join_all(senders)
            .await
            .expect("the senders end");
    })
}

pub fn rate(messages: u32, from: jiff::Timestamp) -> f64 {
    f64::from(messages) / SystemClock.now().duration_since(from).as_secs_f64()
}

/// Sends a second.
pub async fn enqueue(server: &RedisServer) -> f64 {
    let bus = on(server);
    bus.ping().await.expect("redis answers");
    let begin = SystemClock.now();
    send_all(&bus, scale().messages, None)
        .await
        .expect("the senders end");
    rate(scale().messages / SENDERS * SENDERS, begin)
}

/// Messages read and settled a second, the next batch being read while the last one is settled.
pub async fn consume(server: &RedisServer) -> f64 {
    let bus = on(server);
    send_all(&bus, scale().messages, None)
        .await
        .expect("the senders end");
    let queue = PARCELS.spec();
    let done = Settlement::Done { emit: Vec::new() };
    let begin = SystemClock.now();
    let (mut ended, mut last) = (0, Vec::<bus::Delivery>::new());
    loop {
        let settlements: Vec<_> = last
            .iter()
            .map(|delivery| SettleRequest::new(&delivery.lease, &done))
            .collect();
        let (settled, next) = tokio::join!(
            bus.settle_all(&settlements),
            bus.reserve(&queue, Reserve::now(BATCH))
        );
        ended += settled.expect("redis settles").len();
        last = next.expect("redis delivers");
        if last.is_empty() {
            return rate(u32::try_from(ended).expect("a number of messages"), begin);
        }
    }
}

struct Count {
    handled: AtomicU32,
    wanted: u32,
    progress: watch::Sender<u32>,
    all: Notify,
}

#[async_trait]
impl Handler<Parcel> for Arc<Count> {
    type Error = BusError;

    async fn handle(&self, parcel: Parcel, _: &Context) -> Result<Outcome, BusError> {
        assert!(parcel.content.len() == SIZE, "a parcel arrives whole");
        let handled = self.handled.fetch_add(1, Ordering::Relaxed) + 1;
        if handled.is_multiple_of(REPORTED) {
            self.progress.send_replace(handled);
        }
        if handled == self.wanted {
            self.all.notify_one();
        }
        Ok(Outcome::Done)
    }
}

/// Messages a second that are sent, handled by a consumer and settled, all at once.
async fn through_consumer(bus: Arc<dyn Bus>, messages: u32) -> f64 {
    let messages = messages / SENDERS * SENDERS;
    let count = Arc::new(Count {
        handled: AtomicU32::new(0),
        wanted: messages,
        progress: watch::Sender::new(0),
        all: Notify::new(),
    });
    let consumer = Consumer::new(bus.clone(), Arc::new(SystemClock), PARCELS, count.clone());
    let shutdown = Shutdown::new();
    let running = tokio::spawn(Box::new(consumer).run(shutdown.clone()));
    let begin = SystemClock.now();
    send_all(&bus, messages, Some(count.progress.subscribe()))
        .await
        .expect("the senders end");
    count.all.notified().await;
    shutdown.stop();
    running
        .await
        .expect("the consumer ends")
        .expect("without an error");
    let left = bus.depth(&PARCELS.spec()).await.expect("the bus answers");
    assert!(left.ready + left.in_flight == 0, "everything is settled");
    rate(messages, begin)
}

pub async fn through(server: &RedisServer) -> f64 {
    through_consumer(on(server), scale().messages).await
}

pub async fn memory_through() -> f64 {
    through_consumer(
        Arc::new(MemoryBus::new(Arc::new(SystemClock))),
        scale().messages * 10,
    )
    .await
}

struct Arrival(mpsc::UnboundedSender<jiff::Timestamp>);

#[async_trait]
impl Handler<Parcel> for Arrival {
    type Error = BusError;

    async fn handle(&self, _: Parcel, _: &Context) -> Result<Outcome, BusError> {
        let _ = self.0.send(SystemClock.now());
        Ok(Outcome::Done)
    }
}

/// Median of the time from the call to `send` until the handler begins, in µs.
pub async fn latency(server: &RedisServer) -> f64 {
    let bus = on(server);
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let consumer = Consumer::new(
        bus.clone(),
        Arc::new(SystemClock),
        PARCELS,
        Arrival(arrived),
    );
    let shutdown = Shutdown::new();
    let running = tokio::spawn(Box::new(consumer).run(shutdown.clone()));
    let producer = Producer::new(bus, Arc::new(SystemClock));
    let mut taken = Vec::with_capacity(scale().single);
    for _ in 0..scale().single {
        // The consumer has settled the last one and waits again.
        SystemClock.sleep(Duration::from_millis(2)).await;
        let begin = SystemClock.now();
        producer
            .send(&PARCELS, &parcel())
            .await
            .expect("the bus stores it");
        let arrived = arrivals.recv().await.expect("it arrives");
        taken.push(arrived.duration_since(begin).as_secs_f64() * 1e6);
    }
    shutdown.stop();
    running
        .await
        .expect("the consumer ends")
        .expect("without an error");
    crate::report::median(taken)
}
