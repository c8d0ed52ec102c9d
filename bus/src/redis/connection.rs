//! Connections to Redis, in a number that is fixed at the start.
//!
//! Two pools, since a blocking read and a command want opposite things: a command is to fail when the server does not
//! answer, a blocking read is to wait as long as it asked for, and one that is dropped half-way leaves a connection
//! that must not be used again (the server still has its command).

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, Runtime, Timeouts};
use redis::{AsyncConnectionConfig, ConnectionInfo, IntoConnectionInfo};
use secrecy::{ExposeSecret, SecretString};

use crate::BusError;

/// Where Redis is.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://` or `rediss://` (TLS, certificates verified) or `redis+unix://`. May hold a password.
    pub url: SecretString,
    /// Comes before every key, as its hash tag: deployments on one server need different ones.
    pub namespace: String,
    /// How many commands may run at once.
    pub connections: usize,
    /// How many queues may be waited for at once.
    pub waiters: usize,
}

const CONNECT: Duration = Duration::from_secs(2);
/// How long a server may take to answer a command.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

pub(super) struct Connections {
    commands: Pool,
    waits: Pool,
}

impl Connections {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, BusError> {
        let unfit =
            |error: &dyn std::fmt::Display| BusError::Unfit { reason: format!("its url is not usable: {error}") };
        let info = options.url.expose_secret().into_connection_info().map_err(|error| unfit(&error.category()))?;
        // Small requests and answers in turn: Nagle's algorithm would only hold them back.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let info = info.set_tcp_settings(tcp);
        let pool = |info: ConnectionInfo, answer: Option<Duration>, size: usize| {
            let config =
                AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(answer);
            let manager = Manager::new_with_config(info, config).map_err(|error| unfit(&error.category()))?;
            let timeouts = Timeouts { wait: Some(ANSWER), create: Some(CONNECT), recycle: Some(CONNECT) };
            Pool::builder(manager)
                .max_size(size)
                .timeouts(timeouts)
                .runtime(Runtime::Tokio1)
                .build()
                .map_err(|error| unfit(&error))
        };
        Ok(Self {
            commands: pool(info.clone(), Some(ANSWER), options.connections)?,
            waits: pool(info, None, options.waiters)?,
        })
    }

    pub(super) async fn command(&self, doing: &'static str) -> Result<Connection, BusError> {
        let got = self.commands.get().await;
        got.map_err(|source| BusError::Connection { doing, source: Box::new(source) })
    }

    pub(super) async fn blocking(&self) -> Result<Blocking, BusError> {
        let doing = "waiting for messages";
        let got = self.waits.get().await;
        let connection = got.map_err(|source| BusError::Connection { doing, source: Box::new(source) })?;
        Ok(Blocking { connection: Some(connection) })
    }
}

/// A connection that a blocking read runs on. Unless it is given back after the answer, it is thrown away: the server
/// may still hold the read.
pub(super) struct Blocking {
    connection: Option<Connection>,
}

impl Blocking {
    pub(super) fn get(&mut self) -> &mut impl redis::aio::ConnectionLike {
        // Only `give_back` and `drop` take it, and both end this value.
        #[expect(clippy::expect_used, reason = "no outside cause can empty it")]
        self.connection.as_mut().expect("a blocking connection is there until it is given back")
    }

    pub(super) fn give_back(mut self) {
        drop(self.connection.take());
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(Connection::take(connection));
        }
    }
}
