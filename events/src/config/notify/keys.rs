//! The keys of the section of the notifier.

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf};

use notify::{CHANNELS, InfluxSettings, Key, Status};
use pulse::Topic;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use super::parts;
use crate::config::values::{EXPECTED, FromText, List, Text, Values, Written};

/// The key of the notifier.
#[derive(Default, Deserialize, JsonSchema)]
pub(in crate::config) struct NotifierKeys {
    /// The notifier.
    pub(super) notify: Option<NotifyKeys>,
}

/// The keys of the notifier's section.
#[derive(Default, Deserialize, JsonSchema)]
pub(in crate::config) struct NotifyKeys {
    /// The channels that are open, as a list or with colons between them; none: there is no notifier.
    pub(super) services: Option<Names>,
    /// The statuses of tasks that are handled; all without this key.
    #[schemars(extend("minItems" = 1, "x-expected" = STATUSES))]
    pub(super) statuses: Option<List<Written<Status>>>,
    /// The routing keys of the messages that are received, in which `*` is one word and `#` any number of them; all without
    /// this key.
    #[schemars(extend("x-expected" = ROUTING_KEYS))]
    pub(super) routing_keys: Option<List<Written<Topic>>>,
    /// Our queue on Pulse, with or without `queue/<user>/`; `notify-<APP_CHANNEL>` without this key.
    pub(super) queue: Option<Text>,
    /// The [identities file](../use/notify.md#the-section-of-a-task), read at the start.
    pub(super) identities: Option<Written<PathBuf>>,
    /// A folder of templates that replace the [built-in ones](../../features/notify/templates) of the same names.
    pub(super) templates: Option<Written<PathBuf>>,
    /// The notifications a minute to one recipient before the [digest](../use/notify.md#deduplication-throttle-and-mutes): 1 to
    /// 10,000.
    #[schemars(range(min = 1, max = 10000), extend("default" = 20, "x-expected" = "a whole number from 1 to 10000"))]
    pub(super) rate_limit_per_minute: Option<u32>,
    /// The sections of the channels, and that of InfluxDB.
    #[serde(flatten)]
    pub(super) sections: Sections,
}

const STATUSES: &str = "a list of statuses such as task-failed and artifact-created";
const ROUTING_KEYS: &str =
    "a list of routing keys, in which * is one word and # any number of them";

impl FromText for Status {
    const FORMAT: &'static str = "status-of-a-task";
    const EXPECTED: &'static str = "a status such as task-failed or artifact-created";
    fn from_text(text: &str) -> Option<Self> {
        Self::named(text)
    }
}

impl FromText for Topic {
    const FORMAT: &'static str = "routing-key";
    const EXPECTED: &'static str = "a routing key, in which * is one word and # any number of them";
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// The sections whose keys the channels list.
#[derive(Default)]
pub(in crate::config) struct Sections(pub(super) BTreeMap<String, Values>);

/// The name of InfluxDB's section.
pub(super) const INFLUXDB: &str = "influxdb";

impl Sections {
    fn known() -> impl Iterator<Item = (&'static str, &'static [Key])> {
        let channels = CHANNELS.iter().map(|channel| (channel.name, channel.keys));
        channels.chain([(INFLUXDB, InfluxSettings::KEYS)])
    }
}

impl<'de> Deserialize<'de> for Sections {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut found = serde_json::Map::deserialize(deserializer)?;
        let sections = Self::known().filter_map(|(name, keys)| {
            let serde_json::Value::Object(section) = found.remove(name)? else {
                return None;
            };
            let value = |key: &Key| {
                let text = match section.get(key.name)? {
                    serde_json::Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                Some((key.name.to_owned(), text.into()))
            };
            Some((name.to_owned(), keys.iter().filter_map(value).collect()))
        });
        Ok(Self(sections.collect()))
    }
}

impl JsonSchema for Sections {
    fn schema_name() -> Cow<'static, str> {
        "sections".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let section = |(name, keys): (&str, &[Key])| {
            let key = |key: &Key| {
                let value = json!({
                    "type": ["string", "integer", "boolean"],
                    "pattern": r"\S",
                    "writeOnly": true,
                    EXPECTED: "a text, a whole number, true or false",
                });
                (key.name.to_owned(), value)
            };
            let keys: serde_json::Map<_, _> = keys.iter().map(key).collect();
            let description = format!("[Settings of {name}](channels.md).");
            let section = json!({"type": "object", "description": description, "properties": keys});
            (name.to_owned(), section)
        };
        let sections: serde_json::Map<_, _> = Self::known().map(section).collect();
        json_schema!({"type": "object", "properties": sections})
    }
}

/// Names of channels.
pub(in crate::config) struct Names(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            List(List<Text>),
            Text(String),
        }
        Ok(Self(match Form::deserialize(deserializer)? {
            Form::List(list) => list.values(),
            Form::Text(text) => parts(&text).map(str::to_owned).collect(),
        }))
    }
}

impl JsonSchema for Names {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "names".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [generator.subschema_for::<List<Text>>(), {"type": "string"}],
            EXPECTED: "a list of channels, or a text with colons between them",
        })
    }
}
