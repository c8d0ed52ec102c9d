//! Connections to Redis, in a number that is fixed at the start.
//!
//! One connection carries all commands of the process: what is asked at the same time shares a write and a read. Waiting
//! blocks a connection on the server's side, so each wait has one of its own, from a small pool. A wait is ended by
//! `CLIENT UNBLOCK`, never by dropping it: a server that is about to answer a dropped wait gives a message to nobody.

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

/// Where Redis is.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://`, `rediss://` (TLS, certificates verified), `redis+unix://`, `redis+sentinel://node,node/master` or
    /// `redis+cluster://node,node`. May hold a password.
    pub url: SecretString,
    /// Comes before every key, as its hash tag: deployments on one server need different ones.
    pub namespace: String,
    /// For TLS: the certificates (PEM) to trust instead of the machine's.
    pub ca: Option<Vec<u8>>,
    /// How many queues may be waited for at once.
    pub waiters: usize,
}

const CONNECT: Duration = Duration::from_secs(2);

/// How long a server may take to answer a command, or to be found and connected to.
const ANSWER: Duration = Duration::from_secs(5);

/// How soon a wait that was not there yet is asked to end again.
const UNBLOCK_AGAIN: Duration = Duration::from_millis(10);

/// The connections of one process.
pub(super) struct Connections {
    endpoint: Arc<Endpoint>,
    /// The connection for commands, with the generation in which it was made.
    current: RwLock<Option<(u64, MultiplexedConnection)>>,
    /// Held while it is made.
    making: Mutex<()>,
    /// Each connection that proves broken begins another one. Those of earlier eras are not used again: what broke one
    /// (the server died, or is no longer the master) most likely broke all.
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

    /// Runs a pipeline that ignores errors: each command has its own result.
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

    /// Runs something on the connection for commands; one that proves broken is thrown away.
    pub(super) async fn run<T>(
        &self,
        doing: &'static str,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, BusError> {
        self.ask(ask).await.map_err(BusError::redis(doing))
    }

    /// The same, with the client's own error.
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

    /// Ends the generation of a connection that proved broken, unless it has ended already.
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
            // It may have ended meanwhile.
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
            // A server that vanished without a word would be waited for without end.
            let answer = tokio::time::timeout(block + ANSWER, command.query_async(connection));
            tokio::pin!(answer);
            tokio::select! {
                answer = &mut answer => answer,
                () = interrupt.notified() => loop {
                    let again = match self.unblock(*id, *generation).await {
                        Ok(false) => UNBLOCK_AGAIN,
                        _ => block + ANSWER,
                    };
                    // It may not have begun yet when it was asked to end.
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

    /// Ends the wait with this number; false when there is none yet. After another generation began there is nobody to ask: the
    /// number may be another's on another server. The wait ends by itself.
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

/// A connection that waits. Unless it is taken out after the answer, it is thrown away: the server may still have the
/// wait, and closing the connection ends that.
struct Blocking(Option<Object<BlockingPool>>);

impl Drop for Blocking {
    fn drop(&mut self) {
        self.0.take().map(Object::take);
    }
}

fn silent() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "redis does not answer").into()
}

/// Makes the connections that wait.
struct BlockingPool {
    endpoint: Arc<Endpoint>,
    generation: Arc<AtomicU64>,
}

struct Wait {
    connection: MultiplexedConnection,
    /// The server's number for it.
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
        // One that broke was taken out then; what else is wrong, the next wait finds out.
        if wait.generation == self.generation.load(Ordering::SeqCst) {
            Ok(())
        } else {
            Err(RecycleError::message(
                "it may lead to a server that is gone",
            ))
        }
    }
}
