//! The settings of Pulse, Taskcluster, and what is triggered there.

use std::time::Duration;

use saphyr::MarkedYaml;
use secrecy::SecretString;
use url::Url;

use super::{
    pulse::{self, COMMUNITY_SERVER, MOZILLA_SERVER, PulseConfig},
    reader::{FromYaml, Section},
    secrets,
};

/// Everything beside the builds. Not to be shown: addresses may hold passwords.
#[derive(Clone)]
pub struct TriggersConfig {
    /// The deployment's name, which is a part of hooks' names.
    pub channel: String,
    /// Who is sent reports.
    pub admins: Vec<String>,
    /// Our user on Pulse.
    pub pulse: Option<PulseConfig>,
    /// Our user on the Pulse of the community's Taskcluster.
    pub community_pulse: Option<PulseConfig>,
    /// Taskcluster, when the configuration says something of it.
    pub taskcluster: Option<TaskclusterConfig>,
    /// The community's Taskcluster.
    pub community: Option<TaskclusterConfig>,
    /// Hooks that messages and new diffs trigger.
    pub hooks: Vec<HookConfig>,
    /// Whether builds of autoland are reviewed.
    pub autoland: bool,
    /// Whether builds of mozilla-central are reviewed.
    pub mozilla_central: bool,
    /// The diffs whose pushes have their tests selected.
    pub test_selection: Option<TestSelectionConfig>,
    /// What the services of bugbug call our Phabricator.
    pub bugbug_deployment: Option<String>,
    /// Whose revisions have their risk analysed, by username.
    pub risk_analysis_users: Vec<String>,
    /// The time between two reports.
    pub monitoring_period: Duration,
}

impl Default for TriggersConfig {
    fn default() -> Self {
        Self {
            channel: "development".to_owned(),
            admins: Vec::new(),
            pulse: None,
            community_pulse: None,
            taskcluster: None,
            community: None,
            hooks: Vec::new(),
            autoland: false,
            mozilla_central: false,
            test_selection: None,
            bugbug_deployment: None,
            risk_analysis_users: Vec::new(),
            monitoring_period: Duration::from_secs(7 * 3600),
        }
    }
}

/// A Taskcluster.
#[derive(Clone)]
pub struct TaskclusterConfig {
    /// The url that all services are below of.
    pub root_url: Url,
    /// Who we are there.
    pub client_id: String,
    /// The proof.
    pub access_token: SecretString,
}

/// A hook, and what triggers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookConfig {
    /// The group of the hook.
    pub group: String,
    /// Its name in the group.
    pub id: String,
    /// What triggers it.
    pub source: HookSource,
}

/// What triggers a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookSource {
    /// New diffs of these repositories, which Phabricator is asked for at this interval.
    Phabricator {
        /// Their short names on Phabricator.
        repositories: Vec<String>,
        /// The time between two questions.
        interval: Duration,
    },
    /// Commits that were published on MozReview for the repository with this url.
    Mozreview {
        /// As messages name it.
        repository_url: String,
    },
    /// Task groups with builds for code coverage.
    CodeCoverage {
        /// The topics of the messages that tell of them.
        topic: String,
    },
}

/// The diffs whose pushes have their tests selected.
#[derive(Debug, Clone, PartialEq)]
pub struct TestSelectionConfig {
    /// The share of diffs, from 0 to 1.
    pub share: f64,
    /// The recipients of mails.
    pub notify: Vec<String>,
}

/// The Taskcluster that works for Firefox.
pub const FIREFOX: &str = "https://firefox-ci-tc.services.mozilla.com";
const COMMUNITY: &str = "https://community-tc.services.mozilla.com";
/// The group whose hooks the services are.
const HOOK_GROUP: &str = "project-releng";

/// A part of a whole.
struct Share(f64);

impl FromYaml for Share {
    const EXPECTED: &'static str = "a share from 0 to 1";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "only 0 and 1 are right")]
        let share = node
            .data
            .as_floating_point()
            .or_else(|| node.data.as_integer().map(|whole| whole as f64))?;
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }
}

/// The time between two reports. What a report needs is kept for a month.
struct Period(Duration);

impl FromYaml for Period {
    const EXPECTED: &'static str = "a duration of a week at most, such as 7h";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        Duration::from_yaml(node)
            .filter(|period| *period <= Duration::from_secs(7 * 24 * 3600))
            .map(Self)
    }
}

/// A duration that may be a bare number of seconds, as files of the original have it.
struct Seconds(Duration);

impl FromYaml for Seconds {
    const EXPECTED: &'static str = "a duration such as 60s, or a number of seconds";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        match node.data.as_integer() {
            Some(seconds) => u64::try_from(seconds)
                .ok()
                .filter(|seconds| *seconds > 0)
                .map(Duration::from_secs),
            None => Duration::from_yaml(node),
        }
        .map(Self)
    }
}

