//! The types of the keys: what the schema says of their values, and how they are read.

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::Value;
use url::Url;
use worker::Size;

/// The keyword of the schema for what a correct value is, in words.
pub(super) const EXPECTED: &str = "x-expected";

/// A value that is written as a text, and that more texts are not than are.
pub(super) trait FromText: Sized {
    /// Its name as a format of the schema.
    const FORMAT: &'static str;
    /// What a correct value is, in words.
    const EXPECTED: &'static str;
    fn from_text(text: &str) -> Option<Self>;
}

/// A value of a key that is written as a text.
#[derive(Debug, Clone)]
pub(super) struct Written<T>(pub T);

impl<'de, T: FromText> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_text(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom(T::EXPECTED))
    }
}

impl<T: FromText> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": T::FORMAT, EXPECTED: T::EXPECTED})
    }
}

/// A text that is not empty.
pub(super) type Text = Written<String>;

impl FromText for String {
    const FORMAT: &'static str = "text";
    const EXPECTED: &'static str = "a text that is not empty";
    fn from_text(text: &str) -> Option<Self> {
        (!text.trim().is_empty()).then(|| text.to_owned())
    }
}

impl FromText for PathBuf {
    const FORMAT: &'static str = "path";
    const EXPECTED: &'static str = "a path";
    fn from_text(text: &str) -> Option<Self> {
        String::from_text(text).map(Self::from)
    }
}

impl FromText for Url {
    const FORMAT: &'static str = "http-url";
    const EXPECTED: &'static str = "an http or https url";
    fn from_text(text: &str) -> Option<Self> {
        let url = Self::parse(text).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
    }
}

impl FromText for Duration {
    const FORMAT: &'static str = "duration-with-unit";
    const EXPECTED: &'static str = "a duration such as 24h or 90m";
    fn from_text(text: &str) -> Option<Self> {
        let duration: jiff::SignedDuration = text.parse().ok()?;
        Self::try_from(duration)
            .ok()
            .filter(|duration| !duration.is_zero())
    }
}

impl FromText for Size {
    const FORMAT: &'static str = "size-with-unit";
    const EXPECTED: &'static str = "a size with its unit, such as 200GB or 500 MiB";
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok().filter(|Self(bytes)| *bytes > 0)
    }
}

/// A text that is a secret.
#[derive(Debug, Clone)]
pub(super) struct Secret(pub SecretString);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|Written(text)| Self(text.into()))
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = Text::json_schema(generator);
        schema.insert("writeOnly".to_owned(), true.into());
        schema
    }
}

/// True or false.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub bool);

/// YAML 1.1, which files of the original are in, has these words too.
const TRUE: [&str; 6] = ["yes", "Yes", "YES", "on", "On", "ON"];
const FALSE: [&str; 6] = ["no", "No", "NO", "off", "Off", "OFF"];

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(flag) => Ok(Self(flag)),
            Value::String(word) if TRUE.contains(&word.as_str()) => Ok(Self(true)),
            Value::String(word) if FALSE.contains(&word.as_str()) => Ok(Self(false)),
            _ => Err(D::Error::custom("expected true or false")),
        }
    }
}

impl JsonSchema for Flag {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "flag".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = TRUE.into_iter().chain(FALSE).map(Value::from);
        let values: Vec<Value> = [true, false]
            .map(Value::from)
            .into_iter()
            .chain(words)
            .collect();
        json_schema!({"enum": values, EXPECTED: "true or false"})
    }
}

/// A list. `None` stands for an item that is faulty.
#[derive(Debug, Clone)]
pub(super) struct List<T>(Vec<Option<T>>);

impl<T> List<T> {
    /// The items, with the index of each.
    pub(super) fn items(self) -> impl Iterator<Item = (usize, T)> {
        let items = self.0.into_iter().enumerate();
        items.filter_map(|(at, item)| Some((at, item?)))
    }
}

impl<T> List<Written<T>> {
    /// What the texts stand for.
    pub(super) fn values(self) -> Vec<T> {
        self.items().map(|(_, Written(value))| value).collect()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("list of {}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<T>()})
    }
}

/// A key that has no effect. A key of another program has none either, without a warning.
#[derive(Debug, Clone)]
pub(super) struct Ignored;

impl<'de> Deserialize<'de> for Ignored {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Ignored {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ignored".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"deprecated": true})
    }
}

/// The values of a channel's keys, by their names.
pub(crate) type Values = BTreeMap<String, SecretString>;
