//! Reads a YAML tree key by key, keeping every fault with its path and line. A deserialiser would stop at the first.

use std::{cell::RefCell, path::PathBuf, time::Duration};

use saphyr::{MarkedYaml, Scalar, YamlData};
use secrecy::SecretString;
use url::Url;
use worker::Size;

use super::fault::{Fault, Faults};

/// A map of the document, and which of its keys were asked for.
pub(super) struct Section<'a> {
    path: String,
    line: usize,
    entries: Vec<Entry<'a>>,
    faults: &'a RefCell<Faults>,
    asked: RefCell<Vec<&'static str>>,
}

#[derive(Clone)]
pub(super) struct Entry<'a> {
    key: String,
    path: String,
    line: usize,
    value: &'a MarkedYaml<'a>,
}

/// A value that can be read from a node.
pub(super) trait FromYaml: Sized {
    /// What a correct value is, in words.
    const EXPECTED: &'static str;
    /// Whether the value is a secret.
    const SECRET: bool = false;
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self>;
}

impl<'a> Section<'a> {
    /// The entries of a map; `None`, and a fault, when it is none.
    ///
    /// `line` is that of its key, where an author looks for what is missing.
    pub(super) fn new(
        path: &str,
        line: usize,
        node: &'a MarkedYaml<'a>,
        faults: &'a RefCell<Faults>,
    ) -> Option<Self> {
        let YamlData::Mapping(map) = &node.data else {
            let message = format!("expected a map, found {}", kind(node));
            let path = if path.is_empty() { "document" } else { path };
            faults.borrow_mut().errors.push(Fault {
                path: path.to_owned(),
                line,
                message,
            });
            return None;
        };
        let mut entries = Vec::new();
        for (key, value) in map {
            let line = key.span.start.line();
            let Some(name) = key.data.as_str() else {
                let message = format!("expected a key that is text, found {}", kind(key));
                faults.borrow_mut().errors.push(Fault {
                    path: path.to_owned(),
                    line,
                    message,
                });
                continue;
            };
            if name == "<<" {
                let message = "merge keys are not supported, write the keys out".to_owned();
                faults.borrow_mut().errors.push(Fault {
                    path: path.to_owned(),
                    line,
                    message,
                });
                continue;
            }
            let path = if path.is_empty() {
                name.to_owned()
            } else {
                format!("{path}.{name}")
            };
            entries.push(Entry {
                key: name.to_owned(),
                path,
                line,
                value,
            });
        }
        Some(Self {
            path: path.to_owned(),
            line,
            entries,
            faults,
            asked: RefCell::default(),
        })
    }

    /// This section's entries, then those of `base` that it does not have.
    pub(super) fn over(mut self, base: Option<Self>) -> Self {
        for entry in base.into_iter().flat_map(|base| base.entries) {
            if !self.has(&entry.key) {
                self.entries.push(entry);
            }
        }
        self
    }

    fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The entry of `key`. An explicit null counts as absent.
    fn entry(&self, key: &'static str) -> Option<&Entry<'a>> {
        self.asked.borrow_mut().push(key);
        self.entries
            .iter()
            .find(|entry| entry.key == key && !is_null(entry.value))
    }

    fn error(&self, path: &str, line: usize, message: String) {
        self.faults.borrow_mut().errors.push(Fault {
            path: path.to_owned(),
            line,
            message,
        });
    }

    fn warn(&self, path: &str, line: usize, message: String) {
        self.faults.borrow_mut().warnings.push(Fault {
            path: path.to_owned(),
            line,
            message,
        });
    }

    /// The value of `key`, if it is there and right.
    pub(super) fn optional<T: FromYaml>(&self, key: &'static str) -> Option<T> {
        let entry = self.entry(key)?;
        let value = T::from_yaml(entry.value);
        if value.is_none() {
            self.error(
                &entry.path,
                entry.line,
                format!("expected {}, found {}", T::EXPECTED, kind(entry.value)),
            );
        }
        self.faults.borrow_mut().secrets |= T::SECRET;
        value
    }

    /// The text of `key`, which is a secret, if it is one.
    pub(super) fn secret_text(&self, key: &'static str) -> Option<SecretString> {
        Some(self.entry(key)?.value.data.as_str()?.to_owned().into())
    }

    /// The value of `key`; that it is absent is a fault.
    pub(super) fn required<T: FromYaml>(&self, key: &'static str) -> Option<T> {
        let present = self.entry(key).is_some();
        if !present {
            self.missing(key, T::EXPECTED);
        }
        self.optional(key)
    }

    fn missing(&self, key: &str, expected: &str) {
        let path = if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        };
        self.error(&path, self.line, format!("is missing, expected {expected}"));
    }

