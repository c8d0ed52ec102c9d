//! One server.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
};

use lapin::{
    Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use pulse::{Publisher, PulseError, PulseMessage, PulseSettings};
use runtime::SystemClock;
use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{
    definitions::{ADMIN, USER},
    process::Process,
};
use crate::Authority;

/// A virtual host of a `rabbitmq-server` with one Pulse user. The server is a child process, which ends when
/// the last value that uses it is dropped.
///
/// The user has exactly the permissions that PulseGuardian gives. What the rest of Mozilla does on Pulse (own exchanges,
/// publish, delete queues) an administrator does through the methods of this value.
pub struct RabbitServer {
    server: Server,
    vhost: String,
    publisher: Publisher,
    administrator: Mutex<Option<Connection>>,
}

enum Server {
    Own(Process),
    Shared(Arc<Shared>),
    Lent(Lent),
}

impl Server {
    fn process(&self) -> &Process {
        match self {
            Self::Own(process) => process,
            Self::Shared(shared) => &shared.process,
            Self::Lent(lent) => &lent.idle.process,
        }
    }
}

/// A server whose virtual hosts go to several tests of this process: to start one costs seconds of processor time.
struct Shared {
    process: Process,
    vhosts: parking_lot::Mutex<Vhosts>,
    /// Removed with the last test that uses the server.
    _directory: TempDir,
}

/// The server that new tests share, as long as one of them lives.
static SHARED: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());

/// The virtual hosts of a server that no test had yet.
struct Vhosts(Vec<String>);

impl Vhosts {
    /// How many tests use a server; the next one starts another.
    const COUNT: usize = 16;

    fn new() -> Self {
        Self(
            (1..=Self::COUNT)
                .map(|number| format!("test-{number}"))
                .collect(),
        )
    }
}

/// A server that a test has for itself, and that goes to the next test afterwards.
struct Lent {
    idle: OwnedMutexGuard<Idle>,
    _lending: Arc<Lending>,
}

/// A server that can be lent. It runs, unless the last test has ended it.
struct Idle {
    process: Process,
    vhosts: Vhosts,
    directory: TempDir,
}

impl Idle {
    /// One that does not run yet.
    fn new() -> io::Result<Self> {
        let directory = TempDir::new()?;
        let vhosts = Vhosts::new();
        Ok(Self {
            process: Process::new(directory.path().to_owned(), &vhosts.0, None)?,
            vhosts,
            directory,
        })
    }
}

/// The servers that tests lend, as long as one of them lives.
struct Lending([Arc<Mutex<Idle>>; 2]);

static LENDING: Mutex<Weak<Lending>> = Mutex::const_new(Weak::new());

