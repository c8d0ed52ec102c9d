//! The keys of what is triggered.

use std::{borrow::Cow, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use url::Url;

use super::{COMMUNITY, FIREFOX, MOZREVIEW};
use crate::config::values::{EXPECTED, Flag, FromText, List, Secret, Text, Written};

/// The time between two reports. What a report needs is kept for a month.
#[derive(Debug, Clone)]
pub(in crate::config) struct Period(pub(super) Duration);

impl FromText for Period {
    const FORMAT: &'static str = "duration-of-a-week-at-most";
    const EXPECTED: &'static str = "a duration of a week at most, such as 7h";
    fn from_text(text: &str) -> Option<Self> {
        Duration::from_text(text)
            .filter(|period| *period <= Duration::from_secs(7 * 24 * 3600))
            .map(Self)
    }
}

/// A duration that may be a bare number of seconds, as files of the original have it.
#[derive(Debug, Clone)]
pub(super) struct Seconds(pub(super) Duration);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let duration = match Value::deserialize(deserializer)? {
            Value::String(text) => Duration::from_text(&text),
            number => number.as_u64().map(Duration::from_secs),
        };
        duration
            .map(Self)
            .ok_or_else(|| D::Error::custom("expected a duration"))
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 1},
                {"type": "string", "format": Duration::FORMAT},
            ],
            EXPECTED: "a duration such as 60s, or a number of seconds",
        })
    }
}

/// The keys of what is triggered.
#[derive(Default, Deserialize, JsonSchema)]
pub(in crate::config) struct TriggersKeys {
    /// The name of this deployment, as in `code-review-<APP_CHANNEL>`; names our queue on Pulse too.
    #[serde(rename = "APP_CHANNEL")]
    #[schemars(extend("default" = "development"))]
    pub(super) channel: Option<Text>,
    /// The recipients of [reports](../use/triggers.md#watching-and-reports) on tasks.
    pub(super) admins: Option<List<Text>>,
    /// Our client on Firefox's Taskcluster, if it is not [in the environment](#credentials-of-taskcluster).
    pub(super) taskcluster: Option<FirefoxKeys>,
    /// Our client on the community's Taskcluster; required for the risk and for test selection.
    pub(super) taskcluster_community: Option<CommunityTaskclusterKeys>,
    /// Hooks, and what triggers them.
    #[serde(rename = "HOOKS")]
    pub(super) hooks: Option<List<HookKeys>>,
    /// Whether changesets that land on autoland are reviewed.
    #[schemars(extend("default" = false))]
    pub(super) autoland_enabled: Option<Flag>,
    /// Whether changesets that land on mozilla-central are reviewed.
    #[schemars(extend("default" = false))]
    pub(super) mozilla_central_enabled: Option<Flag>,
    /// Whether [tests are selected](../use/triggers.md#test-selection) for pushes.
    #[schemars(extend("default" = false))]
    pub(super) test_selection_enabled: Option<Flag>,
    /// The share of diffs for which tests are selected, 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0), extend("default" = 1, "x-expected" = "a share from 0 to 1"))]
    pub(super) test_selection_share: Option<f64>,
    /// The recipients of mails about selected tests.
    pub(super) test_selection_notify_addresses: Option<List<Text>>,
    /// Bugbug's name for our Phabricator; required for the risk and for test selection.
    pub(super) bugbug_phabricator_deployment: Option<Text>,
    /// Authors and reviewers (usernames) for whose patches bugbug analyses the risk.
    pub(super) risk_analysis_users: Option<List<Text>>,
    /// The time between two reports, with its unit; a week at most.
    #[schemars(extend("default" = "7h"))]
    pub(super) monitoring_period: Option<Written<Period>>,
}

/// The keys of Firefox's Taskcluster.
#[derive(Default, Deserialize, JsonSchema)]
pub(in crate::config) struct FirefoxKeys {
    /// Its address.
    #[schemars(extend("default" = FIREFOX))]
    pub(super) root_url: Option<Written<Url>>,
    /// The name of our client.
    #[schemars(required)]
    pub(super) client_id: Option<Text>,
    /// Its access token.
    #[schemars(required)]
    pub(super) access_token: Option<Secret>,
}

/// The keys of the community's Taskcluster.
#[derive(Default, Deserialize, JsonSchema)]
pub(in crate::config) struct CommunityTaskclusterKeys {
    /// Its address.
    #[schemars(extend("default" = COMMUNITY))]
    pub(super) root_url: Option<Written<Url>>,
    /// The name of our client.
    #[schemars(required)]
    pub(super) client_id: Option<Text>,
    /// Its access token.
    #[schemars(required)]
    pub(super) access_token: Option<Secret>,
}

/// The keys of a hook.
#[derive(Deserialize, JsonSchema)]
pub(in crate::config) struct HookKeys {
    /// [Its trigger](../use/triggers.md#what-triggers-what): `static-analysis-phabricator`, `static-analysis-mozreview` or
    /// `code-coverage`.
    #[serde(rename = "type")]
    #[schemars(required)]
    pub(super) kind: Option<HookKind>,
    /// The hook's name in its group; it may hold slashes.
    #[serde(rename = "hookId")]
    #[schemars(required)]
    pub(super) id: Option<Text>,
    /// Its group.
    #[serde(rename = "hookGroupId")]
    #[schemars(extend("default" = "project-releng"))]
    pub(super) group: Option<Text>,
    /// `static-analysis-phabricator`, required there: short names on Phabricator.
    pub(super) repositories: Option<List<Text>>,
    /// `static-analysis-phabricator`: the time between two polls of Phabricator; a bare number is seconds.
    #[schemars(extend("default" = "60s"))]
    pub(super) interval: Option<Seconds>,
    /// `static-analysis-mozreview`: the repository, as messages name it.
    #[schemars(extend("default" = MOZREVIEW))]
    pub(super) repository_url: Option<Text>,
    /// `code-coverage`: the routing keys of the messages about task groups.
    #[schemars(extend("default" = "#.gecko-level-3.#"))]
    pub(super) topic: Option<Text>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HookKind {
    StaticAnalysisPhabricator,
    StaticAnalysisMozreview,
    CodeCoverage,
}
