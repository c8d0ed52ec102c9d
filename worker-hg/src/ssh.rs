//! How Mercurial calls ssh.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use secrecy::ExposeSecret;

use crate::{HgError, RepositorySettings, Settings};

/// A private key on disk, where ssh wants it. It is removed with this value.
#[derive(Debug)]
pub(crate) struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// Writes the repository's key, if it has one. A file that a crash left behind is replaced.
    pub(crate) fn write(settings: &Settings, repository: &RepositorySettings) -> Result<Option<Self>, HgError> {
        let Some(key) = &repository.ssh_key else { return Ok(None) };
        let directory = settings.clones_dir.join(".keys");
        let path = directory.join(&repository.name);
        let doing = format!("write the ssh key of {} below {}", repository.name, settings.clones_dir.display());
        write_private(&directory, &path, key.expose_secret()).map_err(HgError::io(doing))?;
        Ok(Some(Self { path }))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove an ssh key file, remove it by hand");
        }
    }
}

fn write_private(directory: &Path, path: &Path, key: &str) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(key.trim_end().as_bytes())?;
    // ssh refuses a key whose last line does not end.
    file.write_all(b"\n")
}

/// The value of `ui.ssh`: it asks nothing, offers one key, and talks to known hosts only. A shell will read it.
pub(crate) fn command(settings: &Settings, repository: &RepositorySettings, key: Option<&KeyFile>) -> String {
    let mut command = "ssh -F none -oBatchMode=yes -oIdentitiesOnly=yes -oStrictHostKeyChecking=yes \
                       -oConnectTimeout=30 -oServerAliveInterval=15"
        .to_owned();
    let mut add = |option: &str, value: &str| {
        command.push_str(option);
        command.push_str(&quoted(value));
    };
    if let Some(path) = &settings.known_hosts {
        add(" -oUserKnownHostsFile=", &path.display().to_string());
    }
    if let Some(user) = &repository.ssh_user {
        add(" -l ", user);
    }
    if let Some(key) = key {
        add(" -i ", &key.path().display().to_string());
    }
    command
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use phabricator::model::Phid;
    use secrecy::SecretString;

    use super::*;
    use crate::TryMode;

    #[test]
    fn the_key_is_private_and_goes_away_and_the_command_survives_a_shell() {
        let home = tempfile::tempdir().expect("a directory");
        let repository = RepositorySettings {
            phid: Phid::parse("PHID-REPO-1").expect("a PHID"),
            name: "nss".to_owned(),
            url: "https://hg.example.org/nss".to_owned(),
            try_url: "ssh://hg.example.org/try".to_owned(),
            try_name: "try".to_owned(),
            mode: TryMode::Json,
            default_revision: "tip".to_owned(),
            use_latest_revision: false,
            ssh_user: Some("$(touch x)' o".to_owned()),
            ssh_key: Some(SecretString::from("KEY\nLINE")),
        };
        let mut settings = Settings::new(vec![repository.clone()], home.path().join("clones"));
        settings.known_hosts = Some(PathBuf::from("/etc/known hosts"));
        std::mem::forget(KeyFile::write(&settings, &repository).expect("written"));
        let key = KeyFile::write(&settings, &repository).expect("written again").expect("a key");
        let path = settings.clones_dir.join(".keys/nss");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "KEY\nLINE\n");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&settings.clones_dir.join(".keys"))), (0o600, 0o700));

        let command = command(&settings, &repository, Some(&key));
        let echo = command.replacen("ssh", "printf '%s\\n'", 1);
        let words = std::process::Command::new("sh").arg("-c").arg(echo).output().expect("sh").stdout;
        let words = String::from_utf8(words).expect("text");
        let words: Vec<&str> = words.lines().collect();
        let expected =
            ["-oUserKnownHostsFile=/etc/known hosts", "-l", "$(touch x)' o", "-i", path.to_str().expect("text")];
        assert_eq!(words[words.len() - 5..], expected);
        drop(key);
        assert!(!path.exists());
    }
}