impl RabbitServer {
    /// Starts a server that keeps its files in `directory`, and waits until it answers. Its virtual host is `/`.
    pub async fn start(directory: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self::of(
            Server::Own(Process::start(directory.into(), None).await?),
            "/".to_owned(),
        ))
    }

    /// Starts a server that speaks TLS, and nothing else. Its certificate is for localhost, from `authority`.
    pub async fn start_with_tls(
        directory: impl Into<PathBuf>,
        authority: &Authority,
    ) -> io::Result<Self> {
        let process = Process::start(directory.into(), Some(authority)).await?;
        Ok(Self::of(Server::Own(process), "/".to_owned()))
    }

    /// An empty virtual host of a server that other tests of this process may use too. Such a server cannot be killed or
    /// restarted.
    pub async fn share() -> io::Result<Self> {
        let mut newest = SHARED.lock().await;
        if let Some(shared) = newest.upgrade() {
            let vhost = shared.vhosts.lock().0.pop();
            if let Some(vhost) = vhost {
                return Ok(Self::of(Server::Shared(shared), vhost));
            }
        }
        let Idle {
            mut process,
            mut vhosts,
            directory,
        } = Idle::new()?;
        let vhost = vhosts.0.pop().unwrap_or_default();
        process.spawn(&vhost).await?;
        let shared = Arc::new(Shared {
            process,
            vhosts: parking_lot::Mutex::new(vhosts),
            _directory: directory,
        });
        *newest = Arc::downgrade(&shared);
        Ok(Self::of(Server::Shared(shared), vhost))
    }

    /// An empty virtual host of a server that no other test uses meanwhile: it can be killed and restarted. Waits while
    /// other tests of this process have the servers that may run.
    pub async fn lend() -> io::Result<Self> {
        let lending = {
            let mut newest = LENDING.lock().await;
            match newest.upgrade() {
                Some(lending) => lending,
                None => {
                    let [one, other] = [Idle::new()?, Idle::new()?];
                    let lending = [one, other].map(|idle| Arc::new(Mutex::new(idle)));
                    let lending = Arc::new(Lending(lending));
                    *newest = Arc::downgrade(&lending);
                    lending
                }
            }
        };
        let [one, other] = lending.0.clone();
        let mut idle = tokio::select! {
            biased;
            idle = one.lock_owned() => idle,
            idle = other.lock_owned() => idle,
        };
        if idle.vhosts.0.is_empty() {
            *idle = Idle::new()?;
        }
        let vhost = idle.vhosts.0.pop().unwrap_or_default();
        if !idle.process.is_running() {
            idle.process.restart(&vhost).await?;
        }
        let lent = Lent {
            idle,
            _lending: lending,
        };
        Ok(Self::of(Server::Lent(lent), vhost))
    }

    fn of(server: Server, vhost: String) -> Self {
        let process = server.process();
        let publisher = Publisher::new(process.settings(ADMIN, &vhost), Arc::new(SystemClock));
        Self {
            server,
            vhost,
            publisher,
            administrator: Mutex::default(),
        }
    }

    fn process(&self) -> &Process {
        self.server.process()
    }

    fn own(&mut self) -> io::Result<&mut Process> {
        match &mut self.server {
            Server::Own(process) => Ok(process),
            Server::Lent(lent) => Ok(&mut lent.idle.process),
            Server::Shared(_) => Err(io::Error::other(
                "other tests use this server: start one that is not shared",
            )),
        }
    }

    /// Starts what [`RabbitServer::kill`] or [`RabbitServer::stop_gently`] ended, on the same files and port.
    pub async fn restart(&mut self) -> io::Result<()> {
        let vhost = self.vhost.clone();
        self.own()?.restart(&vhost).await
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&mut self) -> io::Result<()> {
        self.own()?.kill()
    }

    /// Asks the server to end (SIGTERM), as an operator does, and waits until it has.
    pub async fn stop_gently(&mut self) -> io::Result<()> {
        self.own()?.stop_gently().await
    }

    /// Has a server that was killed lose everything that it keeps, in each of its virtual hosts.
    pub fn forget(&mut self) -> io::Result<()> {
        self.own()?.forget()
    }

    /// How the Pulse user reaches it.
    pub fn settings(&self) -> PulseSettings {
        self.process().settings(USER, &self.vhost)
    }

    /// Makes a topic exchange that is not the user's.
    pub async fn declare_exchange(&self, name: &str) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let none = FieldTable::default();
        let channel = self.channel().await?;
        channel
            .exchange_declare(name.into(), ExchangeKind::Topic, options, none)
            .await
    }

    /// Publishes as somebody else, and waits until the server has stored it.
    pub async fn publish(&self, message: &PulseMessage) -> Result<(), PulseError> {
        self.publisher.publish(message).await
    }

    /// How many messages wait in a queue and are with nobody; none when there is no such queue.
    pub async fn depth(&self, queue: &str) -> lapin::Result<Option<u32>> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await?;
        let found = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await;
        match found {
            Ok(queue) => Ok(Some(queue.message_count())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a queue with all that is in it, as PulseGuardian does with one that has grown too long.
    pub async fn delete_queue(&self, queue: &str) -> lapin::Result<()> {
        let channel = self.channel().await?;
        channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
            .map(|_| ())
    }

    /// Deletes an exchange, as its owner does.
    pub async fn delete_exchange(&self, exchange: &str) -> lapin::Result<()> {
        let channel = self.channel().await?;
        channel
            .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
            .await
    }

    /// A channel on the administrator's connection, which is opened again when the server was restarted.
    async fn channel(&self) -> lapin::Result<Channel> {
        let mut administrator = self.administrator.lock().await;
        administrator.take_if(|connection| !connection.status().connected());
        let connection = match &mut *administrator {
            Some(connection) => connection,
            none => {
                let uri = self.process().uri(ADMIN, &self.vhost);
                let properties = ConnectionProperties::default();
                none.insert(Connection::connect_uri(uri, properties).await?)
            }
        };
        connection.create_channel().await
    }
}

/// Whether the server knows no such queue.
fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404)
}