    /// The map under `key`; that it is absent is a fault.
    pub(super) fn section(&self, key: &'static str) -> Option<Section<'a>> {
        if self.entry(key).is_none() {
            self.missing(key, "a map");
        }
        self.optional_section(key)
    }

    /// The map under `key`, if it is there.
    pub(super) fn optional_section(&self, key: &'static str) -> Option<Section<'a>> {
        let entry = self.entry(key)?;
        Section::new(&entry.path, entry.line, entry.value, self.faults)
    }

    /// The maps of the list under `key`; that it is absent is a fault.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let sections = self.optional_sections(key);
        match self.entry(key) {
            None => self.missing(key, "a list of maps"),
            Some(entry)
                if entry
                    .value
                    .data
                    .as_sequence()
                    .is_some_and(|items| items.is_empty()) =>
            {
                self.error(
                    &entry.path,
                    entry.line,
                    "expected at least one, found an empty list".to_owned(),
                );
            }
            Some(_) => {}
        }
        sections
    }

    /// The maps of the list under `key`, if it is there.
    pub(super) fn optional_sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some(entry) = self.entry(key) else {
            return Vec::new();
        };
        let YamlData::Sequence(items) = &entry.value.data else {
            self.error(
                &entry.path,
                entry.line,
                format!("expected a list of maps, found {}", kind(entry.value)),
            );
            return Vec::new();
        };
        let items = items.iter().enumerate();
        items
            .filter_map(|(at, item)| {
                Section::new(
                    &format!("{}[{at}]", entry.path),
                    item.span.start.line(),
                    item,
                    self.faults,
                )
            })
            .collect()
    }

    /// The value of `key` in the map under `section`, `absent` without a right one; `None` when there is no such map. No
    /// fault is kept: for who can do without it.
    pub(super) fn glimpse<T: FromYaml>(
        &self,
        section: &'static str,
        key: &str,
        absent: T,
    ) -> Option<T> {
        let map = self.entry(section)?.value.data.as_mapping()?;
        let value = map
            .iter()
            .find(|(name, _)| name.data.as_str() == Some(key))
            .map(|(_, value)| value);
        Some(value.and_then(T::from_yaml).unwrap_or(absent))
    }

    /// A fault of the value of `key`, found by its reader.
    pub(super) fn reject(&self, key: &'static str, message: &str) {
        match self.entry(key) {
            Some(entry) => self.error(&entry.path, entry.line, message.to_owned()),
            None => self.missing(key, message),
        }
    }

    /// Warns of the value of `key`, or of its absence.
    pub(super) fn advise(&self, key: &'static str, message: &str) {
        match self.entry(key) {
            Some(entry) => self.warn(&entry.path, entry.line, message.to_owned()),
            None => {
                let path = if self.path.is_empty() {
                    key.to_owned()
                } else {
                    format!("{}.{key}", self.path)
                };
                self.warn(&path, self.line, message.to_owned());
            }
        }
    }

