//! The ssh of a clone: with one key, to known hosts only, over a connection that is kept.
//!
//! Setting up a connection takes about as long as a push. So the first use of a server starts a master
//! (`ControlMaster`), and later uses are sessions on its connection. The master leaves our process group. The worker
//! ends it when the clone is closed or a push failed; the master exits by itself after `IDLE` without use.

pub mod denials;

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::ExposeSecret;

use crate::{RepositorySettings, Settings, WorkerError, process};

/// The time for which a connection is kept without use.
const IDLE: Duration = Duration::from_secs(120);

/// The time that a master has to exit.
const EXIT_TIME: Duration = Duration::from_secs(2);

/// The longest name of a directory with sockets: the path of a socket may have 107 bytes, of which ssh needs 40 for a
/// hash, 17 for a suffix while it makes the socket, and one for a slash.
const MAX_DIRECTORY: usize = 107 - 40 - 17 - 1;

/// The file with the private key.
const KEY: &str = "key";

/// The ssh of one clone. Its key and sockets are in a directory of its own, which is removed with it.
#[derive(Debug)]
pub struct Ssh {
    /// The working directory of programs that use it: the paths of the sockets are relative to it, and so short enough.
    home: PathBuf,
    directory: PathBuf,
    arguments: Vec<String>,
    /// Further arguments, which keep the connection.
    keeping: Vec<String>,
}

impl Ssh {
    /// Writes the files of the clone slot `slot`, in place of those that a crash left behind.
    pub fn new(
        settings: &Settings,
        repository: &RepositorySettings,
        slot: &str,
    ) -> Result<Self, WorkerError> {
        let home = settings.clones_dir.clone();
        let sockets = Path::new(".ssh").join(slot);
        let directory = home.join(&sockets);
        let doing = format!(
            "write the ssh key of {} below {}",
            repository.name,
            settings.clones_dir.display()
        );
        let key = repository.ssh_key.as_ref().map(ExposeSecret::expose_secret);
        let key = prepare(&directory, key).map_err(WorkerError::io(doing))?;

        let mut arguments: Vec<String> = ["-F", "none"].map(str::to_owned).into();
        let mut option = |name: &str, value: &str| arguments.push(format!("-o{name}={value}"));
        option("BatchMode", "yes");
        option("IdentitiesOnly", "yes");
        option("StrictHostKeyChecking", "yes");
        option("ConnectTimeout", "30");
        option("ServerAliveInterval", "15");
        if let Some(path) = &settings.known_hosts {
            option("UserKnownHostsFile", &file(path));
            // No other file may add a key. Older versions of ssh take `none` for the name of a file.
            option("GlobalKnownHostsFile", "/dev/null");
        }
        if let Some(key) = key {
            option("IdentityFile", &file(&key));
        }
        if let Some(user) = &repository.ssh_user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        let mut keeping = Vec::new();
        if sockets.as_os_str().len() <= MAX_DIRECTORY {
            keeping.extend([
                "-oControlMaster=auto".to_owned(),
                format!("-oControlPersist={}", IDLE.as_secs()),
            ]);
            keeping.push(format!(
                "-oControlPath={}",
                file(&sockets.join("%C")).replace("%%C", "%C")
            ));
        } else {
            tracing::warn!(
                slot,
                "ssh connections are not kept: the name of the slot is too long for socket paths"
            );
        }
        Ok(Self {
            home,
            directory,
            arguments,
            keeping,
        })
    }

    /// The command for a program in [`Self::home`], quoted for a shell.
    pub fn command(&self) -> String {
        let quoted: Vec<String> = self.arguments().map(quoted).collect();
        format!("ssh {}", quoted.join(" "))
    }

    /// The command for a program in any directory, quoted for a shell. Its connection is not kept.
    pub fn one_off_command(&self) -> String {
        let quoted: Vec<String> = self
            .arguments
            .iter()
            .map(|argument| quoted(argument))
            .collect();
        format!("ssh {}", quoted.join(" "))
    }

    /// The arguments of an ssh in [`Self::home`].
    pub fn arguments(&self) -> impl Iterator<Item = &str> {
        self.arguments
            .iter()
            .chain(&self.keeping)
            .map(String::as_str)
    }

