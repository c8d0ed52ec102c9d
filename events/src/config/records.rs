//! What commands of operators need of a configuration: the records of builds and of tasks.

use std::time::Duration;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Config, Faults, REDIS_NAMESPACE, TriggersConfig,
    schema::Keys,
    secrets, triggers,
    values::{Flag, Secret, Text, Written},
};

/// How long what is known of a build is kept, where nothing else is set.
pub(super) const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where the records of builds are, and for how long.
#[derive(Debug, Clone)]
pub struct RecordsConfig {
    /// How long what is known of a build is kept after its last change.
    pub build_retention: Duration,
    /// Whether anything is written to Phabricator, if the document says so.
    pub publish: Option<bool>,
    /// Comes before all keys in Redis.
    pub redis_namespace: String,
    /// Where errors are reported.
    pub sentry_dsn: Option<SecretString>,
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self {
            build_retention: RETENTION,
            publish: None,
            redis_namespace: REDIS_NAMESPACE.to_owned(),
            sentry_dsn: None,
        }
    }
}

impl RecordsConfig {
    /// Reads these keys of a document, and ignores the others.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        super::parse(text, |keys| Some(read(keys)))
    }
}

impl From<&Config> for RecordsConfig {
    fn from(config: &Config) -> Self {
        Self {
            build_retention: config.build_retention,
            publish: Some(config.phabricator.publish),
            redis_namespace: config.redis_namespace.clone(),
            sentry_dsn: config.sentry_dsn.clone(),
        }
    }
}

/// What reports on tasks need.
#[derive(Clone, Default)]
pub struct ReportsConfig {
    /// The settings of triggers and of their mails.
    pub triggers: TriggersConfig,
    /// Where the records are.
    pub records: RecordsConfig,
}

impl ReportsConfig {
    /// Reads these keys of a document, and ignores the others.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        super::parse(text, |keys| {
            Some(Self {
                triggers: triggers::read(keys),
                records: read(keys),
            })
        })
    }
}

/// The keys of every role.
#[derive(Default, Deserialize, JsonSchema)]
pub(super) struct RecordsKeys {
    /// How long [the record of a build](../operate/builds.md#the-record-of-a-build) is kept after its last change.
    #[schemars(extend("default" = "720h"))]
    build_retention: Option<Written<Duration>>,
    /// The prefix of all keys in Redis, as their hash tag.
    #[schemars(extend("default" = "events"))]
    redis_namespace: Option<Text>,
    /// The project to which [errors are reported](../operate/operating.md#errors-to-sentry); an invalid DSN is a warning.
    #[serde(rename = "SENTRY_DSN")]
    sentry_dsn: Option<Secret>,
}

/// Reads the keys. What is not read of Phabricator is no fault here.
pub(super) fn read(keys: &Keys<'_>) -> RecordsConfig {
    let usual = RecordsConfig::default();
    let read: RecordsKeys = keys.read();
    let at = keys.at("");
    let namespace = read.redis_namespace.map(|text| text.0);
    if namespace
        .as_ref()
        .is_some_and(|namespace| namespace.contains(['{', '}']))
    {
        at.reject(
            "redis_namespace",
            "expected a text without braces: it becomes a hash tag",
        );
    }
    let phabricator = keys.value("/PHABRICATOR").and_then(Value::as_object);
    let publish = phabricator.map(|keys| {
        let publish = keys.get("publish").cloned();
        publish.is_some_and(|flag| Flag::deserialize(flag).is_ok_and(|flag| flag.0))
    });
    RecordsConfig {
        build_retention: read
            .build_retention
            .map_or(usual.build_retention, |value| value.0),
        publish,
        redis_namespace: namespace.unwrap_or(usual.redis_namespace),
        sentry_dsn: secrets::sentry_dsn(&at, read.sentry_dsn.map(|dsn| dsn.0)),
    }
}
