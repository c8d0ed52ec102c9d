//! The keys of the notifier. What the environment sets, as the notifier's predecessor was set up by it, wins over the
//! document; it alone is enough.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use anyhow::Context as _;
use notify::{CHANNELS, InfluxSettings, Key, Status};
use pulse::Topic;
use saphyr::{MarkedYaml, Scalar, YamlData};
use secrecy::SecretString;
use tracing::info;

use super::{
    Config, Faults, PulseConfig, TaskclusterConfig, Variables, pulse as pulse_user,
    reader::{FromYaml, Section},
    secrets, triggers, web,
};

/// What is set for a channel, or for InfluxDB, by the names of the keys.
pub type Values = BTreeMap<String, SecretString>;

/// Notifications about tasks.
#[derive(Clone)]
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
            let config = Self {
                notify: read(keys),
                pulse: pulse_user::documented(keys, pulse_user::MOZILLA_SERVER),
                taskcluster: triggers::taskcluster(keys, "taskcluster", triggers::FIREFOX),
                channel: keys.optional("APP_CHANNEL").unwrap_or(usual.channel),
                redis_namespace: super::redis_namespace(keys).unwrap_or(usual.redis_namespace),
                sentry_dsn: secrets::sentry_dsn(keys),
            };
            keys.leave_to_others(super::read);
            keys.leave_to_others(web::read);
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
pub(super) fn read(keys: &Section<'_>) -> NotifyConfig {
    let usual = NotifyConfig::default();
    let Some(section) = keys.optional_section("notify") else {
        return usual;
    };
    let channels = CHANNELS.iter().filter_map(|channel| {
        let values = values(&section.optional_section(channel.name)?, channel.keys);
        Some((channel.name.to_owned(), values))
    });
    let config = NotifyConfig {
        channels: channels.collect(),
        influxdb: section
            .optional_section("influxdb")
            .map_or_else(Values::new, |section| {
                values(&section, InfluxSettings::KEYS)
            }),
        services: section
            .optional::<Names>("services")
            .map_or(usual.services, |Names(names)| names),
        statuses: section.optional("statuses").unwrap_or(usual.statuses),
        topics: section.optional("routing_keys").unwrap_or(usual.topics),
        queue: section.optional("queue"),
        identities: section.optional("identities"),
        templates: section.optional("templates"),
        rate_limit_per_minute: section
            .optional::<Limit>("rate_limit_per_minute")
            .map_or(usual.rate_limit_per_minute, |Limit(limit)| limit),
    };
    if let Some(webhook) = section.optional_section("webhook") {
        secrets::advise_weak(&webhook, "secret");
    }
    section.warn_of_unknown();
    config
}

fn values(section: &Section<'_>, keys: &[Key]) -> Values {
    let value = |key: &Key| Some((key.name.to_owned(), section.optional::<Value>(key.name)?.0));
    let values = keys.iter().filter_map(value).collect();
    section.warn_of_unknown();
    values
}

/// What is set for a channel. It may be a secret.
struct Value(SecretString);

impl FromYaml for Value {
    const EXPECTED: &'static str = "a text, a whole number, true or false";
    const SECRET: bool = true;
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        let text = match &node.data {
            YamlData::Value(Scalar::Boolean(flag)) => flag.to_string(),
            YamlData::Value(Scalar::Integer(number)) => number.to_string(),
            _ => String::from_yaml(node)?,
        };
        Some(Self(text.into()))
    }
}

/// Names of channels.
struct Names(Vec<String>);

impl FromYaml for Names {
    const EXPECTED: &'static str = "a list of channels, or a text with colons between them";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        Vec::from_yaml(node)
            .or_else(|| Some(parts(node.data.as_str()?).map(str::to_owned).collect()))
            .map(Self)
    }
}

/// How many are sent before the rest is gathered.
struct Limit(u32);

impl FromYaml for Limit {
    const EXPECTED: &'static str = "a whole number from 1 to 10000";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        let limit = u32::try_from(node.data.as_integer()?).ok()?;
        (1..=10_000).contains(&limit).then_some(Self(limit))
    }
}

impl FromYaml for Vec<Status> {
    const EXPECTED: &'static str = "a list of statuses such as task-failed and artifact-created";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        let statuses = Vec::<String>::from_yaml(node)?
            .iter()
            .map(|name| Status::named(name))
            .collect::<Option<Self>>()?;
        Some(statuses).filter(|statuses| !statuses.is_empty())
    }
}

impl FromYaml for Vec<Topic> {
    const EXPECTED: &'static str =
        "a list of routing keys, in which * is one word and # any number of them";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        Vec::<String>::from_yaml(node)?
            .iter()
            .map(|topic| topic.parse().ok())
            .collect()
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
        assert_eq!(faults, "");
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
                "events.notify.statuses: expected a list of statuses such as task-failed",
            ),
            (
                "statuses: []",
                "events.notify.statuses: expected a list of statuses",
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
