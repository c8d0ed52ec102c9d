//! The same commands by a bare Redis client, without anything that makes a bus of them.

use std::time::Duration;

use events::queues::BUILD_LOAD;
use redis::{AsyncConnectionConfig, Client, Value, aio::MultiplexedConnection};
use runtime::{Clock, SystemClock};
use testkit::RedisServer;
use tokio::sync::mpsc;

use crate::{
    ours::{BATCH, SENDERS, envelope_size, rate},
    scale::scale,
};

type Read = Option<Vec<(String, Vec<(String, Vec<Vec<u8>>)>)>>;

pub struct Bare {
    client: Client,
    connection: MultiplexedConnection,
}

impl Bare {
    pub async fn connect(server: &RedisServer) -> Self {
        let client = Client::open(server.url()).expect("an address");
        let connection = connect(&client).await;
        Self { client, connection }
    }

    /// Empties Redis and its append-only file. A file that grows from measure to measure is rewritten in the middle of one.
    pub async fn flush(&mut self) {
        let _: Value = redis::cmd("FLUSHALL")
            .query_async(&mut self.connection)
            .await
            .expect("redis flushes");
        self.no_rewrite().await;
        let _: Value = redis::cmd("BGREWRITEAOF")
            .query_async(&mut self.connection)
            .await
            .expect("redis rewrites its file");
        self.no_rewrite().await;
    }

    /// How many messages the queue `build:load` has.
    pub async fn builds(&mut self) -> u32 {
        redis::cmd("XLEN")
            .arg(format!("{{events}}:{}:ready", BUILD_LOAD.spec().name))
            .query_async(&mut self.connection)
            .await
            .expect("redis counts")
    }

    /// Switches the append-only file, synced every second, on or off.
    pub async fn append_only(&mut self, on: bool) {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET")
            .arg("appendonly")
            .arg(if on { "yes" } else { "no" });
        let _: Value = set
            .query_async(&mut self.connection)
            .await
            .expect("redis is configured");
        self.no_rewrite().await;
    }

    /// Waits until no rewrite of the append-only file is on its way.
    async fn no_rewrite(&mut self) {
        loop {
            let mut info = redis::cmd("INFO");
            let info: String = info
                .arg("persistence")
                .query_async(&mut self.connection)
                .await
                .expect("redis tells");
            if info.contains("aof_rewrite_in_progress:0")
                && info.contains("aof_rewrite_scheduled:0")
            {
                return;
            }
            SystemClock.sleep(Duration::from_millis(20)).await;
        }
    }

    fn send_all(&self) -> tokio::task::JoinHandle<()> {
        let connection = self.connection.clone();
        tokio::spawn(async move {
            let body = vec![7_u8; envelope_size()];
            let senders = (0..SENDERS).map(|_| {
                let (mut connection, body) = (connection.clone(), body.clone());
                tokio::spawn(async move {
                    for _ in 0..scale().messages / SENDERS {
                        add(&mut connection, &body).await;
                    }
                })
            });
            futures::future::try_join_all(senders)
                .await
                .expect("the senders end");
        })
    }

    pub async fn enqueue(&mut self) -> f64 {
        let begin = SystemClock.now();
        self.send_all().await.expect("the senders end");
        rate(scale().messages / SENDERS * SENDERS, begin)
    }

    async fn group(&mut self) {
        let mut group = redis::cmd("XGROUP");
        group
            .arg("CREATE")
            .arg("q")
            .arg("g")
            .arg("0")
            .arg("MKSTREAM");
        let _: Value = group
            .query_async(&mut self.connection)
            .await
            .expect("redis makes a group");
    }

    pub async fn consume(&mut self) -> f64 {
        self.send_all().await.expect("the senders end");
        self.group().await;
        let begin = SystemClock.now();
        let mut connection = self.connection.clone();
        rate(drain(&mut connection, None).await, begin)
    }

    pub async fn through(&mut self) -> f64 {
        self.group().await;
        let mut connection = connect(&self.client).await;
        let begin = SystemClock.now();
        let wanted = scale().messages / SENDERS * SENDERS;
        let drained = tokio::spawn(async move { drain(&mut connection, Some(wanted)).await });
        self.send_all().await.expect("the senders end");
        rate(drained.await.expect("everything is read"), begin)
    }

    pub async fn latency(&mut self) -> f64 {
        self.group().await;
        let (arrived, mut arrivals) = mpsc::unbounded_channel();
        let (mut waits, mut acks) = (connect(&self.client).await, connect(&self.client).await);
        let reader = tokio::spawn(async move {
            for _ in 0..scale().single {
                let mut read = read();
                read.arg("BLOCK")
                    .arg(10_000)
                    .arg("STREAMS")
                    .arg("q")
                    .arg(">");
                let read: Read = read.query_async(&mut waits).await.expect("redis delivers");
                let _ = arrived.send(SystemClock.now());
                let ids: Vec<String> = read
                    .into_iter()
                    .flatten()
                    .flat_map(|stream| stream.1)
                    .map(|entry| entry.0)
                    .collect();
                let _: Value = ack(&ids)
                    .query_async(&mut acks)
                    .await
                    .expect("redis takes it away");
            }
        });
        let body = vec![7_u8; envelope_size()];
        let mut taken = Vec::with_capacity(scale().single);
        for _ in 0..scale().single {
            SystemClock.sleep(Duration::from_millis(2)).await;
            let begin = SystemClock.now();
            add(&mut self.connection, &body).await;
            let arrived = arrivals.recv().await.expect("it arrives");
            taken.push(arrived.duration_since(begin).as_secs_f64() * 1e6);
        }
        reader.await.expect("the reader ends");
        crate::report::median(taken)
    }
}

async fn connect(client: &Client) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .expect("redis answers")
}

async fn add(connection: &mut MultiplexedConnection, body: &[u8]) {
    let mut add = redis::cmd("XADD");
    add.arg("q").arg("*").arg("a").arg(0).arg("e").arg(body);
    let _: Value = add.query_async(connection).await.expect("redis stores it");
}

fn read() -> redis::Cmd {
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(BATCH);
    read
}

fn ack(ids: &[String]) -> redis::Pipeline {
    let mut ack = redis::pipe();
    ack.cmd("XACK")
        .arg("q")
        .arg("g")
        .arg(ids)
        .ignore()
        .cmd("XDEL")
        .arg("q")
        .arg(ids)
        .ignore();
    ack
}

/// Reads and acknowledges in one pipeline until nothing is left, or `wanted` were read.
async fn drain(connection: &mut MultiplexedConnection, wanted: Option<u32>) -> u32 {
    let (mut count, mut ids) = (0, Vec::new());
    loop {
        let mut pipe = if ids.is_empty() {
            redis::pipe()
        } else {
            ack(&ids)
        };
        let mut next = read();
        next.arg("STREAMS").arg("q").arg(">");
        let (entries,): (Read,) = pipe
            .add_command(next)
            .query_async(connection)
            .await
            .expect("redis delivers");
        ids = entries
            .into_iter()
            .flatten()
            .flat_map(|stream| stream.1)
            .map(|entry| entry.0)
            .collect();
        count += u32::try_from(ids.len()).expect("a number of messages");
        if ids.is_empty() && wanted.is_none_or(|wanted| count >= wanted) {
            return count;
        }
    }
}
