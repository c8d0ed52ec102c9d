//! All keys together: the schema for editors, the tables of docs/reference/configuration.md, and the keys of a document as
//! they are in force.

use std::{cell::RefCell, fmt::Write as _};

use serde_json::{Map, Value, json};
use url::Url;

use super::{
    BuildKeys, Faults,
    document::{Document, child},
    mercurial::MercurialKeys,
    notify::NotifierKeys,
    pulse::{CommunityKeys, MozillaKeys},
    records::RecordsKeys,
    schema::{of, union, walk},
    triggers::TriggersKeys,
    web::WebKeys,
};

/// A table of keys on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Builds, and what every role has.
    Builds,
    /// What is triggered on Taskcluster.
    Triggers,
    /// The notifier.
    Notify,
}

impl Table {
    /// The schema of its keys.
    pub(crate) fn schema(self) -> Value {
        union(&match self {
            Self::Builds => vec![
                of::<BuildKeys>(),
                of::<MercurialKeys>(),
                of::<WebKeys>(),
                of::<RecordsKeys>(),
            ],
            Self::Triggers => vec![
                of::<TriggersKeys>(),
                of::<MozillaKeys>(),
                of::<CommunityKeys>(),
            ],
            Self::Notify => vec![of::<NotifierKeys>()],
        })
    }
}

/// The schema of the keys of all roles.
pub(super) fn all() -> Value {
    let tables = [Table::Builds, Table::Triggers, Table::Notify];
    union(&tables.map(Table::schema))
}

/// The JSON schema of a document, for editors and for checks elsewhere. Our own checks warn of unknown keys; it refuses them.
pub fn schema() -> Value {
    let mut keys = all();
    strict(&mut keys);
    if let Some(map) = keys.as_object_mut() {
        // A key of `common` need not be in `events`.
        map.remove("required");
    }
    let section = |description: &str| {
        let mut section = keys.clone();
        if let Some(map) = section.as_object_mut() {
            map.insert("description".to_owned(), description.into());
        }
        section
    };
    let other = json!({"description": "Belongs to another program of code-review."});
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of code review events",
        "type": "object",
        "properties": {
            "common": section("Keys that programs of code-review share."),
            "events": section("Our keys. They override those of `common`."),
            "bot": other,
            "backend": other,
        },
        "additionalProperties": false,
    })
}

fn strict(schema: &mut Value) {
    if let Value::Object(map) = schema {
        if map.contains_key("properties") {
            map.insert("additionalProperties".to_owned(), false.into());
        }
        map.values_mut().for_each(strict);
    }
}

/// A table as Markdown: each key with its default and its meaning.
pub fn table(table: Table) -> String {
    let mut text = "| key | default | meaning |\n| --- | --- | --- |\n".to_owned();
    rows(&table.schema(), "", &mut text);
    text
}

fn rows(schema: &Value, prefix: &str, text: &mut String) {
    let Some(keys) = schema.get("properties").and_then(Value::as_object) else {
        return;
    };
    let required = schema.get("required").and_then(Value::as_array);
    for (key, schema) in keys {
        if schema.get("deprecated").is_some() {
            continue;
        }
        let path = format!("{prefix}{key}");
        if has_described_keys(schema) {
            rows(schema, &format!("{path}."), text);
        } else if let Some(items) = schema
            .get("items")
            .filter(|items| has_described_keys(items))
        {
            rows(items, &format!("{path}[]."), text);
        } else {
            let is_required = required.is_some_and(|names| names.contains(&json!(key)));
            let default = match schema.get("default") {
                _ if is_required => "required".to_owned(),
                Some(Value::String(value)) => format!("`{value}`"),
                Some(value) => format!("`{value}`"),
                None => String::new(),
            };
            let meaning = schema.get("description").and_then(Value::as_str);
            let meaning = meaning.unwrap_or_default().replace('\n', " ");
            // Writing to a text cannot fail.
            let _ = writeln!(text, "| `{path}` | {default} | {meaning} |");
        }
    }
}

fn has_described_keys(schema: &Value) -> bool {
    let keys = schema.get("properties").and_then(Value::as_object);
    keys.is_some_and(|keys| keys.values().any(|key| key.get("description").is_some()))
}

/// Whether a document holds secrets, of whatever role.
pub(super) fn has_secrets(document: &Document, all: &Value) -> bool {
    let mut found = false;
    let values = Value::Object(document.keys.clone());
    walk(all, &values, "", &mut |_, _, key| {
        found |= key.is_some_and(is_secret);
    });
    found
}

fn is_secret(schema: &Value) -> bool {
    schema.get("writeOnly") == Some(&Value::Bool(true))
}

/// Each key of a document with its value, without secrets, and its line; and the default of each other key. `None`, and faults,
/// if the text is not a configuration.
pub fn show(text: &str) -> (Option<String>, Faults) {
    let faults = RefCell::new(Faults::default());
    let shown = Document::read(text, &faults).map(|document| {
        let mut text = String::new();
        let values = Value::Object(document.keys.clone());
        lines(&document, &all(), &values, "", "", &mut text);
        text
    });
    let mut faults = faults.into_inner();
    faults.sort();
    (shown.filter(|_| faults.errors.is_empty()), faults)
}

fn lines(
    document: &Document,
    schema: &Value,
    value: &Value,
    pointer: &str,
    path: &str,
    text: &mut String,
) {
    let none = Map::new();
    let known = schema.get("properties").and_then(Value::as_object);
    let (known, values) = (known.unwrap_or(&none), value.as_object().unwrap_or(&none));
    for (key, schema) in known {
        let (pointer, path) = (child(pointer, key), join(path, key));
        match (values.get(key), schema.get("items")) {
            (Some(value @ Value::Object(_)), _) => {
                lines(document, schema, value, &pointer, &path, text);
            }
            (Some(Value::Array(items)), Some(schema)) if schema.get("properties").is_some() => {
                for (at, item) in items.iter().enumerate() {
                    let pointer = child(&pointer, &at.to_string());
                    let path = format!("{path}[{at}]");
                    lines(document, schema, item, &pointer, &path, text);
                }
            }
            (Some(value), _) => {
                let shown = if is_secret(schema) {
                    "(a secret)".to_owned()
                } else {
                    without_password(value).to_string()
                };
                let line = document.place(&pointer).line;
                let _ = writeln!(text, "{path}: {shown}  # line {line}");
            }
            (None, _) => {
                if let Some(default) = schema.get("default") {
                    let _ = writeln!(text, "{path}: {default}  # default");
                } else if schema.get("required").is_none() {
                    // A section that is absent counts as empty, unless a key of it is required.
                    lines(document, schema, &Value::Null, &pointer, &path, text);
                }
            }
        }
    }
    for key in values.keys().filter(|key| !known.contains_key(*key)) {
        let line = document.place(&child(pointer, key)).line;
        let _ = writeln!(text, "{}: (unknown)  # line {line}", join(path, key));
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The value without the password of an address.
fn without_password(value: &Value) -> Value {
    let url = value.as_str().and_then(|text| Url::parse(text).ok());
    match url.filter(|url| url.password().is_some()) {
        Some(mut url) => {
            // An address with a password takes another.
            let _ = url.set_password(Some("…"));
            Value::from(url.as_str())
        }
        None => value.clone(),
    }
}
