//! A Mercurial web server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{Port, process::Group};

/// How long it may take to end, and to take back a transaction.
const END: Duration = Duration::from_secs(5);

/// An `hg serve` of its own for one repository, on a port of loopback. Everybody may push, unless `web.deny_push` of the
/// repository says otherwise.
#[derive(Debug)]
pub struct HgWeb {
    name: String,
    directory: PathBuf,
    port: Port,
    running: Option<Group>,
}

impl HgWeb {
    /// Starts the server for `repository`, and waits until it accepts connections. Its configuration and its log are in
    /// `directory`.
    pub async fn start(repository: &Path, directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        let name = repository
            .file_name()
            .unwrap_or_default()
            .display()
            .to_string();
        fs::write(
            directory.join("web.conf"),
            format!("[paths]\n{name} = {}\n", repository.display()),
        )?;
        let mut web = Self {
            name,
            directory,
            port: Port::claim()?,
            running: None,
        };
        web.restart().await?;
        Ok(web)
    }

    /// The address of the repository. No other path below its root has one.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.port.number(), self.name)
    }

    /// Starts it again, on the same port, after something killed it.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await?;
        let option =
            |name: &str, file: &str| format!("--{name}={}", self.directory.join(file).display());
        let mut command = Command::new("hg");
        command
            // What the user has configured for Mercurial is not for the tests.
            .env("HGRCPATH", "")
            .args(["--config=web.push_ssl=false", "--config=web.allow-push=*"])
            .args([
                "serve",
                "--address=127.0.0.1",
                &format!("--port={}", self.port.number()),
            ])
            .args([
                option("web-conf", "web.conf"),
                option("accesslog", "access.log"),
                option("errorlog", "error.log"),
            ]);
        self.running = Some(Group::serve(&mut command, &self.directory, self.port.number()).await?);
        Ok(())
    }

    /// Stops it.
    pub async fn stop(&mut self) -> io::Result<()> {
        match self.running.take() {
            Some(server) => server.end(END).await,
            None => Ok(()),
        }
    }
}
