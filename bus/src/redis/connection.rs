//! Connections to Redis. Their maximum number is fixed at the start.
//!
//! One connection carries all commands of the process: commands at the same time share a write and a read. A wait blocks its
//! connection on the server, so each wait has a connection of its own, from a small pool. `CLIENT UNBLOCK` ends a wait. A
//! wait is never dropped: the server may be about to answer it with a message, which nobody would handle then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;

use deadpool::{
    Runtime,
    managed::{Manager, Metrics, Object, Pool, RecycleError, RecycleResult, Timeouts},
};
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value,
    aio::MultiplexedConnection,
};
use secrecy::SecretString;
use tokio::sync::{Mutex, Notify};

use super::endpoint::{Endpoint, is_broken};
use crate::BusError;

/// The address of Redis, and how to use it.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://`, `rediss://` (TLS, certificates verified), `redis+unix://`, `redis+sentinel://node,node/master` or
    /// `redis+cluster://node,node`. May hold a password.
    pub url: SecretString,
    /// The hash tag at the beginning of every key. Deployments on one server need different ones.
    pub namespace: String,
    /// The certificates (PEM) that TLS trusts instead of the machine's.
    pub ca: Option<Vec<u8>>,
    /// The maximum number of reservations that wait at once, each on a connection of its own.
    pub waiters: usize,
}

/// The time limit of one connection attempt.
const CONNECT: Duration = Duration::from_secs(2);

/// The time limit of a command, and of finding the server and connecting to it.
const ANSWER: Duration = Duration::from_secs(5);

/// The pause before `CLIENT UNBLOCK` is retried for a wait that had not begun.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(10);

/// The connections of one process.
pub(super) struct Connections {
    endpoint: Arc<Endpoint>,
    /// The connection for commands, with the generation in which it was made.
    current: RwLock<Option<(u64, MultiplexedConnection)>>,
    /// Locked while that connection is made.
    making: Mutex<()>,
    /// Incremented when a connection breaks. Connections of earlier generations are not used again: the cause (the server
    /// died, or is no longer the master) most likely broke all of them.
    generation: Arc<AtomicU64>,
    waits: Pool<BlockingPool>,
}

