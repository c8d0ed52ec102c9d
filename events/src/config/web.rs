//! The keys of the web server.

use std::time::Duration;

use phabricator::BuildPages;
use secrecy::SecretString;

use super::{Config, Faults, REDIS_NAMESPACE, reader::Section, secrets};

/// What the web server needs of a configuration. It has no secret of the worker's.
#[derive(Clone)]
pub struct WebConfig {
    /// The secret of the webhook, which Harbormaster sends.
    pub webhook_secret: Option<SecretString>,
    /// Where people read of builds.
    pub pages: BuildPages,
    /// What a client of the API must know. Without it there is no API.
    pub api_token: Option<SecretString>,
    /// How long what is known of a build is kept after its last change.
    pub build_retention: Duration,
    /// Comes before all keys in Redis.
    pub redis_namespace: String,
    /// Where errors are reported.
    pub sentry_dsn: Option<SecretString>,
}

impl WebConfig {
    /// Reads these keys of a document. Those of other roles may be there, and are not kept.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        super::parse(text, |keys| {
            let config = read(keys);
            keys.leave_to_others(super::read);
            keys.warn_of_unknown();
            Some(config)
        })
    }
}

impl From<&Config> for WebConfig {
    fn from(config: &Config) -> Self {
        Self {
            webhook_secret: config.webhook_secret.clone(),
            pages: config.pages.clone(),
            api_token: config.api_token.clone(),
            build_retention: config.build_retention,
            redis_namespace: config.redis_namespace.clone(),
            sentry_dsn: config.sentry_dsn.clone(),
        }
    }
}

/// Consequence for builds without a page.
const NO_LINK: &str = "is not set, nor is docs_url: a build that ends without a push has no link to the reason, which Phorge \
                       hides on the revision";

/// Where people read of builds.
pub(super) fn pages(keys: &Section<'_>) -> BuildPages {
    let pages = BuildPages {
        public_url: keys.optional("public_url"),
        docs_url: keys.optional("docs_url"),
    };
    if pages == BuildPages::default() {
        keys.advise("public_url", NO_LINK);
    }
    pages
}

/// Reads the web server's keys.
pub(super) fn read(keys: &Section<'_>) -> WebConfig {
    let webhook_secret = keys.optional("webhook_secret");
    if webhook_secret.is_none() {
        keys.advise(
            "webhook_secret",
            "is not set: whoever reaches the port can start builds",
        );
    }
    secrets::advise_weak(keys, "webhook_secret");
    secrets::advise_weak(keys, "api_token");
    WebConfig {
        webhook_secret,
        pages: pages(keys),
        api_token: keys.optional("api_token"),
        build_retention: super::records::retention(keys),
        redis_namespace: super::redis_namespace(keys).unwrap_or_else(|| REDIS_NAMESPACE.to_owned()),
        sentry_dsn: secrets::sentry_dsn(keys),
    }
}
