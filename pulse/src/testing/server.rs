//! One server.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
    time::Duration,
};

use bus::testing::{Authority, Port};
use lapin::{
    ExchangeKind,
    options::{
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::FieldTable,
};
use nix::{
    errno::Errno,
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use runtime::{Clock, SystemClock};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::definitions::{ADMIN, PASSWORD, Tls, USER, configuration, definitions};
use crate::{Address, Publisher, PulseError, PulseMessage, PulseSettings, connection::Connection};

/// Where Debian has the script that starts a server as whoever calls it. The one on the PATH is for root alone.
const SCRIPT: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// How long a server may take to start: an idle machine needs about four seconds.
const START: Duration = Duration::from_secs(90);

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
}

/// A server whose virtual hosts go to several tests of this process: to start one costs seconds of processor time.
struct Shared {
    process: Process,
    /// Those that nobody had yet.
    vhosts: std::sync::Mutex<Vec<String>>,
    /// Removed with the last test that uses the server.
    _directory: TempDir,
}

/// The server that new tests share, as long as one of them lives.
static SHARED: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());
/// How many tests share a server; the next one starts another.
const VHOSTS: usize = 16;

struct Process {
    directory: PathBuf,
    ca: Option<Vec<u8>>,
    ports: Ports,
    /// Erlang's directory of names, one for this server alone.
    names: Option<Child>,
    server: Option<Child>,
}

/// Where a server listens.
#[derive(Debug)]
struct Ports {
    amqp: Port,
    names: Port,
    /// Of Erlang's own protocol.
    distribution: Port,
}

