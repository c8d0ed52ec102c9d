//! Warnings about secrets that do not stay secret.

use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::schema::At;

/// A secret with fewer characters can be guessed.
const SHORT: usize = 16;

/// One with fewer different characters, too.
const VARIETY: usize = 6;

/// Parts of texts that stand where a secret has to be put in.
const PLACEHOLDERS: &[&str] = &["changeme", "password", "putalongrandomtexthere", "putthe"];

/// Warns of the secret under `key` if it can be guessed.
pub(super) fn advise_weak(at: &At<'_>, key: &str, secret: Option<&SecretString>) {
    if let Some(weakness) = secret.and_then(weakness) {
        at.advise(
            key,
            &format!("{weakness}: it can be guessed; use 32 random characters"),
        );
    }
}

/// Why a secret can be guessed.
fn weakness(secret: &SecretString) -> Option<&'static str> {
    let secret = secret.expose_secret();
    let letters: String = secret
        .chars()
        .filter(|c| c.is_alphanumeric())
        .flat_map(char::to_lowercase)
        .collect();
    let mut different: Vec<char> = secret.chars().collect();
    different.sort_unstable();
    different.dedup();
    if PLACEHOLDERS
        .iter()
        .any(|placeholder| letters.contains(placeholder))
    {
        Some("is a placeholder")
    } else if secret.chars().count() < SHORT {
        Some("is shorter than 16 characters")
    } else if different.len() < VARIETY {
        Some("has fewer than 6 different characters")
    } else {
        None
    }
}

/// Warns of an address under `key` to which `what` is sent without TLS. Loopback addresses are exempt.
pub(super) fn advise_plain_http(at: &At<'_>, key: &str, url: Option<&Url>, what: &str) {
    if url.is_some_and(|url| matches!(url.scheme(), "http" | "amqp") && !is_loopback(url)) {
        at.advise(
            key,
            &format!("does not use TLS, so anybody on the way can read {what}: use TLS"),
        );
    }
}

/// The DSN of Sentry. An invalid one is a warning, since no build depends on it.
pub(super) fn sentry_dsn(at: &At<'_>, dsn: Option<SecretString>) -> Option<SecretString> {
    const KEY: &str = "SENTRY_DSN";
    let dsn = dsn?;
    if !observe::sentry::is_dsn(dsn.expose_secret()) {
        at.advise(
            KEY,
            "is not a DSN, so errors are not reported: expected https://KEY@HOST/PROJECT",
        );
        return None;
    }
    let url = Url::parse(dsn.expose_secret()).ok();
    advise_plain_http(at, KEY, url.as_ref(), "the errors that are reported");
    Some(dsn)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Addresses in urls whose schemes are not the web's are names to their parser.
        Some(Host::Domain(name)) => match name.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        },
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_can_be_guessed_has_a_weakness() {
        for (secret, expected) in [
            ("hunter2", Some("is shorter than 16 characters")),
            ("0123456789abcde", Some("is shorter than 16 characters")),
            ("0123456789abcdef", None),
            ("Change-Me", Some("is a placeholder")),
            ("my very long password", Some("is a placeholder")),
            ("put a long random text here", Some("is a placeholder")),
            (
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                Some("has fewer than 6 different characters"),
            ),
        ] {
            assert_eq!(weakness(&secret.into()), expected, "{secret}");
        }
    }

    #[test]
    fn nobody_listens_between_on_loopback() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://127.3.2.1", true),
            ("http://[::1]:80", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
            ("amqp://127.0.0.1:5672/v", true),
            ("amqp://[::1]", true),
            ("amqp://localhost", true),
            ("amqp://pulse.example", false),
        ] {
            assert_eq!(is_loopback(&url.parse().expect("a url")), expected, "{url}");
        }
    }
}
