//! The settings of commit telemetry, read from the environment like its predecessor's.

use std::fmt;

use ::pulse::{PulseSettings, Topic};
use commit_telemetry::{EdgeSettings, Repository, Rules};
use notify::flag;
use thiserror::Error;
use url::Url;

use super::pulse::{self, Variables};

/// The servers of commit telemetry.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// The default repository. Only pushes to repositories on its server are processed.
    pub target: Repository,
    /// Bugzilla's REST API.
    pub bugzilla: Url,
    /// The address of the pings.
    pub edge: EdgeSettings,
    /// The rules of the classification.
    pub rules: Rules,
    /// Host and port of a StatsD server.
    pub statsd: Option<(String, u16)>,
}

/// The subscription to push messages on Pulse.
#[derive(Debug, Clone)]
pub struct HgPushesConfig {
    /// The broker, and our user on it.
    pub pulse: PulseSettings,
    /// The name of our queue below `queue/<user>/`.
    pub queue: String,
    /// The exchange of Mercurial's messages.
    pub exchange: String,
    /// The repositories, as a routing key.
    pub topic: Topic,
}

/// All faults of the settings.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("the settings (in the environment, or in .env) are invalid:\n{}", .0.join("\n"))]
pub struct TelemetryFaults(Vec<String>);

impl TelemetryConfig {
    /// Reads the settings that make and send pings.
    pub fn read(variables: Variables<'_>) -> Result<Self, TelemetryFaults> {
        let mut reader = Reader::new(variables);
        let config = reader.telemetry();
        reader.all(config)
    }

    /// Reads these and the subscription to push messages.
    pub fn read_with_pulse(
        variables: Variables<'_>,
    ) -> Result<(Self, HgPushesConfig), TelemetryFaults> {
        let mut reader = Reader::new(variables);
        let (config, pushes) = (reader.telemetry(), reader.pushes());
        reader.all(config.zip(pushes))
    }
}

/// Reads variables and collects their faults. Values may be secret, so faults contain only names.
struct Reader<'a> {
    variables: Variables<'a>,
    faults: Vec<String>,
}

impl<'a> Reader<'a> {
    fn new(variables: Variables<'a>) -> Self {
        Self {
            variables,
            faults: Vec::new(),
        }
    }

    fn all<T>(self, value: Option<T>) -> Result<T, TelemetryFaults> {
        value
            .filter(|_| self.faults.is_empty())
            .ok_or(TelemetryFaults(self.faults))
    }

    fn fault(&mut self, name: &str, problem: impl fmt::Display) {
        self.faults.push(format!("{name}: {problem}"));
    }

    /// The value of a variable, or `default`. `None` after a fault.
    fn value<T>(
        &mut self,
        name: &str,
        default: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse((self.variables)(name).as_deref().unwrap_or(default));
        if value.is_none() {
            self.fault(name, format_args!("expected {expected}"));
        }
        value
    }

    fn required(&mut self, name: &str, what: &str) -> Option<String> {
        let value = (self.variables)(name);
        if value.is_none() {
            self.fault(name, format_args!("is not set, expected {what}"));
        }
        value
    }

    fn name(&mut self, name: &str, default: &str) -> Option<String> {
        let expected = "a name without a slash";
        self.value(name, default, expected, |text| {
            (!text.contains('/') && !matches!(text, "." | "..")).then(|| text.to_owned())
        })
    }

