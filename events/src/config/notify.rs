//! The keys of the notifier. What the environment sets, as the notifier's predecessor was set up by it, wins over the
//! document; it alone is enough.

mod keys;

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use anyhow::Context as _;
use notify::Status;
use pulse::Topic;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use tracing::info;

pub(super) use self::keys::NotifierKeys;
use self::keys::{INFLUXDB, Names};
use super::{
    Config, Faults, PulseConfig, TaskclusterConfig, Variables, pulse as pulse_user, records,
    schema::Keys,
    secrets,
    triggers::{self, FirefoxKeys},
    values::{List, Text, Values},
};

/// Notifications about tasks.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub struct NotifyConfig {
    /// The channels that are open. None: there is no notifier.
    pub services: Vec<String>,
    /// The statuses that are handled.
    pub statuses: Vec<Status>,
    /// The routing keys of the messages that are received; none: all.
    pub topics: Vec<Topic>,
    /// The queue on Pulse, without `queue/<user>/`.
    pub queue: Option<String>,
    /// The identities file.
    pub identities: Option<PathBuf>,
    /// A folder of templates that replace ours.
    pub templates: Option<PathBuf>,
    /// How many notifications a minute reach one recipient one by one; the others of the minute become a digest.
    pub rate_limit_per_minute: u32,
    /// What is set for each channel.
    pub channels: BTreeMap<String, Values>,
    /// What is set for InfluxDB.
    pub influxdb: Values,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            services: Vec::new(),
            statuses: Status::ALL.to_vec(),
            topics: Vec::new(),
            queue: None,
            identities: None,
            templates: None,
            rate_limit_per_minute: 20,
            channels: BTreeMap::new(),
            influxdb: BTreeMap::new(),
        }
    }
}

/// What the notifier needs of a configuration, and works without.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
pub struct NotifierConfig {
    /// Notifications about tasks.
    pub notify: NotifyConfig,
    /// Our user on Pulse.
    pub pulse: Option<PulseConfig>,
    /// Taskcluster, when the configuration says something of it.
    pub taskcluster: Option<TaskclusterConfig>,
    /// What this deployment calls itself.
    pub channel: String,
    /// Comes before all keys in Redis.
    pub redis_namespace: String,
    /// Where errors are reported.
    pub sentry_dsn: Option<SecretString>,
}

/// The keys of triggers that the notifier has too.
#[derive(Default, Deserialize, JsonSchema)]
struct OwnKeys {
    /// The name of this deployment.
    #[serde(rename = "APP_CHANNEL")]
    channel: Option<Text>,
    /// Our client on Firefox's Taskcluster.
    taskcluster: Option<FirefoxKeys>,
}

impl From<&Config> for NotifierConfig {
    fn from(config: &Config) -> Self {
        Self {
            notify: config.notify.clone(),
            pulse: config.triggers.pulse.clone(),
            taskcluster: config.triggers.taskcluster.clone(),
            channel: config.triggers.channel.clone(),
            redis_namespace: config.redis_namespace.clone(),
            sentry_dsn: config.sentry_dsn.clone(),
        }
    }
}

impl NotifierConfig {
    /// What is there without a document.
    pub fn without_document() -> Self {
        let usual = triggers::TriggersConfig::default();
        let (notify, redis_namespace) =
            (NotifyConfig::default(), super::REDIS_NAMESPACE.to_owned());
        Self {
            notify,
            pulse: None,
            taskcluster: None,
            channel: usual.channel,
            redis_namespace,
            sentry_dsn: None,
        }
    }

    /// Reads these keys of a document. Those of other roles may be there, and are not kept.
    pub fn parse(text: &str) -> (Option<Self>, Faults) {
        super::parse(text, |keys| {
            let usual = Self::without_document();
            let own: OwnKeys = keys.read();
            let taskcluster = own
                .taskcluster
                .and_then(|read| triggers::firefox(read, &keys.at("").child("taskcluster")));
            let records = records::read(keys);
            let config = Self {
                notify: read(keys),
                pulse: pulse_user::mozilla(keys),
                taskcluster,
                channel: own.channel.map_or(usual.channel, |text| text.0),
                redis_namespace: records.redis_namespace,
                sentry_dsn: records.sentry_dsn,
            };
            keys.warn_of_unknown();
            Some(config)
        })
    }

