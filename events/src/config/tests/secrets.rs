//! The warnings of secrets that others can read or guess.

use super::*;

#[test]
fn a_secret_that_can_be_guessed_is_warned_of_and_not_shown() {
    for (secret, warned) in [
        ("hunter2", true),
        ("0123456789abcde", true),
        ("0123456789abcdef", false),
    ] {
        let (_, faults) = Config::parse(&format!("{GOOD}  webhook_secret: {secret}\n"));
        assert_eq!(
            faults.to_string().contains("is shorter than 16 characters"),
            warned,
            "{faults}"
        );
        assert!(!faults.to_string().contains(secret));
    }
}

#[test]
fn secrets_without_tls_and_secrets_that_can_be_guessed_are_warned_of() {
    let warnings = |text: &str| {
        let (config, faults) = Config::parse(text);
        assert!(config.is_some(), "{faults}");
        faults.to_string()
    };
    let plain = warnings(&format!(
        "{}  LANDO: {{url: 'http://lando.example.com'}}\n  api_token: t0ken\n  webhook_secret: changeme-changeme-changeme\n  \
         pulse_url: amqp://pulse.example.com\n  pulse_user: us\n  pulse_password: x\n  \
         notify: {{webhook: {{url: 'https://hooks.example', secret: short}}}}\n  \
         taskcluster: {{root_url: 'http://taskcluster.example.com', client_id: c, access_token: t}}\n",
        GOOD.replace("https://phabricator", "http://phabricator")
            .replace("https://hg.example", "http://us:pw@hg.example"),
    ));
    for expected in [
        "line 5: common.PHABRICATOR.url: does not use TLS, so anybody on the way can read the api key: use TLS",
        "line 14: events.repositories[0].url: does not use TLS, so anybody on the way can read its password",
        "line 22: events.LANDO.url: does not use TLS, so anybody on the way can read the api key of Phabricator",
        "line 23: events.api_token: is shorter than 16 characters: it can be guessed",
        "line 24: events.webhook_secret: is a placeholder: it can be guessed",
        "line 25: events.pulse_url: does not use TLS, so anybody on the way can read the password",
        "line 28: events.notify.webhook.secret: is shorter than 16 characters: it can be guessed",
        "line 29: events.taskcluster.root_url: does not use TLS, so anybody on the way can read what we sign and send",
    ] {
        assert!(plain.contains(expected), "{expected} in\n{plain}");
    }
    assert!(
        !plain.contains("t0ken") && !plain.contains("us:pw"),
        "{plain}"
    );
    let loopback = GOOD.replace("https://phabricator.example.com", "http://127.0.0.1:8080");
    assert!(!warnings(&loopback).contains("does not use TLS"));
}

#[test]
fn a_file_with_secrets_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.yml");
    let warnings = |text: &str, mode: u32| {
        std::fs::write(&path, text).expect("it is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
        let (_, faults) = load(&path, WebConfig::parse).unwrap_or_else(|error| panic!("{error}"));
        faults.to_string()
    };
    let secret = "events: {webhook_secret: 0123456789abcdef, docs_url: 'https://docs.example.com'}";
    for mode in [0o644, 0o640, 0o602] {
        assert!(
            warnings(secret, mode)
                .contains(&format!("the file holds secrets, and its mode {mode:04o}"))
        );
    }
    assert_eq!(warnings(secret, 0o600), "");
    assert!(!warnings("events: {redis_namespace: x}", 0o644).contains("its mode"));
}
