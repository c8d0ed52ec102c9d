//! A Redis of its own for a test, with a bus on it.

use std::{collections::BTreeMap, sync::Arc};

use bus::{Bus, Delivery, Queue, RedisBus};
use runtime::SystemClock;
use tempfile::TempDir;
use testkit::RedisServer;

use crate::world::{Note, packed, reserve_up_to};

pub struct RedisWorld {
    pub server: RedisServer,
    pub bus: Arc<RedisBus>,
    _directory: TempDir,
}

impl RedisWorld {
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = RedisServer::start(directory.path()).await.unwrap();
        let bus = Arc::new(RedisBus::new(&server.options(), &SystemClock).unwrap());
        Self {
            server,
            bus,
            _directory: directory,
        }
    }

    /// Runs a command of Redis beside the bus.
    pub async fn command<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        self.server.command(command).await.unwrap()
    }

    /// All keys with what they hold.
    pub async fn keyspace(&self) -> BTreeMap<String, Vec<u8>> {
        self.server.keyspace().await.unwrap()
    }

    pub async fn send(&self, queue: &Queue<Note>, text: &str) {
        self.bus.push(vec![packed(queue, text)]).await.unwrap();
    }

    pub async fn reserve(&self, queue: &Queue<Note>) -> Delivery {
        self.reserve_up_to(queue, 1)
            .await
            .pop()
            .expect("a message is ready")
    }

    pub async fn reserve_up_to(&self, queue: &Queue<Note>, max: usize) -> Vec<Delivery> {
        reserve_up_to(self.bus.as_ref(), queue, max).await
    }
}