    /// Marks the keys that `read` asks for as known, and takes no notice of what it finds: they are of other roles.
    pub(super) fn leave_to_others<T>(&self, read: impl FnOnce(&Section<'_>) -> T) {
        let faults = RefCell::<Faults>::default();
        let others = Section {
            path: self.path.clone(),
            line: self.line,
            entries: self.entries.clone(),
            faults: &faults,
            asked: RefCell::default(),
        };
        read(&others);
        self.asked.borrow_mut().extend(others.asked.into_inner());
        self.faults.borrow_mut().secrets |= faults.into_inner().secrets;
    }

    /// Marks keys as known that belong to other programs.
    pub(super) fn of_other_programs(&self, keys: &[&'static str]) {
        self.asked.borrow_mut().extend(keys);
    }

    /// Says of each of `keys` that is there that it means nothing any more, or not yet.
    pub(super) fn ignored(&self, keys: &[&'static str], why: &str) {
        for key in keys {
            if let Some(entry) = self.entry(key) {
                self.warn(&entry.path, entry.line, why.to_owned());
            }
        }
    }

    /// Warns of the keys that nobody asked for. Call it last.
    pub(super) fn warn_of_unknown(&self) {
        let asked = self.asked.borrow();
        for entry in self
            .entries
            .iter()
            .filter(|entry| !asked.contains(&entry.key.as_str()))
        {
            // Keys of some predecessors are those of ours in capital letters.
            let key = entry.key.to_lowercase();
            let near = asked
                .iter()
                .map(|known| (strsim::jaro_winkler(&key, &known.to_lowercase()), known));
            let nearest = near
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .filter(|(score, _)| *score > 0.8);
            let hint = nearest.map_or(String::new(), |(_, known)| {
                format!(", did you mean {known}?")
            });
            self.warn(&entry.path, entry.line, format!("unknown key{hint}"));
        }
    }
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null))
}

/// What a node is, without its value: that may be a secret.
fn kind(node: &MarkedYaml<'_>) -> &'static str {
    match &node.data {
        YamlData::Mapping(_) => "a map",
        YamlData::Sequence(_) => "a list",
        YamlData::Value(Scalar::Null) => "nothing",
        YamlData::Value(Scalar::Boolean(_)) => "true or false",
        YamlData::Value(Scalar::Integer(_) | Scalar::FloatingPoint(_)) => "a number",
        YamlData::Value(Scalar::String(text)) if text.trim().is_empty() => "an empty text",
        YamlData::Value(Scalar::String(_)) => "another text",
        _ => "something else",
    }
}

impl FromYaml for String {
    const EXPECTED: &'static str = "a text that is not empty";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        node.data
            .as_str()
            .filter(|text| !text.trim().is_empty())
            .map(str::to_owned)
    }
}

impl FromYaml for SecretString {
    const EXPECTED: &'static str = String::EXPECTED;
    const SECRET: bool = true;
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        String::from_yaml(node).map(Self::from)
    }
}

impl FromYaml for PathBuf {
    const EXPECTED: &'static str = "a path";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        String::from_yaml(node).map(Self::from)
    }
}

impl FromYaml for bool {
    const EXPECTED: &'static str = "true or false";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        // YAML 1.1, which files of the original are in, has these words too.
        match node.data.as_str() {
            Some("yes" | "Yes" | "YES" | "on" | "On" | "ON") => Some(true),
            Some("no" | "No" | "NO" | "off" | "Off" | "OFF") => Some(false),
            _ => node.data.as_bool(),
        }
    }
}

impl FromYaml for Url {
    const EXPECTED: &'static str = "an http or https url";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        let url = Self::parse(node.data.as_str()?).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
    }
}

impl FromYaml for Duration {
    const EXPECTED: &'static str = "a duration such as 24h or 90m";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        let duration: jiff::SignedDuration = node.data.as_str()?.parse().ok()?;
        Self::try_from(duration)
            .ok()
            .filter(|duration| !duration.is_zero())
    }
}

impl FromYaml for Size {
    const EXPECTED: &'static str = "a size with its unit, such as 200GB or 500 MiB";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        node.data
            .as_str()?
            .parse()
            .ok()
            .filter(|Self(bytes)| *bytes > 0)
    }
}

impl FromYaml for Vec<String> {
    const EXPECTED: &'static str = "a list of texts";
    fn from_yaml(node: &MarkedYaml<'_>) -> Option<Self> {
        node.data
            .as_sequence()?
            .iter()
            .map(String::from_yaml)
            .collect()
    }
}
