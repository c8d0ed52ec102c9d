//! The keys of the web server.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use super::{Config, Faults, records, schema::Keys, secrets, values::Secret};

/// What the web server needs of a configuration. It has no secret of the worker's.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub struct WebConfig {
    /// Its own keys.
    pub server: ServerConfig,
    /// How long what is known of a build is kept after its last change.
    pub build_retention: Duration,
    /// Comes before all keys in Redis.
    pub redis_namespace: String,
    /// Where errors are reported.
    pub sentry_dsn: Option<SecretString>,
}

/// What the web server alone needs.
#[derive(Clone, Default)]
#[cfg_attr(test, derive(Debug))]
pub struct ServerConfig {
    /// The secret of the webhook, which Harbormaster sends.
    pub webhook_secret: Option<SecretString>,
    /// What a client of the API must know. Without it there is no API.
    pub api_token: Option<SecretString>,
}

impl WebConfig {
    /// Reads these keys of a document. Those of other roles may be there, and are not kept.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        super::parse(text, |keys| {
            let config = read(keys);
            keys.warn_of_unknown();
            Some(config)
        })
    }
}

impl From<&Config> for WebConfig {
    fn from(config: &Config) -> Self {
        Self {
            server: config.server.clone(),
            build_retention: config.build_retention,
            redis_namespace: config.redis_namespace.clone(),
            sentry_dsn: config.sentry_dsn.clone(),
        }
    }
}

/// The keys of the web server alone.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct WebKeys {
    /// The secret that Harbormaster must send, as [the password of its credential](../use/configuration.md#the-webhook).
    webhook_secret: Option<Secret>,
    /// The token that a client of the [API](api.md#the-api) must send; without it there is no API.
    api_token: Option<Secret>,
}

/// Reads the web server's keys.
pub(super) fn read(keys: &Keys<'_>) -> WebConfig {
    let read: WebKeys = keys.read();
    let at = keys.at("");
    let webhook_secret = read.webhook_secret.map(|secret| secret.0);
    let api_token = read.api_token.map(|token| token.0);
    if !at.has("webhook_secret") {
        at.advise(
            "webhook_secret",
            "is not set: whoever reaches the port can start builds",
        );
    }
    secrets::advise_weak(&at, "webhook_secret", webhook_secret.as_ref());
    secrets::advise_weak(&at, "api_token", api_token.as_ref());
    let records = records::read(keys);
    WebConfig {
        server: ServerConfig {
            webhook_secret,
            api_token,
        },
        build_retention: records.build_retention,
        redis_namespace: records.redis_namespace,
        sentry_dsn: records.sentry_dsn,
    }
}