    fn url(&mut self, name: &str, default: &str) -> Option<Url> {
        self.value(
            name,
            default,
            "an http or https url without user and password",
            |text| {
                let plain = |url: &Url| {
                    url.username().is_empty() && url.password().is_none() && url.has_host()
                };
                Url::parse(text)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && plain(url))
            },
        )
    }

    fn port(&mut self, name: &str, default: u16) -> Option<u16> {
        let parse = |text: &str| text.parse().ok().filter(|&port| port > 0);
        self.value(name, &default.to_string(), "a port from 1 to 65535", parse)
    }

    /// Reads every variable before it fails, so that all faults are reported.
    fn telemetry(&mut self) -> Option<TelemetryConfig> {
        let target = self.value(
            "TARGET_REPO",
            "https://hg.mozilla.org/mozilla-central/",
            "the url of a repository, without a password",
            |text| text.parse().ok(),
        );
        let bugzilla = self.url("BMO_API_URL", "https://bugzilla.mozilla.org/rest");
        let base = self.url(
            "TMO_BASE_URL",
            "https://incoming.telemetry.mozilla.org/submit",
        );
        let namespace = self.name("TMO_PING_NAMESPACE", "eng-workflow");
        let doctype = self.name("TMO_PING_DOCTYPE", "hgpush");
        let version = self.name("TMO_PING_DOCVERSION", "1");
        let classic = self.value("TELEMETRY_CLASSIC", "0", "1 or 0", flag);
        let port = self.port("STATSD_PORT", 8125);
        let statsd = (self.variables)("STATSD_HOST");
        Some(TelemetryConfig {
            target: target?,
            bugzilla: bugzilla?,
            edge: EdgeSettings {
                base: base?,
                namespace: namespace?,
                doctype: doctype?,
                version: version?,
            },
            rules: if classic? {
                Rules::Classic
            } else {
                Rules::Current
            },
            statsd: statsd.zip(port),
        })
    }

    fn pushes(&mut self) -> Option<HgPushesConfig> {
        let user = pulse::from_environment(None, self.variables, "PULSE_USERNAME");
        let user = user.map_err(|faults| self.faults.extend(faults)).ok();
        let queue = self.required(
            "PULSE_QUEUE_NAME",
            "a name for our queue, such as commit-telemetry",
        );
        let key = "the repositories, such as integration/autoland, or # for all";
        let topic = self.required("PULSE_QUEUE_ROUTING_KEY", key);
        let topic = topic
            .and_then(|_| self.value("PULSE_QUEUE_ROUTING_KEY", "", key, |text| text.parse().ok()));
        let exchange = self.value(
            "PULSE_EXCHANGE",
            "exchange/hgpushes/v2",
            "the name of an exchange",
            |text| text.starts_with("exchange/").then(|| text.to_owned()),
        );
        Some(HgPushesConfig {
            pulse: user?.settings().ok()?,
            queue: queue?,
            exchange: exchange?,
            topic: topic?,
        })
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn variables(set: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        move |name| {
            set.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    const PULSE: &[(&str, &str)] = &[
        ("PULSE_USERNAME", "us"),
        ("PULSE_PASSWORD", "hunter2"),
        ("PULSE_QUEUE_NAME", "telemetry"),
        ("PULSE_QUEUE_ROUTING_KEY", "integration/autoland"),
    ];

    #[test]
    fn defaults_are_those_of_mozilla() {
        let (config, pushes) = TelemetryConfig::read_with_pulse(&variables(PULSE)).unwrap();
        assert_eq!(
            config.target.to_string(),
            "https://hg.mozilla.org/mozilla-central/"
        );
        assert_eq!(
            config.bugzilla.as_str(),
            "https://bugzilla.mozilla.org/rest"
        );
        assert_eq!(
            config.edge.base.as_str(),
            "https://incoming.telemetry.mozilla.org/submit"
        );
        let EdgeSettings {
            namespace,
            doctype,
            version,
            ..
        } = &config.edge;
        assert_eq!(
            [namespace, doctype, version],
            ["eng-workflow", "hgpush", "1"]
        );
        assert_eq!((config.statsd, config.rules), (None, Rules::Current));
        assert_eq!(
            pushes.pulse.address.to_string(),
            "amqps://pulse.mozilla.org:5671"
        );
        assert_eq!(
            (
                pushes.pulse.user.as_str(),
                pushes.pulse.password.expose_secret()
            ),
            ("us", "hunter2")
        );
        assert_eq!(
            (pushes.exchange.as_str(), pushes.topic.as_str()),
            ("exchange/hgpushes/v2", "integration/autoland")
        );
        assert!(!format!("{pushes:?}").contains("hunter2"));
    }

    #[test]
    fn backfill_needs_no_pulse_user() {
        let set = [
            ("STATSD_HOST", "statsd.example"),
            ("STATSD_PORT", "9125"),
            ("TARGET_REPO", "http://hg.example/a"),
        ];
        let config = TelemetryConfig::read(&|name| {
            set.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .unwrap();
        assert_eq!(config.statsd, Some(("statsd.example".to_owned(), 9125)));
        assert_eq!(config.target.to_string(), "http://hg.example/a");
    }

    #[test]
    fn every_fault_is_reported_at_once_by_its_variable_and_without_its_value() {
        const WRONG: &[(&str, &str)] = &[
            ("PULSE_PASSWORD", "hunter2"),
            ("PULSE_PORT", "hunter2"),
            ("PULSE_SSL", "hunter2"),
            ("PULSE_HOST", "us:hunter2@pulse"),
            ("PULSE_EXCHANGE", "hunter2"),
            ("TARGET_REPO", "https://us:hunter2@hg.mozilla.org/try"),
            ("BMO_API_URL", "hunter2"),
            ("TMO_BASE_URL", "ftp://hunter2"),
            ("TMO_PING_DOCTYPE", "a/hunter2"),
            ("TELEMETRY_CLASSIC", "hunter2"),
            ("STATSD_PORT", "0"),
        ];
        let faults = TelemetryConfig::read_with_pulse(&variables(WRONG)).unwrap_err();
        let named: Vec<_> = faults
            .0
            .iter()
            .map(|fault| fault.split(':').next().unwrap())
            .collect();
        assert_eq!(
            named,
            [
                "TARGET_REPO",
                "BMO_API_URL",
                "TMO_BASE_URL",
                "TMO_PING_DOCTYPE",
                "TELEMETRY_CLASSIC",
                "STATSD_PORT",
                "PULSE_USERNAME",
                "PULSE_SSL",
                "PULSE_HOST",
                "PULSE_PORT",
                "PULSE_QUEUE_NAME",
                "PULSE_QUEUE_ROUTING_KEY",
                "PULSE_EXCHANGE"
            ]
        );
        assert!(!faults.to_string().contains("hunter2"), "{faults}");
    }
}