impl RabbitServer {
    /// Starts a server that keeps its files in `directory`, and waits until it answers. Its virtual host is `/`.
    pub async fn start(directory: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self::of(
            Server::Own(Process::start(directory.into(), &["/".to_owned()], None).await?),
            "/".to_owned(),
        ))
    }

    /// Starts a server that speaks TLS, and nothing else. Its certificate is for localhost, from `authority`.
    pub async fn start_with_tls(
        directory: impl Into<PathBuf>,
        authority: &Authority,
    ) -> io::Result<Self> {
        let process = Process::start(directory.into(), &["/".to_owned()], Some(authority)).await?;
        Ok(Self::of(Server::Own(process), "/".to_owned()))
    }

    /// An empty virtual host of a server that other tests of this process may use too. Such a server cannot be killed or
    /// restarted.
    pub async fn share() -> io::Result<Self> {
        let mut newest = SHARED.lock().await;
        if let Some(shared) = newest.upgrade() {
            let vhost = shared
                .vhosts
                .lock()
                .map_err(|_| io::Error::other("a test panicked meanwhile"))?
                .pop();
            if let Some(vhost) = vhost {
                return Ok(Self::of(Server::Shared(shared), vhost));
            }
        }
        let directory = TempDir::new()?;
        let mut vhosts: Vec<_> = (1..=VHOSTS)
            .map(|number| format!("test-{number}"))
            .collect();
        let process = Process::start(directory.path().to_owned(), &vhosts, None).await?;
        let vhost = vhosts.pop().unwrap_or_default();
        let shared = Arc::new(Shared {
            process,
            vhosts: std::sync::Mutex::new(vhosts),
            _directory: directory,
        });
        *newest = Arc::downgrade(&shared);
        Ok(Self::of(Server::Shared(shared), vhost))
    }

    fn of(server: Server, vhost: String) -> Self {
        let process = match &server {
            Server::Own(process) => process,
            Server::Shared(shared) => &shared.process,
        };
        let publisher = Publisher::new(process.settings(ADMIN, &vhost), Arc::new(SystemClock));
        Self {
            server,
            vhost,
            publisher,
            administrator: Mutex::default(),
        }
    }

    fn process(&self) -> &Process {
        match &self.server {
            Server::Own(process) => process,
            Server::Shared(shared) => &shared.process,
        }
    }

    fn own(&mut self) -> io::Result<&mut Process> {
        match &mut self.server {
            Server::Own(process) => Ok(process),
            Server::Shared(_) => Err(io::Error::other(
                "other tests use this server: start one that is not shared",
            )),
        }
    }

    /// Starts what [`RabbitServer::kill`] or [`RabbitServer::stop_gently`] ended, on the same files and port.
    pub async fn restart(&mut self) -> io::Result<()> {
        let process = self.own()?;
        process.kill()?;
        process.spawn("/").await
    }

    /// Kills the server, as a power cut would.
    pub fn kill(&mut self) -> io::Result<()> {
        self.own()?.kill()
    }

    /// Asks the server to end (SIGTERM), as an operator does, and waits until it has.
    pub async fn stop_gently(&mut self) -> io::Result<()> {
        self.own()?.stop_gently().await
    }

    /// How the Pulse user reaches it.
    pub fn settings(&self) -> PulseSettings {
        self.process().settings(USER, &self.vhost)
    }

    /// Makes a topic exchange that is not the user's.
    pub async fn declare_exchange(&self, name: &str) -> Result<(), PulseError> {
        let (options, none) = (
            ExchangeDeclareOptions {
                durable: true,
                ..Default::default()
            },
            FieldTable::default(),
        );
        self.administer(async |connection| {
            let channel = connection.channel().await?;
            let declared = channel
                .exchange_declare(name.into(), ExchangeKind::Topic, options, none.clone())
                .await;
            declared.map_err(PulseError::doing(
                connection.settings(),
                "declare an exchange",
            ))
        })
        .await
    }

    /// Publishes as somebody else, and waits until the server has stored it.
    pub async fn publish(&self, message: &PulseMessage) -> Result<(), PulseError> {
        self.publisher.publish(message).await
    }

    /// How many messages wait in a queue and are with nobody; none when there is no such queue.
    pub async fn depth(&self, queue: &str) -> Result<Option<u32>, PulseError> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        self.administer(async |connection| {
            let channel = connection.channel().await?;
            let found = channel
                .queue_declare(queue.into(), options, FieldTable::default())
                .await;
            match found.map_err(PulseError::doing(connection.settings(), "look at a queue")) {
                Ok(queue) => Ok(Some(queue.message_count())),
                Err(PulseError::Missing { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Deletes a queue with all that is in it, as PulseGuardian does with one that has grown too long.
    pub async fn delete_queue(&self, queue: &str) -> Result<(), PulseError> {
        self.administer(async |connection| {
            let channel = connection.channel().await?;
            let deleted = channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await;
            deleted
                .map(|_| ())
                .map_err(PulseError::doing(connection.settings(), "delete a queue"))
        })
        .await
    }

    /// Deletes an exchange, as its owner does.
    pub async fn delete_exchange(&self, exchange: &str) -> Result<(), PulseError> {
        self.administer(async |connection| {
            let channel = connection.channel().await?;
            let deleted = channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await;
            deleted.map_err(PulseError::doing(
                connection.settings(),
                "delete an exchange",
            ))
        })
        .await
    }

    /// Does something on the administrator's connection, which is opened again when the server was restarted.
    async fn administer<T>(
        &self,
        what: impl AsyncFnOnce(&Connection) -> Result<T, PulseError>,
    ) -> Result<T, PulseError> {
        let mut administrator = self.administrator.lock().await;
        administrator.take_if(|connection| !connection.is_open());
        let connection = match &mut *administrator {
            Some(connection) => connection,
            none => {
                let settings = self.process().settings(ADMIN, &self.vhost);
                none.insert(Connection::open(&settings, "administrator").await?)
            }
        };
        what(connection).await
    }
}

impl Process {
    async fn start(
        directory: PathBuf,
        vhosts: &[String],
        authority: Option<&Authority>,
    ) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let ports = Ports {
            amqp: Port::claim()?,
            names: Port::claim()?,
            distribution: Port::claim()?,
        };
        let files = authority
            .map(|authority| authority.certify(&directory, "localhost"))
            .transpose()?;
        let tls = authority
            .zip(files.as_ref())
            .map(|(authority, (certificate, key))| Tls {
                ca: authority.file(),
                certificate,
                key,
            });
        let users = directory.join("definitions.json");
        fs::write(&users, definitions(vhosts).to_string())?;
        fs::write(
            directory.join("rabbitmq.conf"),
            configuration(&users, ports.amqp.number(), tls.as_ref()),
        )?;
        fs::write(directory.join("enabled_plugins"), "[].\n")?;
        let ca = authority.map(Authority::certificate).transpose()?;
        let mut process = Self {
            directory,
            ca,
            ports,
            names: None,
            server: None,
        };
        process
            .spawn(vhosts.first().map_or("/", String::as_str))
            .await?;
        Ok(process)
    }

    fn kill(&mut self) -> io::Result<()> {
        for child in [&mut self.server, &mut self.names] {
            if let Some(mut child) = child.take() {
                signal(&child, Signal::SIGKILL)?;
                child.wait()?;
            }
        }
        Ok(())
    }

    async fn stop_gently(&mut self) -> io::Result<()> {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        signal(server, Signal::SIGTERM)?;
        for _ in 0..3000 {
            if server.try_wait()?.is_some() {
                return self.kill();
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "rabbitmq-server did not end within 30 s of SIGTERM",
        ))
    }

    async fn spawn(&mut self, vhost: &str) -> io::Result<()> {
        let mut names = Command::new("epmd");
        names.args([
            "-address",
            "127.0.0.1",
            "-port",
            &self.ports.names.number().to_string(),
        ]);
        self.names = Some(spawn(&mut names, &self.directory)?);
        self.server = Some(spawn(&mut self.command(), &self.directory)?);
        let pause = Duration::from_millis(50);
        for _ in 0..START.as_millis() / pause.as_millis() {
            if Connection::open(&self.settings(USER, vhost), "start")
                .await
                .is_ok()
            {
                return Ok(());
            }
            if let Some(status) = self
                .server
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                let said = fs::read_to_string(self.directory.join(OUTPUT)).unwrap_or_default();
                let reason = format!("rabbitmq-server ended at its start: {status}\n{said}");
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, reason));
            }
            SystemClock.sleep(pause).await;
        }
        let reason = format!(
            "rabbitmq-server did not answer within {} s",
            START.as_secs()
        );
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    }

    fn settings(&self, user: &str, vhost: &str) -> PulseSettings {
        PulseSettings {
            address: Address {
                tls: self.ca.is_some(),
                host: "localhost".to_owned(),
                port: self.ports.amqp.number(),
            },
            vhost: vhost.to_owned(),
            user: user.to_owned(),
            password: PASSWORD.into(),
            ca: self.ca.clone(),
        }
    }

    fn command(&self) -> Command {
        let names = self.ports.names.number();
        let distribution = self.ports.distribution.number();
        let mut command = Command::new(if Path::new(SCRIPT).exists() {
            SCRIPT
        } else {
            "rabbitmq-server"
        });
        command
            .env("HOME", &self.directory)
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("ERL_EPMD_PORT", names.to_string())
            .env("RABBITMQ_NODENAME", format!("pulse-{names}@localhost"))
            .env("RABBITMQ_DIST_PORT", distribution.to_string())
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", self.directory.join("rabbitmq.conf"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                self.directory.join("enabled_plugins"),
            )
            .env("RABBITMQ_MNESIA_BASE", self.directory.join("data"))
            .env("RABBITMQ_LOG_BASE", &self.directory)
            // One scheduler that sleeps when it has nothing to do: many servers share the machine.
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
            );
        command
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// What a server writes goes here, in its directory.
const OUTPUT: &str = "output";

/// Starts a process with a group of its own, which ends as a whole.
fn spawn(command: &mut Command, directory: &Path) -> io::Result<Child> {
    let output = File::options()
        .create(true)
        .append(true)
        .open(directory.join(OUTPUT))?;
    command
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let spawned = command.spawn();
    spawned.map_err(|error| {
        let name = command.get_program().display();
        io::Error::new(
            error.kind(),
            format!("cannot start {name} (is rabbitmq-server installed?): {error}"),
        )
    })
}

fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    match killpg(group, signal) {
        // All of it has ended.
        Err(Errno::ESRCH) => Ok(()),
        sent => Ok(sent?),
    }
}
