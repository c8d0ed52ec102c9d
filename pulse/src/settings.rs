//! The address of Pulse, and our user there.

use std::{fmt, str::FromStr};

use secrecy::SecretString;
use thiserror::Error;
use url::Url;

/// The server, and our user there.
#[derive(Debug, Clone)]
pub struct PulseSettings {
    /// The server.
    pub address: Address,
    /// The virtual host, `/` on Pulse.
    pub vhost: String,
    /// The user. Its queues are `queue/<user>/…`, its exchanges `exchange/<user>/…`.
    pub user: String,
    /// The password, as in PulseGuardian.
    pub password: SecretString,
    /// For TLS: the certificates (PEM) to trust instead of the machine's.
    pub ca: Option<Vec<u8>>,
}

impl PulseSettings {
    /// The full name of a queue of this user.
    pub(crate) fn queue(&self, name: &str) -> String {
        format!("queue/{}/{name}", self.user)
    }

    /// Whether an exchange belongs to this user, who may then declare it.
    pub(crate) fn owns(&self, exchange: &str) -> bool {
        let name = exchange
            .strip_prefix("exchange/")
            .and_then(|rest| rest.strip_prefix(self.user.as_str()));
        name.is_some_and(|name| name.starts_with('/'))
    }
}

/// The address of a RabbitMQ server: `amqps://host` (TLS, port 5671) or `amqp://host` (port 5672), or another port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether to use TLS, which verifies the server's certificate.
    pub tls: bool,
    /// The host's name or IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// An invalid address of a server.
#[derive(Debug, Error)]
#[error("pulse cannot be used: its address is not usable: {0}")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    /// A url with a password is refused; the error does not repeat it.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let unusable = |reason: &str| AddressError(reason.to_owned());
        let url = Url::parse(text).map_err(|error| unusable(&error.to_string()))?;
        let tls = match url.scheme() {
            "amqps" => true,
            "amqp" => false,
            _ => return Err(unusable("it begins with amqps:// or amqp://")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("user and password have settings of their own"));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(unusable(
                "nothing follows host and port, the virtual host has a setting of its own",
            ));
        }
        let host = url
            .host_str()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| unusable("it names no host"))?;
        let host = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        Ok(Self {
            tls,
            host,
            port: url.port().unwrap_or(if tls { 5671 } else { 5672 }),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_scheme_host_and_port() {
        for (text, expected) in [
            (
                "amqps://pulse.mozilla.org",
                "amqps://pulse.mozilla.org:5671",
            ),
            (
                "amqps://pulse.mozilla.org:5672/",
                "amqps://pulse.mozilla.org:5672",
            ),
            ("amqp://localhost", "amqp://localhost:5672"),
            ("amqp://[::1]:17", "amqp://[::1]:17"),
            ("amqp://127.0.0.1:1234", "amqp://127.0.0.1:1234"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), expected);
        }
        let v6: Address = "amqps://[::1]".parse().unwrap();
        assert_eq!((v6.host.as_str(), v6.port, v6.tls), ("::1", 5671, true));
    }

    #[test]
    fn malformed_address_is_refused_without_showing_password() {
        for (text, expected) in [
            ("pulse.mozilla.org", "relative URL"),
            ("https://pulse.mozilla.org", "begins with"),
            (
                "amqps://user:hunter2@pulse.mozilla.org",
                "settings of their own",
            ),
            (
                "amqps://:hunter2@pulse.mozilla.org",
                "settings of their own",
            ),
            ("amqps://pulse.mozilla.org/vhost", "nothing follows"),
            ("amqps://pulse.mozilla.org?heartbeat=1", "nothing follows"),
            ("amqps://", "no host"),
            ("amqps://pulse.mozilla.org:99999", "port"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(
                error.contains(expected) && !error.contains("hunter2"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn only_exchanges_of_the_user_are_its_own() {
        let settings = PulseSettings {
            address: "amqp://localhost".parse().unwrap(),
            vhost: "/".to_owned(),
            user: "me".to_owned(),
            password: "secret".into(),
            ca: None,
        };
        assert!(settings.owns("exchange/me/builds"));
        for foreign in [
            "exchange/mercurial/pushes",
            "exchange/me",
            "exchange/meme/x",
            "queue/me/x",
            "amq.topic",
            "",
        ] {
            assert!(!settings.owns(foreign), "{foreign}");
        }
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