impl Connections {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, BusError> {
        let endpoint = Arc::new(Endpoint::new(options)?);
        let generation = Arc::default();
        let waits = Pool::builder(BlockingPool {
            endpoint: Arc::clone(&endpoint),
            generation: Arc::clone(&generation),
        })
        .max_size(options.waiters)
        .timeouts(Timeouts {
            wait: Some(ANSWER),
            create: Some(ANSWER),
            recycle: None,
        })
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| BusError::Unfit {
            reason: error.to_string(),
        })?;
        Ok(Self {
            endpoint,
            current: RwLock::default(),
            making: Mutex::default(),
            generation,
            waits,
        })
    }

    /// Whether the url names the server itself, so that no other can take its place.
    pub(super) fn is_single(&self) -> bool {
        self.endpoint.is_single()
    }

    /// Runs one command.
    pub(super) async fn command<T: FromRedisValue>(
        &self,
        doing: &'static str,
        command: &Cmd,
    ) -> Result<T, BusError> {
        self.run(doing, async |connection| {
            command.query_async(connection).await
        })
        .await
    }

    /// Runs a pipeline that ignores errors: each command has a result of its own.
    pub(super) async fn pipeline(
        &self,
        doing: &'static str,
        pipeline: &Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, BusError> {
        let (generation, mut connection) =
            self.connection().await.map_err(BusError::redis(doing))?;
        let answers: RedisResult<Vec<RedisResult<Value>>> =
            pipeline.query_async(&mut connection).await;
        let failures = answers
            .iter()
            .flatten()
            .filter_map(|answer| answer.as_ref().err())
            .chain(answers.as_ref().err());
        if { failures }.any(is_broken) {
            self.broke(generation);
        }
        answers.map_err(BusError::redis(doing))
    }

    /// Runs commands on the connection for commands. `doing` is the operation that an error names. A connection that breaks
    /// is not used again.
    pub(super) async fn run<T>(
        &self,
        doing: &'static str,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, BusError> {
        self.ask(ask).await.map_err(BusError::redis(doing))
    }

    /// [`Self::run`] with the error of the client.
    pub(super) async fn ask<T>(
        &self,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let (generation, mut connection) = self.connection().await?;
        let answer = ask(&mut connection).await;
        if answer.as_ref().is_err_and(is_broken) {
            self.broke(generation);
        }
        answer
    }

    /// Ends the generation of a connection that broke, unless it has ended already.
    fn broke(&self, generation: u64) {
        let mut current = self.current.write();
        if self
            .generation
            .compare_exchange(
                generation,
                generation + 1,
                Ordering::SeqCst,
                Ordering::SeqCst,
            )
            .is_ok()
        {
            *current = None;
        }
    }

    async fn connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        let current = || self.current.read().clone();
        if let Some(connection) = current() {
            return Ok(connection);
        }
        let connect = async {
            let _making = self.making.lock().await;
            if let Some(connection) = current() {
                return Ok(connection);
            }
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(Some(ANSWER));
            let generation = self.generation.load(Ordering::SeqCst);
            let made = (generation, self.endpoint.connect(&config).await?);
            let mut current = self.current.write();
            // The generation may have ended meanwhile.
            if self.generation.load(Ordering::SeqCst) == generation {
                *current = Some(made.clone());
            }
            Ok(made)
        };
        tokio::time::timeout(ANSWER, connect)
            .await
            .unwrap_or_else(|_| Err(silent()))
    }

    /// Runs a command that blocks on the server for `block` at most. `interrupt` ends it early.
    pub(super) async fn wait(
        &self,
        command: &Cmd,
        block: Duration,
        interrupt: &Notify,
    ) -> Result<Value, BusError> {
        let doing = "waiting for messages";
        let got = self.waits.get().await;
        let wait = got.map_err(|source| BusError::Connection {
            doing,
            source: Box::new(source),
        })?;
        let mut wait = Blocking(Some(wait));
        let Some(Wait {
            connection,
            id,
            generation,
        }) = wait.0.as_deref_mut()
        else {
            return Ok(Value::Nil);
        };
        let answer = {
            // A server that vanishes closes no connection, so the wait needs a limit.
            let answer = tokio::time::timeout(block + ANSWER, command.query_async(connection));
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => answer,
                () = interrupt.notified() => loop {
                    let again = match self.unblock(*id, *generation).await {
                        Ok(false) => UNBLOCK_AGAIN,
                        _ => block + ANSWER,
                    };
                    // The wait may not have begun when `CLIENT UNBLOCK` arrived.
                    if let Ok(answer) = tokio::time::timeout(again, &mut answer).await {
                        break answer;
                    }
                },
            }
        };
        let answer = answer.unwrap_or_else(|_| Err(silent()));
        if answer.as_ref().is_err_and(is_broken) {
            self.broke(*generation);
        } else {
            drop(wait.0.take());
        }
        answer.map_err(BusError::redis(doing))
    }

    /// Ends the wait of the connection with this id. Returns `false` when it has not begun. In a later generation it does
    /// nothing: another server may have given the id to another connection. The wait ends by itself.
    async fn unblock(&self, id: i64, generation: u64) -> RedisResult<bool> {
        let (now, mut connection) = self.connection().await?;
        if now != generation {
            return Ok(true);
        }
        redis::cmd("CLIENT")
            .arg("UNBLOCK")
            .arg(id)
            .query_async(&mut connection)
            .await
    }
}

/// A connection that waits. It is closed unless it is taken out after the reply: the server may still have the wait, which a
/// closed connection ends.
struct Blocking(Option<Object<BlockingPool>>);

impl Drop for Blocking {
    fn drop(&mut self) {
        self.0.take().map(Object::take);
    }
}

fn silent() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "redis does not answer").into()
}

/// Makes connections for waits.
struct BlockingPool {
    endpoint: Arc<Endpoint>,
    generation: Arc<AtomicU64>,
}

struct Wait {
    connection: MultiplexedConnection,
    /// The server's id of the connection.
    id: i64,
    generation: u64,
}

impl Manager for BlockingPool {
    type Type = Wait;
    type Error = RedisError;

    async fn create(&self) -> Result<Wait, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None);
        let generation = self.generation.load(Ordering::SeqCst);
        let mut connection = self.endpoint.connect(&config).await?;
        let id = redis::cmd("CLIENT")
            .arg("ID")
            .query_async(&mut connection)
            .await?;
        Ok(Wait {
            connection,
            id,
            generation,
        })
    }

    async fn recycle(&self, wait: &mut Wait, _: &Metrics) -> RecycleResult<RedisError> {
        // A connection that broke is not in the pool; the next wait notices anything else.
        if wait.generation == self.generation.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(RecycleError::message(
                "the connection is of an earlier generation",
            ))
        }
    }
}
