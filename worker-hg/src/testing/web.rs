//! A Mercurial web server.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::processes::{Server, TRIES, free_port};
use crate::process::hg;

/// An `hg serve` of its own for one repository, on a port of loopback. Everybody may push, unless `web.deny_push` of the
/// repository says otherwise.
#[derive(Debug)]
pub struct HgWeb {
    repository: PathBuf,
    log: PathBuf,
    port: u16,
    running: Option<Server>,
}

impl HgWeb {
    /// Starts the server for `repository`, and waits until it accepts connections. It writes into `log`.
    pub async fn start(repository: impl Into<PathBuf>, log: impl Into<PathBuf>) -> io::Result<Self> {
        let mut web = Self { repository: repository.into(), log: log.into(), port: 0, running: None };
        let mut tries = 0;
        loop {
            web.port = free_port()?;
            tries += 1;
            match web.restart().await {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe && tries < TRIES => {}
                started => return started.map(|()| web),
            }
        }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again, on the same port, with what the repository's configuration says now.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = hg(Path::new("hg"));
        command.args(["--config=web.push_ssl=false", "--config=web.allow-push=*"]);
        command
            .arg(option("repository", &self.repository))
            .args(["serve", "--address=127.0.0.1", &format!("--port={}", self.port)])
            .args([option("accesslog", Path::new("/dev/null")), option("errorlog", &self.log)]);
        self.running = Some(Server::start(command, self.port).await?);
        Ok(())
    }

    /// Stops it.
    pub async fn stop(&mut self) {
        if let Some(server) = self.running.take() {
            server.end().await;
        }
    }
}
