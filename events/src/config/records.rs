//! What commands of operators need of a configuration: the records of builds and of tasks.

use std::time::Duration;

use secrecy::SecretString;

use super::{Config, Faults, REDIS_NAMESPACE, TriggersConfig, reader::Section, secrets, triggers};

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

fn read(keys: &Section<'_>) -> RecordsConfig {
    let usual = RecordsConfig::default();
    RecordsConfig {
        build_retention: retention(keys),
        publish: keys.glimpse("PHABRICATOR", "publish", false),
        redis_namespace: super::redis_namespace(keys).unwrap_or(usual.redis_namespace),
        sentry_dsn: secrets::sentry_dsn(keys),
    }
}

/// How long what is known of a build is kept.
pub(super) fn retention(keys: &Section<'_>) -> Duration {
    keys.optional("build_retention").unwrap_or(RETENTION)
}
