//! A real Redis for tests, benchmarks and the demo of a deployment.

use std::{
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Clock, RedisOptions, SystemClock};

/// A `redis-server` of its own, as a child process on a socket in `directory`. Ends with this value.
#[derive(Debug)]
pub struct RedisServer {
    directory: PathBuf,
    child: Child,
}

impl RedisServer {
    /// Starts a server that keeps an append-only file in `directory`, and waits until it answers.
    pub async fn start(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        let child = spawn(&directory)?;
        let server = Self { directory, child };
        server.answers().await?;
        Ok(server)
    }

    /// Kills the server as a power cut would, and starts it again on the same files.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.child = spawn(&self.directory)?;
        self.answers().await
    }

    /// Kills the server.
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
        Err(io::Error::new(io::ErrorKind::TimedOut, "redis-server did not end within 10 s of SIGTERM"))
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.directory.join("redis.sock").display())
    }

    /// Options for a bus on it.
    pub fn options(&self) -> RedisOptions {
        RedisOptions { url: self.url().into(), namespace: "test".to_owned(), ca: None, waiters: 8 }
    }

    async fn answers(&self) -> io::Result<()> {
        let client = redis::Client::open(self.url()).map_err(io::Error::other)?;
        for _ in 0..500 {
            let ready = async {
                let mut connection = client.get_multiplexed_async_connection().await?;
                redis::cmd("PING").query_async::<String>(&mut connection).await
            };
            if ready.await.is_ok() {
                return Ok(());
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "redis-server did not answer within 5 s"))
    }
}

fn spawn(directory: &PathBuf) -> io::Result<Child> {
    Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "everysec", "--loglevel", "warning"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start redis-server (is it installed?): {error}")))
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}
