//! The address of a repository, apart from its credentials. Every user of the machine can read the arguments of a
//! process, and an address may hold a password.

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

/// The address of a repository without its credentials for HTTP, and these credentials.
#[derive(Debug)]
pub struct Address {
    /// The address without credentials for HTTP.
    pub plain: String,
    /// The credentials, if it has a password.
    pub login: Option<Login>,
}

/// Credentials for HTTP.
#[derive(Debug)]
pub struct Login {
    /// The name of the user; may be empty.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

impl Address {
    /// Parses an address. One that is no URL, such as a path, has no credentials.
    pub fn parse(url: &str) -> Self {
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

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
}