/// Reads them. Everything is read before anything is given up for a fault, so that all faults are found.
pub(super) fn read(keys: &Section<'_>) -> TriggersConfig {
    let usual = TriggersConfig::default();
    let config = TriggersConfig {
        channel: keys.optional("APP_CHANNEL").unwrap_or(usual.channel),
        admins: keys.optional("admins").unwrap_or_default(),
        pulse: pulse::documented(keys, MOZILLA_SERVER),
        community_pulse: pulse::documented(keys, COMMUNITY_SERVER),
        taskcluster: taskcluster(keys, "taskcluster", FIREFOX),
        community: taskcluster(keys, "taskcluster_community", COMMUNITY),
        hooks: keys
            .optional_sections("HOOKS")
            .iter()
            .filter_map(hook)
            .collect(),
        autoland: keys.optional("autoland_enabled").unwrap_or(false),
        mozilla_central: keys.optional("mozilla_central_enabled").unwrap_or(false),
        test_selection: test_selection(keys),
        bugbug_deployment: keys.optional("bugbug_phabricator_deployment"),
        risk_analysis_users: keys.optional("risk_analysis_users").unwrap_or_default(),
        monitoring_period: keys
            .optional::<Period>("monitoring_period")
            .map_or(usual.monitoring_period, |Period(period)| period),
    };
    let listens = config
        .hooks
        .iter()
        .any(|hook| !matches!(hook.source, HookSource::Phabricator { .. }));
    let needs_pulse = [
        (listens, "HOOKS"),
        (config.autoland, "autoland_enabled"),
        (config.mozilla_central, "mozilla_central_enabled"),
        (config.test_selection.is_some(), "test_selection_enabled"),
    ];
    if let Some((_, key)) = needs_pulse
        .iter()
        .find(|(on, _)| *on && config.pulse.is_none())
    {
        keys.reject(
            "pulse_user",
            &format!("our user on Pulse, since {key} needs it"),
        );
    }
    let bugbug = [
        (config.test_selection.is_some(), "test_selection_enabled"),
        (
            !config.risk_analysis_users.is_empty(),
            "risk_analysis_users",
        ),
    ];
    if let Some((_, key)) = bugbug.iter().find(|(on, _)| *on) {
        if config.community.is_none() {
            keys.reject(
                "taskcluster_community",
                &format!("a map with client_id and access_token, since {key} needs it"),
            );
        }
        if config.bugbug_deployment.is_none() {
            keys.reject(
                "bugbug_phabricator_deployment",
                &format!("the name that bugbug has for our Phabricator, since {key} needs it"),
            );
        }
    }
    if config.test_selection.is_some() && config.community_pulse.is_none() {
        keys.reject(
            "communitytc_pulse_user",
            "our user on the community's Pulse, since test_selection_enabled needs it",
        );
    }
    config
}

/// A Taskcluster, if it is configured.
pub(super) fn taskcluster(
    keys: &Section<'_>,
    key: &'static str,
    usual: &str,
) -> Option<TaskclusterConfig> {
    let section = keys.optional_section(key)?;
    let root_url = section
        .optional("root_url")
        .or_else(|| Url::parse(usual).ok());
    secrets::advise_plain_http(
        &section,
        "root_url",
        root_url.as_ref(),
        "what we sign and send",
    );
    let (client_id, access_token) = (
        section.required("client_id"),
        section.required("access_token"),
    );
    section.warn_of_unknown();
    Some(TaskclusterConfig {
        root_url: root_url?,
        client_id: client_id?,
        access_token: access_token?,
    })
}

fn hook(section: &Section<'_>) -> Option<HookConfig> {
    let kind: Option<String> = section.required("type");
    let id = section.required("hookId");
    let group = section
        .optional("hookGroupId")
        .unwrap_or_else(|| HOOK_GROUP.to_owned());
    let source = match kind.as_deref() {
        Some("static-analysis-phabricator") => {
            let repositories: Option<Vec<String>> = section.required("repositories");
            let interval = section
                .optional::<Seconds>("interval")
                .map_or(Duration::from_secs(60), |Seconds(interval)| interval);
            repositories.map(|repositories| HookSource::Phabricator {
                repositories,
                interval,
            })
        }
        Some("static-analysis-mozreview") => Some(HookSource::Mozreview {
            repository_url: section
                .optional("repository_url")
                .unwrap_or_else(|| "https://reviewboard-hg.mozilla.org/gecko".to_owned()),
        }),
        Some("code-coverage") => Some(HookSource::CodeCoverage {
            topic: section
                .optional("topic")
                .unwrap_or_else(|| "#.gecko-level-3.#".to_owned()),
        }),
        Some(_) => {
            section.reject(
                "type",
                "expected static-analysis-phabricator, static-analysis-mozreview or code-coverage",
            );
            None
        }
        None => None,
    };
    section.warn_of_unknown();
    Some(HookConfig {
        group,
        id: id?,
        source: source?,
    })
}