    /// The same with what the environment says, which wins; what loses is logged. The variables of channels are not among
    /// these, each channel knows its own.
    pub fn with_environment(self, environment: Variables<'_>) -> anyhow::Result<Self> {
        let mut notify = self.notify;
        let documented = |there: bool, key, variable| {
            if there {
                info!(
                    key,
                    variable, "environment variable overrides the key of the file"
                );
            }
        };
        if let Some(services) = environment("PN_SERVICES") {
            documented(
                !notify.services.is_empty(),
                "notify.services",
                "PN_SERVICES",
            );
            notify.services = parts(&services).map(str::to_owned).collect();
        }
        if let Some(topics) = environment("ROUTING_KEYS") {
            documented(
                !notify.topics.is_empty(),
                "notify.routing_keys",
                "ROUTING_KEYS",
            );
            let topics = parts(&topics)
                .map(Topic::from_str)
                .collect::<Result<_, _>>();
            notify.topics = topics
                .context("ROUTING_KEYS is not a list of routing keys with colons between them")?;
        }
        if let Some(queue) = environment("PULSE_QUEUE") {
            documented(notify.queue.is_some(), "notify.queue", "PULSE_QUEUE");
            notify.queue = Some(queue);
        }
        let pulse = pulse_user::with_environment(self.pulse, environment)?;
        Ok(Self {
            notify,
            pulse,
            ..self
        })
    }
}

/// What stands between colons.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(':')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

