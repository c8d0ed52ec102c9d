//! The settings of a RabbitMQ for tests.

use std::{fmt::Write, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The user that tests act as, and its password.
pub(super) const USER: &str = "pulseuser";
/// Owns every exchange that is not the user's: the rest of Mozilla.
pub(super) const ADMIN: &str = "admin";
/// Of both.
pub(super) const PASSWORD: &str = "a password";

/// The virtual hosts and the users, with the permissions that PulseGuardian gives to each user of Pulse:
/// <https://github.com/mozilla/pulseguardian> (`pulseguardian/model/user.py`).
pub(super) fn definitions(vhosts: &[String]) -> Value {
    let own = format!("^(queue/{USER}/.*|exchange/{USER}/.*)");
    let read = format!("^(queue/{USER}/.*|exchange/.*)");
    let permissions = vhosts.iter().flat_map(|vhost| {
        [
            json!({"user": USER, "vhost": vhost, "configure": own, "write": own, "read": read}),
            json!({"user": ADMIN, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}),
        ]
    });
    json!({
        "users": [user(USER, ""), user(ADMIN, "administrator")],
        "vhosts": vhosts.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "permissions": permissions.collect::<Vec<_>>(),
    })
}

fn user(name: &str, tags: &str) -> Value {
    let salt = [1, 2, 3, 4];
    let mut hash = salt.to_vec();
    hash.extend(
        Sha256::new()
            .chain_update(salt)
            .chain_update(PASSWORD)
            .finalize(),
    );
    json!({
        "name": name,
        "password_hash": BASE64_STANDARD.encode(hash),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    })
}

/// The certificate and the key of a server that speaks TLS.
pub(super) struct Tls<'a> {
    pub(super) ca: &'a Path,
    pub(super) certificate: &'a Path,
    pub(super) key: &'a Path,
}

/// The configuration file.
pub(super) fn configuration(definitions: &Path, port: u16, tls: Option<&Tls<'_>>) -> String {
    let listener = match tls {
        None => format!("listeners.tcp.1 = 127.0.0.1:{port}\n"),
        Some(Tls {
            ca,
            certificate,
            key,
        }) => {
            let mut text = format!("listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\n");
            for (name, file) in [
                ("cacertfile", ca),
                ("certfile", certificate),
                ("keyfile", key),
            ] {
                // Writing to a text cannot fail.
                let _ = writeln!(text, "ssl_options.{name} = {}", file.display());
            }
            text + "ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
        }
    };
    let definitions = definitions.display();
    format!(
        "{listener}load_definitions = {definitions}\nlog.console = true\nlog.console.level = warning\nlog.file = false\n\
         disk_free_limit.absolute = 1MB\n"
    )
}
