//! How many messages a second go through the bus on this machine: `./dev bench`.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program that prints figures, or stops")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Bus, BusError, Clock, Consumer, Context, Handler, MemoryBus, Message, Policy, Producer, Queue, RedisBus, Shutdown,
    Subsystem, SystemClock, testing::RedisServer,
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Parcel {
    #[serde(with = "serde_bytes")]
    content: Vec<u8>,
}

impl Message for Parcel {
    const VERSION: u16 = 1;
}

const PARCELS: Queue<Parcel> = Queue::new("parcels", Policy { concurrency: 64, ..Policy::DEFAULT });
const MESSAGES: u32 = 20_000;
const SENDERS: u32 = 32;

struct Count(Arc<AtomicU32>);

#[async_trait]
impl Handler<Parcel> for Count {
    type Error = BusError;

    async fn handle(&self, _: Parcel, _: &Context) -> Result<(), BusError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Messages a second: sending 1 kB each from 32 tasks, then handling them one by one through `Consumer`.
async fn measure(bus: Arc<dyn Bus>) -> (f64, f64) {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let begin = clock.now();
    let senders = (0..SENDERS).map(|_| {
        let producer = Producer::new(bus.clone(), clock.clone());
        tokio::spawn(async move {
            for _ in 0..MESSAGES / SENDERS {
                let parcel = Parcel { content: vec![7; 1024] };
                producer.send(&PARCELS, &parcel).await.expect("the bus stores it");
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.expect("a sender ends");
    }
    let sent = clock.now();

    let handled = Arc::new(AtomicU32::new(0));
    let consumer = Consumer::new(bus, clock.clone(), PARCELS, Count(handled.clone()));
    let shutdown = Shutdown::new();
    let running = tokio::spawn(Box::new(consumer).run(shutdown.clone()));
    while handled.load(Ordering::Relaxed) < MESSAGES {
        clock.sleep(Duration::from_millis(1)).await;
    }
    let done = clock.now();
    shutdown.stop();
    running.await.expect("the consumer ends").expect("without an error");
    let rate = |from: jiff::Timestamp, to: jiff::Timestamp| f64::from(MESSAGES) / to.duration_since(from).as_secs_f64();
    (rate(begin, sent), rate(sent, done))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        println!("{:<28} {:>12} {:>12}", "1 kB messages a second", "send", "handle");
        let (send, handle) = measure(Arc::new(MemoryBus::new(Arc::new(SystemClock)))).await;
        println!("{:<28} {send:>12.0} {handle:>12.0}", "in this process");
        let directory = tempfile::tempdir().expect("a directory for redis");
        let server = RedisServer::start(directory.path()).await.expect("redis-server starts");
        let options = bus::RedisOptions { waiters: 32, ..server.options() };
        let redis = RedisBus::new(&options, &SystemClock).expect("a bus on it");
        let (send, handle) = measure(Arc::new(redis)).await;
        println!("{:<28} {send:>12.0} {handle:>12.0}", "redis, AOF everysec");
    });
}
