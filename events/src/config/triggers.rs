//! The settings of Pulse, Taskcluster, and what is triggered there.

mod keys;

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

pub(super) use self::keys::{FirefoxKeys, Period, TriggersKeys};
use self::keys::{HookKeys, HookKind};
use super::{
    pulse::{self, PulseConfig},
    schema::{At, Keys},
    secrets,
    values::{Flag, List, Secret, Text, Written},
};

/// Everything beside the builds. Not to be shown: addresses may hold passwords.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug))]
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
#[cfg_attr(test, derive(Debug))]
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
/// The repository for which commits were published on MozReview.
const MOZREVIEW: &str = "https://reviewboard-hg.mozilla.org/gecko";
/// The group whose hooks the services are.
const HOOK_GROUP: &str = "project-releng";

/// Reads them. Everything is read before anything is given up for a fault, so that all faults are found.
pub(super) fn read(keys: &Keys<'_>) -> TriggersConfig {
    let read: TriggersKeys = keys.read();
    let usual = TriggersConfig::default();
    let at = keys.at("");
    let is_on = |flag: Option<Flag>| flag.is_some_and(|flag| flag.0);
    let texts = |list: Option<List<Text>>| list.map(List::values).unwrap_or_default();
    let hooks_at = at.child("HOOKS");
    let hooks = read.hooks.into_iter().flat_map(List::items);
    let hooks = hooks.filter_map(|(index, hook)| hook.read(&hooks_at.child(&index.to_string())));
    let selection = TestSelectionConfig {
        share: read.test_selection_share.unwrap_or(1.0),
        notify: texts(read.test_selection_notify_addresses),
    };
    let config = TriggersConfig {
        channel: read.channel.map_or(usual.channel, |text| text.0),
        admins: texts(read.admins),
        pulse: pulse::mozilla(keys),
        community_pulse: pulse::community(keys),
        taskcluster: read
            .taskcluster
            .and_then(|read| firefox(read, &at.child("taskcluster"))),
        community: read.taskcluster_community.and_then(|read| {
            let at = at.child("taskcluster_community");
            taskcluster(
                &at,
                COMMUNITY,
                read.root_url,
                read.client_id,
                read.access_token,
            )
        }),
        hooks: hooks.collect(),
        autoland: is_on(read.autoland_enabled),
        mozilla_central: is_on(read.mozilla_central_enabled),
        test_selection: is_on(read.test_selection_enabled).then_some(selection),
        bugbug_deployment: read.bugbug_phabricator_deployment.map(|text| text.0),
        risk_analysis_users: texts(read.risk_analysis_users),
        monitoring_period: read
            .monitoring_period
            .map_or(usual.monitoring_period, |Written(Period(period))| period),
    };
    check(&config, &at);
    config
}

/// Finds what a feature needs and the document lacks.
fn check(config: &TriggersConfig, at: &At<'_>) {
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
        at.reject(
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
            at.reject(
                "taskcluster_community",
                &format!("a map with client_id and access_token, since {key} needs it"),
            );
        }
        if config.bugbug_deployment.is_none() {
            at.reject(
                "bugbug_phabricator_deployment",
                &format!("the name that bugbug has for our Phabricator, since {key} needs it"),
            );
        }
    }
    if config.test_selection.is_some() && config.community_pulse.is_none() {
        at.reject(
            "communitytc_pulse_user",
            "our user on the community's Pulse, since test_selection_enabled needs it",
        );
    }
}

/// Firefox's Taskcluster.
pub(super) fn firefox(read: FirefoxKeys, at: &At<'_>) -> Option<TaskclusterConfig> {
    taskcluster(
        at,
        FIREFOX,
        read.root_url,
        read.client_id,
        read.access_token,
    )
}

fn taskcluster(
    at: &At<'_>,
    usual: &str,
    root_url: Option<Written<Url>>,
    client_id: Option<Text>,
    access_token: Option<Secret>,
) -> Option<TaskclusterConfig> {
    let root_url = match root_url {
        Some(url) => Some(url.0),
        None => Url::parse(usual).ok(),
    };
    secrets::advise_plain_http(at, "root_url", root_url.as_ref(), "what we sign and send");
    Some(TaskclusterConfig {
        root_url: root_url?,
        client_id: client_id?.0,
        access_token: access_token?.0,
    })
}

impl HookKeys {
    /// The hook; `None` when a key is faulty.
    fn read(self, at: &At<'_>) -> Option<HookConfig> {
        let usual =
            |text: Option<Text>, usual: &str| text.map_or_else(|| usual.to_owned(), |text| text.0);
        let (source, keys) = match self.kind? {
            HookKind::StaticAnalysisPhabricator => {
                if self.repositories.is_none() {
                    at.reject("repositories", "a list of texts");
                }
                let interval = self
                    .interval
                    .map_or(Duration::from_secs(60), |seconds| seconds.0);
                let repositories = self.repositories.map(List::values);
                let source = repositories.map(|repositories| HookSource::Phabricator {
                    repositories,
                    interval,
                });
                (source, ["repository_url", "topic", "topic"])
            }
            HookKind::StaticAnalysisMozreview => (
                Some(HookSource::Mozreview {
                    repository_url: usual(self.repository_url, MOZREVIEW),
                }),
                ["repositories", "interval", "topic"],
            ),
            HookKind::CodeCoverage => (
                Some(HookSource::CodeCoverage {
                    topic: usual(self.topic, "#.gecko-level-3.#"),
                }),
                ["repositories", "interval", "repository_url"],
            ),
        };
        for key in keys.into_iter().filter(|key| at.has(key)) {
            at.advise(key, "has no effect with this type of hook");
        }
        Some(HookConfig {
            group: usual(self.group, HOOK_GROUP),
            id: self.id?.0,
            source: source?,
        })
    }
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
    fn hooks_of_the_predecessor_are_read() {
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
                "test_selection_share: expected a share from 0 to 1, found 1.5",
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
