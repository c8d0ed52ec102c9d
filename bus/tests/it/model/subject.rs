//! The bus that is compared with the model, its two workers and its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bus::{Bus, MemoryBus, RedisBus, RedisOptions};
use redis::{Script, aio::MultiplexedConnection};
use runtime::{ManualClock, SystemClock};
use tempfile::TempDir;
use testkit::RedisServer;

use super::steps::{KEYS, QUEUES};

pub struct Subject {
    /// What each of two workers sees: in one process the same bus.
    pub workers: [Arc<dyn Bus>; 2],
    time: Time,
}

enum Time {
    Manual(Arc<ManualClock>),
    Redis(RedisOptions, MultiplexedConnection),
}

/// Where one subject after the other comes from.
pub enum Backend {
    Memory,
    Redis {
        server: RedisServer,
        connection: MultiplexedConnection,
        number: AtomicUsize,
        _directory: TempDir,
    },
}

impl Backend {
    pub async fn redis() -> Self {
        let directory = TempDir::new().unwrap();
        let server = RedisServer::start(directory.path()).await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        Self::Redis {
            server,
            connection,
            number: AtomicUsize::new(0),
            _directory: directory,
        }
    }

    /// An empty bus.
    pub fn subject(&self) -> Subject {
        match self {
            Self::Memory => {
                let clock = Arc::new(ManualClock::new("2026-11-21T12:00:00Z".parse().unwrap()));
                let bus = Arc::new(MemoryBus::new(clock.clone()));
                Subject {
                    workers: [bus.clone(), bus],
                    time: Time::Manual(clock),
                }
            }
            Self::Redis {
                server,
                connection,
                number,
                ..
            } => {
                let namespace = number.fetch_add(1, Ordering::Relaxed).to_string();
                let options = RedisOptions {
                    namespace,
                    ..server.options()
                };
                let workers = [process(&options), process(&options)];
                Subject {
                    workers,
                    time: Time::Redis(options, connection.clone()),
                }
            }
        }
    }
}

fn process(options: &RedisOptions) -> Arc<dyn Bus> {
    Arc::new(RedisBus::new(options, &SystemClock).unwrap())
}

impl Subject {
    /// Replaces a process that died with one that has none of its leases.
    pub fn crash(&mut self, worker: usize) {
        if let Time::Redis(options, _) = &self.time {
            self.workers[worker] = process(options);
        }
    }

    /// Lets time pass. On Redis it is the server's: there everything is made older instead.
    pub async fn pass(&mut self, time: Duration) {
        match &mut self.time {
            Time::Manual(clock) => clock.advance(time),
            Time::Redis(options, connection) => {
                let script = Script::new(include_str!("time_machine.lua"));
                let mut call = script.key(format!("{{{}}}:", options.namespace));
                call.arg(time.as_millis().to_string()).arg(QUEUES.len());
                QUEUES.iter().for_each(|queue| {
                    call.arg(queue.name);
                });
                KEYS.iter().for_each(|key| {
                    call.arg(*key);
                });
                let () = call.invoke_async(connection).await.unwrap();
            }
        }
    }
}