    /// The working directory for [`Self::command`] and [`Self::arguments`].
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Writes a file of the version control into [`Self::directory`], which removes it. No other user can read it.
    /// Returns its path.
    pub fn write_private(&self, name: &str, text: &str) -> Result<PathBuf, WorkerError> {
        let path = self.directory.join(name);
        write_private(&path, text).map_err(WorkerError::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// The file with the private key, if there is one.
    pub fn key(&self) -> Option<PathBuf> {
        Some(self.directory.join(KEY)).filter(|path| path.exists())
    }

    /// A directory that no other user can read.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Closes the kept connections. Running sessions on them fail.
    pub async fn close_connections(&self) {
        for entry in fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .flatten()
        {
            if !entry.file_type().is_ok_and(|kind| kind.is_socket()) {
                continue;
            }
            let mut ssh = process::bare(Path::new("ssh"));
            ssh.current_dir(&self.home);
            let socket = entry.path();
            let socket = socket.strip_prefix(&self.home).unwrap_or(&socket);
            let arguments = [
                "-F",
                "none",
                "-S",
                &socket.display().to_string(),
                "-O",
                "exit",
                "master",
            ]
            .map(str::to_owned);
            // A master that does not respond is unused from now on, and exits when its server is silent.
            let _ = process::run(ssh, arguments, "ssh -O exit", EXIT_TIME).await;
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            let path = self.directory.display();
            tracing::warn!(%path, %error, "cannot remove the directory with an ssh key; remove it by hand");
        }
    }
}

/// Makes an empty directory and writes the key into it. Returns the file of the key.
fn prepare(directory: &Path, key: Option<&str>) -> io::Result<Option<PathBuf>> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let Some(key) = key else { return Ok(None) };
    let path = directory.join(KEY);
    // ssh refuses a key whose last line has no line break.
    write_private(&path, &format!("{}\n", key.trim_end()))?;
    Ok(Some(path))
}

/// Makes a file that no other user can read.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())
}

/// A file's name as a value in ssh's configuration, where `%`, quotes and spaces have a meaning.
fn file(path: &Path) -> String {
    let path = path.display().to_string();
    format!(
        "\"{}\"",
        path.replace('%', "%%")
            .replace('\\', r"\\")
            .replace('"', r#"\""#)
    )
}

/// Quotes a word for a shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use build::Phid;
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn key_is_private_and_removed_and_the_command_survives_a_shell() {
        let home = tempfile::tempdir().expect("a directory");
        let mut repository = RepositorySettings::new(
            Phid::parse("PHID-REPO-1").expect("a PHID"),
            "nss",
            "https://hg.example.org/nss",
            "ssh://hg.example.org/try",
        );
        repository.ssh_user = Some("a user".to_owned());
        repository.ssh_key = Some(SecretString::from("KEY\nLINE"));
        let mut settings = Settings::new(
            vec![repository.clone()],
            home.path().join("a 50% \"clone\""),
        );
        settings.known_hosts = Some(PathBuf::from("/etc/known hosts"));
        std::mem::forget(Ssh::new(&settings, &repository, "nss").expect("prepared"));
        let ssh = Ssh::new(&settings, &repository, "nss").expect("prepared again");
        let path = settings.clones_dir.join(".ssh/nss/key");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "KEY\nLINE\n");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(
            (mode(&path), mode(&settings.clones_dir.join(".ssh/nss"))),
            (0o600, 0o700)
        );

        // `ssh -G` prints the configuration that ssh reads from its arguments.
        let shell = format!("{} -G host", ssh.command());
        let understood = std::process::Command::new("sh")
            .arg("-c")
            .arg(shell)
            .output()
            .expect("sh")
            .stdout;
        let understood = String::from_utf8(understood).expect("text");
        let key = path.display().to_string().replace('%', "%%");
        for line in [
            "batchmode yes".to_owned(),
            "identitiesonly yes".to_owned(),
            "stricthostkeychecking true".to_owned(),
            "userknownhostsfile \"/etc/known hosts\"".to_owned(),
            "globalknownhostsfile /dev/null".to_owned(),
            "user a user".to_owned(),
            format!("identityfile {key}"),
        ] {
            let lines = || {
                understood
                    .lines()
                    .map(|line| line.replace('"', "").to_lowercase())
            };
            let line = line.replace('"', "").to_lowercase();
            assert!(lines().any(|there| there == line), "{line} in {understood}");
        }
        drop(ssh);
        assert!(!path.exists());
    }

    #[test]
    fn known_hosts_are_those_of_ssh_where_no_file_is_named() {
        let home = tempfile::tempdir().expect("a directory");
        let repository = RepositorySettings::new(
            Phid::parse("PHID-REPO-1").expect("a PHID"),
            "nss",
            "https://hg.example.org/nss",
            "ssh://hg.example.org/try",
        );
        let settings = Settings::new(vec![repository.clone()], home.path().to_owned());
        let ssh = Ssh::new(&settings, &repository, "nss").expect("prepared");
        let own: Vec<_> = ssh
            .arguments()
            .filter(|argument| argument.contains("KnownHostsFile"))
            .collect();
        assert_eq!(own, [""; 0]);
    }
}
