//! The identities file: names that sections use in place of addresses. A YAML map of `name → fields`.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::task_section::NotificationSection;

/// Why the identities cannot be used.
#[derive(Debug, Error)]
pub enum IdentitiesError {
    /// The file cannot be read.
    #[error("cannot read the identities file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The file is malformed.
    #[error("invalid identities file {}: {problem}", path.display())]
    Faulty {
        /// The file.
        path: PathBuf,
        /// The fault.
        problem: String,
    },
}

/// The identities by their names.
#[derive(Debug, Clone, Default)]
pub struct Identities(BTreeMap<String, NotificationSection>);

impl Identities {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, IdentitiesError> {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|source| IdentitiesError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|problem| IdentitiesError::Faulty {
            path: path.to_owned(),
            problem,
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let documents = Yaml::load_from_str(text).map_err(|error| format!("not YAML: {error}"))?;
        let mut identities = BTreeMap::new();
        let names = match documents.as_slice() {
            [] => return Ok(Self::default()),
            [document] => match json(document) {
                Some(Value::Null) => return Ok(Self::default()),
                Some(Value::Object(names)) => names,
                _ => {
                    return Err(
                        "expected a map of names to their fields, each name a text".to_owned()
                    );
                }
            },
            _ => return Err("there is a second document, expected one".to_owned()),
        };
        for (name, value) in names {
            let fields = NotificationSection::read(&value)
                .map_err(|problem| format!("{name}: {problem}"))?;
            identities.insert(name, fields);
        }
        Ok(Self(identities))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&NotificationSection> {
        self.0.get(name)
    }
}

/// The node as JSON; `None` where a key is not a text, or a value has a type that JSON lacks.
fn json(node: &Yaml<'_>) -> Option<Value> {
    match node {
        Yaml::Value(Scalar::Null) => Some(Value::Null),
        Yaml::Value(Scalar::Boolean(flag)) => Some(Value::from(*flag)),
        Yaml::Value(Scalar::Integer(number)) => Some(Value::from(*number)),
        Yaml::Value(Scalar::FloatingPoint(number)) => Some(Value::from(number.into_inner())),
        Yaml::Value(Scalar::String(text)) => Some(Value::from(text.as_ref())),
        Yaml::Sequence(items) => items
            .iter()
            .map(json)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| {
                Some((key.as_str()?.to_owned(), json(value)?))
            };
            entries
                .iter()
                .map(entry)
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_by_fields() {
        let identities = Identities::parse(
            "ann: {emails: [ann@example.com], nicks: [ann]}\nteam:\n  channels: ['#t']\n",
        );
        let identities = identities.unwrap();
        assert_eq!(
            identities.get("ann").unwrap().recipients().emails,
            ["ann@example.com"]
        );
        assert_eq!(
            identities.get("team").unwrap().recipients().channels,
            ["#t"]
        );
        assert!(identities.get("bob").is_none());
        assert!(Identities::parse("").unwrap().get("ann").is_none());
    }

    #[test]
    fn invalid_field_is_reported_by_name() {
        for (text, expected) in [
            (
                "ann: {emails: ann@example.com}",
                "ann: invalid type: string",
            ),
            ("- ann", "expected a map of names"),
            ("1: {}", "expected a map of names"),
            ("a: [", "not YAML"),
            ("{}\n---\n{}", "second document"),
        ] {
            let problem = Identities::parse(text).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
