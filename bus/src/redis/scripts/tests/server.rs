//! A Redis that the scripts run on, with messages of each kind.

use std::collections::BTreeMap;

use redis::{FromRedisValue, RedisError, Script, aio::MultiplexedConnection};
use tempfile::TempDir;
use testkit::RedisServer;

use super::super::GROUP;

pub(super) struct Server {
    pub(super) connection: MultiplexedConnection,
    server: RedisServer,
    _directory: TempDir,
}

impl Server {
    pub(super) async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let server = RedisServer::start(directory.path()).await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        Self {
            connection: client.get_multiplexed_async_connection().await.unwrap(),
            server,
            _directory: directory,
        }
    }

    pub(super) async fn command<T: FromRedisValue>(&self, command: &[&str]) -> T {
        self.server.command(command).await.unwrap()
    }

    /// All keys with what they hold.
    pub(super) async fn keyspace(&self) -> BTreeMap<String, Vec<u8>> {
        self.server.keyspace().await.unwrap()
    }

    pub(super) async fn call(
        &mut self,
        script: &Script,
        keys: &[&str],
        arguments: &[Vec<u8>],
    ) -> Result<redis::Value, RedisError> {
        let mut command = redis::cmd("EVALSHA");
        command
            .arg(script.get_hash())
            .arg(keys.len())
            .arg(keys)
            .arg(arguments);
        command.query_async(&mut self.connection).await
    }

    /// Makes a call that must fail and change nothing.
    pub(super) async fn refuses(
        &mut self,
        name: &str,
        script: &Script,
        keys: &[&str],
        arguments: &[Vec<u8>],
    ) {
        let before = self.keyspace().await;
        let answer = self.call(script, keys, arguments).await;
        let shown: Vec<_> = arguments
            .iter()
            .map(|argument| String::from_utf8_lossy(argument))
            .collect();
        assert!(answer.is_err(), "{name} accepts {shown:?}: {answer:?}");
        assert!(
            self.keyspace().await == before,
            "{name} changes something and then fails with {shown:?}: {answer:?}"
        );
    }

    /// Empties the server, and fills two queues with messages of each kind. `me` has half of the ready ones in flight.
    pub(super) async fn refill(&mut self) {
        let mut fill = redis::pipe();
        fill.cmd("FLUSHALL");
        for stream in ["{test}:notes:ready", "{test}:partitioned:partition:x"] {
            for entry in 1..=8 {
                fill.cmd("XADD").arg(stream).arg(format!("{entry}-0"));
                fill.arg(&["a", "0", "e", "envelope"]);
            }
            fill.cmd("XGROUP")
                .arg("CREATE")
                .arg(stream)
                .arg(GROUP)
                .arg("0");
            fill.cmd("XREADGROUP").arg("GROUP").arg(GROUP).arg("me");
            fill.arg("COUNT").arg(4).arg("STREAMS").arg(stream).arg(">");
        }
        fill.cmd("SADD")
            .arg("{test}:partitioned:partitions")
            .arg("x");
        for queue in ["notes", "partitioned"] {
            let key = |part: &str| format!("{{test}}:{queue}:{part}");
            for number in 0..5 {
                let (id, at) = (format!("letter-{number}"), 1000 + number);
                fill.cmd("ZADD")
                    .arg(key("delayed"))
                    .arg(at)
                    .arg(format!("member {number}"));
                fill.cmd("ZADD").arg(key("dead")).arg(at).arg(&id);
                fill.cmd("HSET").arg(key("letters")).arg(&id).arg("why");
                fill.cmd("HSET").arg(key("bodies")).arg(&id).arg("body");
            }
        }
        let _: Vec<redis::Value> = fill.query_async(&mut self.connection).await.unwrap();
    }
}
