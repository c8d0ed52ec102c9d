//! The addresses of a repository, as Mercurial gets them: in a configuration file that only our user can read. Every
//! user of the machine can read the arguments of a process, and an address may hold a password.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use worker::{RepositorySettings, WorkerError, ssh::Ssh};

/// The name of the configuration file.
const HGRC: &str = "hgrc";

/// The name of the source in Mercurial's configuration.
pub(crate) const SOURCE: &str = "source";

/// The address of a repository without its credentials for HTTP, and these credentials.
struct Address {
    plain: String,
    login: Option<Login>,
}

struct Login {
    user: String,
    password: SecretString,
}

impl Address {
    fn parse(url: &str) -> Self {
        let as_it_is = || Self {
            plain: url.to_owned(),
            login: None,
        };
        let Ok(mut parsed) = Url::parse(url) else {
            return as_it_is();
        };
        let Some(password) = parsed
            .password()
            .filter(|_| matches!(parsed.scheme(), "http" | "https"))
        else {
            return as_it_is();
        };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = Login {
            user: decoded(parsed.username()),
            password: decoded(password).into(),
        };
        // These calls fail only for addresses without a host.
        let _ = parsed.set_password(None);
        let _ = parsed.set_username("");
        Self {
            plain: parsed.into(),
            login: Some(login),
        }
    }
}

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
    fn credentials_of_http_leave_the_address() {
        let table = [
            (
                "https://bob:s%40cret@hg.example.org/nss/",
                "https://hg.example.org/nss/",
                Some(("bob", "s@cret")),
            ),
            (
                "http://:secret@hg.example.org:8000/nss",
                "http://hg.example.org:8000/nss",
                Some(("", "secret")),
            ),
            (
                "https://bob@hg.example.org/nss",
                "https://bob@hg.example.org/nss",
                None,
            ),
            (
                "ssh://bob:secret@hg.example.org/nss",
                "ssh://bob:secret@hg.example.org/nss",
                None,
            ),
            ("/repos/a:b@c", "/repos/a:b@c", None),
        ];
        for (url, plain, login) in table {
            let address = Address::parse(url);
            assert_eq!(address.plain, plain);
            let found = address
                .login
                .as_ref()
                .map(|login| (login.user.as_str(), login.password.expose_secret()));
            assert_eq!(found, login, "{url}");
        }
    }

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