fn test_selection(keys: &Section<'_>) -> Option<TestSelectionConfig> {
    let enabled = keys.optional("test_selection_enabled").unwrap_or(false);
    let share = keys
        .optional::<Share>("test_selection_share")
        .map_or(1.0, |Share(share)| share);
    let notify = keys
        .optional("test_selection_notify_addresses")
        .unwrap_or_default();
    enabled.then_some(TestSelectionConfig { share, notify })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const BASE: &str = "events:\n  PHABRICATOR: {url: 'https://p.example', api_key: x}\n  webhook_secret: 0123456789abcdef\n  \
                        docs_url: https://docs.example\n  repositories: [{name: a, url: b, try_url: c}]\n";

    fn parse(more: &str) -> (Option<TriggersConfig>, String) {
        let (config, faults) = Config::parse(&format!("{BASE}{more}"));
        (config.map(|config| config.triggers), faults.to_string())
    }

    #[test]
    fn the_hooks_of_the_seed_are_read() {
        let (config, faults) = parse(
            "  HOOKS:
    - {type: code-coverage, hookId: services-production-codecoverage/bot}
    - {type: static-analysis-phabricator, hookId: s/bot, repositories: [mozilla-central], interval: 90}
    - {type: static-analysis-mozreview, hookId: s/bot, hookGroupId: mine, repository_url: https://hg.example/gecko}
  pulse_user: us
  pulse_password: hunter2
  taskcluster: {client_id: c, access_token: t}
",
        );
        assert_eq!(faults, "");
        let config = config.expect("it is right");
        let (repositories, interval) =
            (vec!["mozilla-central".to_owned()], Duration::from_secs(90));
        let (topic, repository_url) = (
            "#.gecko-level-3.#".to_owned(),
            "https://hg.example/gecko".to_owned(),
        );
        let expected = [
            (
                "project-releng",
                "services-production-codecoverage/bot",
                HookSource::CodeCoverage { topic },
            ),
            (
                "project-releng",
                "s/bot",
                HookSource::Phabricator {
                    repositories,
                    interval,
                },
            ),
            ("mine", "s/bot", HookSource::Mozreview { repository_url }),
        ];
        let hooks = config.hooks.into_iter();
        let hooks: Vec<_> = hooks
            .map(|hook| (hook.group, hook.id, hook.source))
            .collect();
        let expected =
            expected.map(|(group, id, source)| (group.to_owned(), id.to_owned(), source));
        assert_eq!(hooks, expected);
        assert_eq!(
            config.pulse.expect("a user").url.as_str(),
            "amqps://pulse.mozilla.org:5671/"
        );
        let root_url = config.taskcluster.expect("a client").root_url;
        assert_eq!(
            root_url.as_str(),
            "https://firefox-ci-tc.services.mozilla.com/"
        );
    }

    #[test]
    fn missing_settings_of_a_feature_are_named() {
        for (more, expected) in [
            (
                "HOOKS: [{type: code-coverage, hookId: x}]",
                "pulse_user: is missing, expected our user on Pulse, since HOOKS",
            ),
            (
                "autoland_enabled: true",
                "pulse_user: is missing, expected our user on Pulse, since autoland_enabled",
            ),
            ("pulse_user: us", "pulse_password: is missing"),
            (
                "risk_analysis_users: [a]",
                "taskcluster_community: is missing, expected a map with client_id",
            ),
            (
                "risk_analysis_users: [a]",
                "bugbug_phabricator_deployment: is missing",
            ),
            (
                "test_selection_enabled: true",
                "communitytc_pulse_user: is missing",
            ),
            (
                "test_selection_share: 1.5",
                "test_selection_share: expected a share from 0 to 1, found a number",
            ),
            (
                "HOOKS: [{type: x, hookId: y}]",
                "HOOKS[0].type: expected static-analysis-phabricator, static-",
            ),
            (
                "HOOKS: [{type: code-coverage}]",
                "HOOKS[0].hookId: is missing",
            ),
            (
                "HOOKS: [{type: static-analysis-phabricator, hookId: y}]",
                "HOOKS[0].repositories: is missing",
            ),
            (
                "taskcluster: {client_id: x}",
                "taskcluster.access_token: is missing",
            ),
            (
                "pulse_url: https://pulse.example",
                "pulse_url: expected an amqps or amqp url without a user, with the",
            ),
            (
                "pulse_url: amqps://us:hunter2@pulse.example",
                "pulse_url: expected an amqps or amqp url without a user",
            ),
            (
                "monitoring_period: 1440h",
                "monitoring_period: expected a duration of a week at most",
            ),
        ] {
            let (config, faults) = parse(&format!("  {more}\n"));
            assert!(config.is_none(), "{more}");
            assert!(
                faults.contains(&format!("events.{expected}")),
                "{more}: {faults}"
            );
        }
    }
}
