//! An ssh server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    Port,
    process::{Group, children, descendants, kill_all, kill_and_wait, tool},
};

/// It starts itself again for each session, and wants to know where it is.
const PROGRAM: &str = "/usr/sbin/sshd";

/// How long it may take to end.
const END: Duration = Duration::from_secs(5);

/// An `sshd` of its own on a port of loopback, that lets in the user who runs it, with one key. What its sessions
/// leave running, as `hg serve --stdio`, ends with this value too.
#[derive(Debug)]
pub struct Sshd {
    directory: PathBuf,
    user: String,
    port: Port,
    running: Option<Group>,
}

impl Sshd {
    /// Makes the keys in `directory`, starts the server, and waits until it accepts connections.
    pub async fn start(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        fs::create_dir_all(&directory)?;
        // The place where it locks itself up before it knows who calls. Without root it does not.
        if tool("id", &["-u"])? == "0" {
            fs::create_dir_all("/run/sshd")?;
        }
        let mut sshd = Self {
            directory,
            user: tool("id", &["-un"])?,
            port: Port::claim()?,
            running: None,
        };
        sshd.make_key("client_key")?;
        fs::copy(sshd.path("client_key.pub"), sshd.path("authorized_keys"))?;
        sshd.make_key("host_key")?;
        sshd.restart().await?;
        let key = fs::read_to_string(sshd.path("host_key.pub"))?;
        fs::write(
            sshd.known_hosts(),
            format!("[127.0.0.1]:{} {key}", sshd.port()),
        )?;
        Ok(sshd)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The address of a repository on this machine, without a user.
    pub fn url(&self, repository: &Path) -> String {
        format!("ssh://127.0.0.1:{}/{}", self.port(), repository.display())
    }

    /// The user it lets in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The private key it lets in.
    pub fn private_key(&self) -> io::Result<String> {
        fs::read_to_string(self.path("client_key"))
    }

    /// A private key of the same kind that it does not know.
    pub fn wrong_key(&self) -> io::Result<String> {
        self.make_key("wrong_key")?;
        fs::read_to_string(self.path("wrong_key"))
    }

    /// A file with its first host key.
    pub fn known_hosts(&self) -> PathBuf {
        self.path("known_hosts")
    }

    /// Its log.
    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.path("log"))
    }

    /// Starts it again, on the same port, with the key that it has now.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await?;
        fs::write(self.path("sshd_config"), self.configuration())?;
        let config = self.path("sshd_config").display().to_string();
        let mut command = Command::new(PROGRAM);
        command
            .args(["-D", "-f", &config])
            .arg("-E")
            .arg(self.path("log"));
        // Newer ones keep off who failed a few times, and refuse options that they do not know.
        if tool(
            PROGRAM,
            &["-t", "-f", &config, "-o", "PerSourcePenalties=no"],
        )
        .is_ok()
        {
            command.args(["-o", "PerSourcePenalties=no"]);
        }
        self.running = Some(Group::serve(&mut command, &self.directory, self.port()).await?);
        Ok(())
    }

    /// Restarts it with another host key: not the one that is known.
    pub async fn change_host_key(&mut self) -> io::Result<()> {
        self.make_key("host_key")?;
        self.restart().await
    }

    /// Stops it, and everything that its sessions run.
    pub async fn stop(&mut self) -> io::Result<()> {
        let Some(server) = self.running.take() else {
            return Ok(());
        };
        let below = descendants(server.leader()?)?;
        server.end(END).await?;
        kill_and_wait(&below).await
    }

    /// Kills its side of the sessions, as a network that breaks does. What they run learns it from its input's end.
    pub async fn cut_sessions(&self) -> io::Result<()> {
        match &self.running {
            Some(server) => kill_and_wait(&children(server.leader()?)?).await,
            None => Ok(()),
        }
    }

    fn configuration(&self) -> String {
        let [host_key, authorized_keys] =
            ["host_key", "authorized_keys"].map(|name| self.path(name));
        format!(
            "ListenAddress 127.0.0.1\nPort {}\nPidFile none\nLogLevel VERBOSE\n\
             HostKey \"{}\"\nAuthorizedKeysFile \"{}\"\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             # The user's settings of Mercurial and of the shell are not for the tests.\nPermitUserRC no\n\
             SetEnv HGRCPATH= \"HOME={}\"\n",
            self.port(),
            host_key.display(),
            authorized_keys.display(),
            self.directory.display(),
        )
    }

    /// Makes a key, in place of the one that is there.
    fn make_key(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let path = path.display().to_string();
        tool(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path],
        )
        .map(|_| ())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let Some(server) = self.running.take() else {
            return;
        };
        let below = server.leader().and_then(descendants);
        drop(server);
        kill_all(&below.unwrap_or_default());
    }
}
