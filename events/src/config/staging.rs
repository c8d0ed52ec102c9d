//! The staging area of a repository.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::{
    repository::clean,
    schema::At,
    values::{EXPECTED, Text},
};

/// The key `staging`: a flag, or a map with the address.
pub(super) enum StagingKey {
    /// Whether the source is the staging area too.
    Source(bool),
    /// A repository of its own.
    Area {
        /// Its address.
        url: Option<Text>,
    },
}

impl StagingKey {
    /// The address of the staging area; `None` without one, or when a key is faulty. `source` is that of the source.
    pub(super) fn read(self, at: &At<'_>, source: Option<&str>) -> Option<String> {
        match self {
            Self::Source(false) => None,
            Self::Source(true) => source.map(str::to_owned),
            Self::Area { url } => clean(&at.child("staging"), "url", url),
        }
    }
}

impl<'de> Deserialize<'de> for StagingKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Flag(bool),
            Area { url: Option<Text> },
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Flag(is_source) => Self::Source(is_source),
            Form::Area { url } => Self::Area { url },
        })
    }
}

impl JsonSchema for StagingKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "staging".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut url = Text::json_schema(generator);
        url.insert(
            "description".to_owned(),
            "The address of the [staging area](../use/git.md#the-staging-area), with `vcs: git`. `staging: true` stands for the \
             source."
                .into(),
        );
        json_schema!({
            "type": ["boolean", "object"],
            "properties": {"url": url},
            "required": ["url"],
            EXPECTED: "true, or a map with the key url",
        })
    }
}
