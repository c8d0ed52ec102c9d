//! The addresses of a repository, as Mercurial gets them: in a configuration file that only our user can read.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use worker::{
    RepositorySettings, WorkerError,
    address::{Address, Login},
    ssh::Ssh,
};

/// The name of the configuration file.
const HGRC: &str = "hgrc";

/// The name of the source in Mercurial's configuration.
pub(crate) const SOURCE: &str = "source";

/// The address in `url` without its credentials for HTTP: [`configuration`] has these.
pub(crate) fn plain(url: &str) -> String {
    Address::parse(url).plain
}

/// Writes the [`configuration`] beside the files of `ssh`; returns its path.
pub(crate) fn write_hgrc(
    ssh: &Ssh,
    repository: &RepositorySettings,
) -> Result<PathBuf, WorkerError> {
    ssh.write_private(HGRC, configuration(repository)?.expose_secret())
}

/// Mercurial's configuration file for a repository: the address of its source, and the credentials for both addresses.
fn configuration(repository: &RepositorySettings) -> Result<SecretString, WorkerError> {
    let (source, target) = (
        Address::parse(&repository.url),
        Address::parse(&repository.try_url),
    );
    // A pull gives the clone the bookmarks of the source, also if one was deleted there or moved to another branch.
    let mut text = format!(
        "[paths]\n{SOURCE} = {}\n{SOURCE}:bookmarks.mode = mirror\n[auth]\n",
        source.plain
    );
    for (name, address) in [(SOURCE, source), ("try", target)] {
        let Some(Login { user, password }) = address.login else {
            continue;
        };
        let password = password.expose_secret();
        if [&user, password]
            .iter()
            .any(|value| value.contains(char::is_control) || value.trim() != *value)
        {
            let reason = format!(
                "credentials in an address of {} have a control character, or a space at an end",
                repository.name
            );
            return Err(WorkerError::Settings { reason });
        }
        let prefix = address.plain.trim_end_matches('/');
        text.push_str(&format!(
            "{name}.prefix = {prefix}\n{name}.username = {user}\n{name}.password = {password}\n"
        ));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use build::Phid;

    use super::*;

    #[test]
    fn credentials_that_would_be_other_settings_are_refused() {
        let phid = Phid::parse("PHID-REPO-1").expect("a PHID");
        let url = "https://bob:a%0Asource.prefix=*@hg.example.org/nss";
        let repository = RepositorySettings::new(phid, "nss", url, "ssh://hg.example.org/try");
        assert!(matches!(
            configuration(&repository),
            Err(WorkerError::Settings { .. })
        ));
    }
}
