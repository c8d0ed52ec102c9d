//! One server.

use std::{
    collections::BTreeMap,
    fs, io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bus::RedisOptions;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use redis::{FromRedisValue, RedisResult, aio::MultiplexedConnection};
use runtime::{Clock, SystemClock};

use crate::{Authority, Port};

/// The file of the socket on which a server of ours listens, in its directory.
const SOCKET: &str = "redis.sock";

/// A `redis-server` of its own, as a child process on a socket in `directory`. Ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    directory: PathBuf,
    arguments: Vec<String>,
    child: Child,
    /// Where it listens besides.
    _port: Option<Port>,
}

impl RedisServer {
    /// Starts a server that keeps an append-only file in `directory`, and waits until it answers.
    pub async fn start(directory: impl Into<PathBuf>) -> io::Result<Self> {
        Self::spawn(directory.into(), persistent(["--port", "0"]), None).await
    }

    /// Starts a server that also speaks TLS, and nothing else, on the port that is returned. Its certificate is for
    /// `name`, from `authority`.
    pub async fn start_with_tls(
        directory: impl Into<PathBuf>,
        authority: &Authority,
        name: &str,
    ) -> io::Result<(Self, u16)> {
        let directory = directory.into();
        let (certificate, key) = authority.certify(&directory, name)?;
        let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
        Self::start_on_a_port(directory, |port| {
            let mut arguments = persistent([
                "--port",
                "0",
                "--tls-port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
            ]);
            let tls = [
                "--tls-cert-file",
                &certificate,
                "--tls-key-file",
                &key,
                "--tls-auth-clients",
                "no",
            ];
            arguments.extend(tls.map(str::to_owned));
            Ok(arguments)
        })
        .await
    }

    /// Starts a server with the arguments for a port of its own, which is returned.
    pub(super) async fn start_on_a_port(
        directory: PathBuf,
        arguments: impl FnOnce(u16) -> io::Result<Vec<String>>,
    ) -> io::Result<(Self, u16)> {
        fs::create_dir_all(&directory)?;
        let port = Port::claim()?;
        let number = port.number();
        let server = Self::spawn(directory, arguments(number)?, Some(port)).await?;
        Ok((server, number))
    }

    async fn spawn(
        directory: PathBuf,
        arguments: Vec<String>,
        port: Option<Port>,
    ) -> io::Result<Self> {
        let child = spawn(&directory, &arguments)?;
        let mut server = Self {
            directory,
            arguments,
            child,
            _port: port,
        };
        server.answers().await?;
        Ok(server)
    }

    /// Kills the server as a power cut would, and starts it again on the same files.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.child = spawn(&self.directory, &self.arguments)?;
        self.answers().await
    }

    /// Kills the server. While its disk syncs, it has written nothing new to its file for up to two seconds: what it
    /// confirmed in that time is lost. [`RedisServer::stop_gently`] loses nothing.
    pub fn stop(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    /// Asks the server to end (SIGTERM), as an operator does, and waits until it has: it writes and syncs its file
    /// before. [`RedisServer::restart`] starts it again.
    pub async fn stop_gently(&mut self) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        for _ in 0..1000 {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "redis-server did not end within 10 s of SIGTERM",
        ))
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.directory.join(SOCKET).display())
    }

    /// Options for a bus on it.
    pub fn options(&self) -> RedisOptions {
        options(self.url())
    }

    /// Runs a command on a connection of its own, whatever else the server listens on.
    pub async fn command<T: FromRedisValue>(&self, command: &[&str]) -> io::Result<T> {
        let ask = async {
            let mut cmd = redis::Cmd::new();
            for part in command {
                cmd.arg(*part);
            }
            cmd.query_async(&mut self.connect().await?).await
        };
        ask.await.map_err(io::Error::other)
    }

    /// All keys with what they hold, in the form of `DUMP`.
    pub async fn keyspace(&self) -> io::Result<BTreeMap<String, Vec<u8>>> {
        let ask = async {
            let mut connection = self.connect().await?;
            let keys: Vec<String> = redis::cmd("KEYS")
                .arg("*")
                .query_async(&mut connection)
                .await?;
            let mut dumps = redis::pipe();
            for key in &keys {
                dumps.cmd("DUMP").arg(key);
            }
            let dumps: Vec<Vec<u8>> = if keys.is_empty() {
                Vec::new()
            } else {
                dumps.query_async(&mut connection).await?
            };
            RedisResult::Ok(keys.into_iter().zip(dumps).collect())
        };
        ask.await.map_err(io::Error::other)
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let client = redis::Client::open(self.url())?;
        client.get_multiplexed_async_connection().await
    }

    /// Waits until the server answers. `BrokenPipe` when it ended instead.
    async fn answers(&mut self) -> io::Result<()> {
        for _ in 0..500 {
            if self.command::<String>(&["PING"]).await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let reason = format!("redis-server ended at its start: {status}");
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, reason));
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "redis-server did not answer within 5 s",
        ))
    }
}

/// Options for a bus on the servers at `url`.
pub(super) fn options(url: String) -> RedisOptions {
    RedisOptions {
        url: url.into(),
        namespace: "test".to_owned(),
        ca: None,
        waiters: 8,
    }
}

/// The arguments of a server that keeps what it is given, behind those that say where it listens.
pub(super) fn persistent<const N: usize>(listen: [&str; N]) -> Vec<String> {
    let keep = [
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        "everysec",
    ];
    listen
        .iter()
        .chain(&keep)
        .map(|argument| (*argument).to_owned())
        .collect()
}

/// Waits for up to `patience`, until `condition` holds.
pub(super) async fn until<F: Future<Output = bool>>(
    what: &str,
    patience: Duration,
    condition: impl Fn() -> F,
) -> io::Result<()> {
    let pause = Duration::from_millis(20);
    for _ in 0..patience.as_millis() / pause.as_millis() {
        if condition().await {
            return Ok(());
        }
        SystemClock.sleep(pause).await;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("waited in vain until {what}"),
    ))
}

fn spawn(directory: &PathBuf, arguments: &[String]) -> io::Result<Child> {
    Command::new("redis-server")
        .args(arguments)
        .args(["--unixsocket", SOCKET, "--loglevel", "warning"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot start redis-server (is it installed?): {error}"),
            )
        })
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