/// Reads them. Everything is read before anything is given up for a fault, so that all faults are found.
pub(super) fn read(keys: &Keys<'_>) -> NotifyConfig {
    let usual = NotifyConfig::default();
    let NotifierKeys { notify } = keys.read();
    let Some(read) = notify else {
        return usual;
    };
    let mut channels = read.sections.0;
    let secret = channels
        .get("webhook")
        .and_then(|webhook| webhook.get("secret"));
    secrets::advise_weak(&keys.at("/notify/webhook"), "secret", secret);
    NotifyConfig {
        influxdb: channels.remove(INFLUXDB).unwrap_or_default(),
        channels,
        services: read.services.map_or(usual.services, |Names(names)| names),
        statuses: read.statuses.map_or(usual.statuses, List::values),
        topics: read.routing_keys.map_or(usual.topics, List::values),
        queue: read.queue.map(|text| text.0),
        identities: read.identities.map(|path| path.0),
        templates: read.templates.map(|path| path.0),
        rate_limit_per_minute: read
            .rate_limit_per_minute
            .unwrap_or(usual.rate_limit_per_minute),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn parse(text: &str) -> (Option<NotifierConfig>, String) {
        let (config, faults) = NotifierConfig::parse(text);
        (config, faults.to_string())
    }

    fn variables(set: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| {
            set.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn a_document_may_hold_the_notifier_alone() {
        let (config, faults) = parse(
            "events:
  PHABRICATOR: 7
  pulse_user: us
  pulse_password: hunter2
  notify:
    services: [webhook]
    statuses: [task-failed, artifact-created]
    routing_keys: ['route.index.#']
    rate_limit_per_minute: 3
    webhook: {url: https://hooks.example, secret: 0123456789}
",
        );
        assert_eq!(
            faults,
            "warning: line 10: events.notify.webhook.secret: is shorter than 16 characters: it can be guessed; use 32 random \
             characters"
        );
        let NotifierConfig { notify, pulse, .. } = config.expect("it is right");
        assert_eq!(
            (notify.services, notify.rate_limit_per_minute),
            (vec!["webhook".to_owned()], 3)
        );
        assert_eq!(
            notify.statuses,
            [Status::TaskFailed, Status::ArtifactCreated]
        );
        assert_eq!(
            notify
                .topics
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
            ["route.index.#"]
        );
        assert_eq!(
            notify.channels["webhook"]["secret"].expose_secret(),
            "123456789",
            "a number is a number in YAML"
        );
        assert_eq!(pulse.expect("a user").user, "us");
    }

    #[test]
    fn faults_are_named() {
        for (more, expected) in [
            (
                "services: {}",
                "events.notify.services: expected a list of channels, or a text with colons",
            ),
            (
                "statuses: [failed]",
                "events.notify.statuses[0]: expected a status such as task-failed",
            ),
            (
                "statuses: []",
                "events.notify.statuses: expected at least one, found an empty list",
            ),
            (
                "routing_keys: a",
                "events.notify.routing_keys: expected a list of routing keys",
            ),
            (
                "rate_limit_per_minute: 0",
                "events.notify.rate_limit_per_minute: expected a whole number from 1 to 10000",
            ),
            (
                "webhook: {url: [x]}",
                "events.notify.webhook.url: expected a text, a whole number, true or false",
            ),
        ] {
            let (config, faults) = parse(&format!("events: {{notify: {{{more}}}}}"));
            assert!(config.is_none(), "{more}");
            assert!(faults.contains(expected), "{more}: {faults}");
        }
        let (_, warnings) = parse("events: {notify: {service: [x], webhook: {uri: x}}}");
        assert!(
            warnings.contains("events.notify.service: unknown key, did you mean services?"),
            "{warnings}"
        );
        assert!(
            warnings.contains("events.notify.webhook.uri: unknown key, did you mean url?"),
            "{warnings}"
        );
    }

    #[test]
    fn unknown_key_is_warned_of_and_keys_of_other_roles_are_not() {
        let (config, warnings) = parse(
            "events: {notfy: {services: [irc]}, repositories: [], ssh_key: 7, webhook_secret: x, api_token: x}",
        );
        assert!(config.is_some(), "{warnings}");
        assert_eq!(
            warnings,
            "warning: line 1: events.notfy: unknown key, did you mean notify?"
        );
    }

    #[test]
    fn the_environment_alone_is_enough() {
        let set = variables(&[
            ("PN_SERVICES", "smtp:irc"),
            ("PULSE_HOST", "pulse.example"),
            ("PULSE_LOGIN", "us"),
            ("PULSE_PASSWORD", "hunter2"),
            ("PULSE_SSL", "0"),
            ("PULSE_QUEUE", "mine"),
            ("ROUTING_KEYS", "primary.#:route.index.#"),
        ]);
        let NotifierConfig { notify, pulse, .. } = NotifierConfig::without_document()
            .with_environment(&set)
            .unwrap();
        let pulse = pulse.expect("a user");
        assert_eq!(
            (pulse.url.as_str(), pulse.user.as_str()),
            ("amqp://pulse.example:5672/", "us")
        );
        assert_eq!(
            (notify.services, notify.topics.len()),
            (vec!["smtp".to_owned(), "irc".to_owned()], 2)
        );
        assert_eq!(notify.queue.as_deref(), Some("mine"));
    }

    #[test]
    fn the_environment_wins_over_the_document() {
        let text = "events: {notify: {services: [webhook]}, pulse_user: us, pulse_password: x, pulse_url: 'amqp://a:99/v'}";
        let config = || parse(text).0.expect("it is right");
        let both = config()
            .with_environment(&variables(&[
                ("PULSE_LOGIN", "them"),
                ("PN_SERVICES", "irc"),
            ]))
            .unwrap();
        let pulse = both.pulse.expect("a user");
        assert_eq!(
            (pulse.url.as_str(), pulse.user.as_str()),
            ("amqp://a:99/v", "them")
        );
        assert_eq!(pulse.password.expose_secret(), "x");
        assert_eq!(both.notify.services, ["irc"]);
        let other = config()
            .with_environment(&variables(&[("PULSE_HOST", "b"), ("PULSE_SSL", "true")]))
            .unwrap();
        assert_eq!(
            other.pulse.expect("a user").url.as_str(),
            "amqps://b:5671/v"
        );
        let untouched = config().with_environment(&variables(&[])).unwrap();
        assert_eq!(
            untouched.pulse.expect("a user").url.as_str(),
            "amqp://a:99/v"
        );
    }
}
