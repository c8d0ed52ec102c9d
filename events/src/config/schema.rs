//! The schema of the keys, and the check of a document against it.
//!
//! The structs of the keys are the only source: their comments are the descriptions of the schema and of
//! docs/reference/configuration.md.

use std::{cell::RefCell, collections::BTreeSet};

use jsonschema::{Draft, ValidationError, ValidationOptions, error::ValidationErrorKind};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use worker::Size;

use super::{
    document::{Document, child, nearest},
    fault::Faults,
    pulse::ServerUrl,
    triggers::Period,
    values::{EXPECTED, FromText},
};

/// The keyword of the schema for why a key has no effect.
pub(super) const REASON: &str = "x-reason";

/// A document whose keys are read, and the faults that are found.
pub(super) struct Keys<'a> {
    document: &'a Document,
    /// The schema of the keys of all roles.
    all: &'a Value,
    faults: &'a RefCell<Faults>,
    /// The schemas of what was read.
    pub(super) read: RefCell<Vec<Value>>,
}

/// The map at a pointer, for faults that its reader finds.
#[derive(Clone)]
pub(super) struct At<'a> {
    keys: &'a Keys<'a>,
    pointer: String,
}

impl<'a> Keys<'a> {
    pub(super) fn new(document: &'a Document, all: &'a Value, faults: &'a RefCell<Faults>) -> Self {
        Self {
            document,
            all,
            faults,
            read: RefCell::default(),
        }
    }

    /// Reads the keys of `T`, and reports each that its schema refuses. What is refused is left out.
    pub(super) fn read<T: DeserializeOwned + JsonSchema + Default>(&self) -> T {
        let schema = of::<T>();
        let mut values = Value::Object(self.document.keys.clone());
        let refused = self.check(&schema, &values);
        walk(&schema, &values, "", &mut |pointer, key, schema| {
            if let Some(reason) = schema.and_then(|schema| schema.get(REASON)?.as_str()) {
                self.at(pointer).advise(key, reason);
            }
        });
        self.read.borrow_mut().push(schema);
        for pointer in refused {
            remove(&mut values, &pointer);
        }
        T::deserialize(values).unwrap_or_else(|_| {
            // What a schema takes, its type reads: values.rs has both beside each other. The error may quote a secret.
            let name = std::any::type_name::<T>();
            self.at("").fault(format!(
                "{name} cannot be read though its schema takes it: report this"
            ));
            T::default()
        })
    }

    /// Warns of the keys that no role reads, with the nearest that one does. Call it last.
    pub(super) fn warn_of_unknown(&self) {
        let mut known = self.read.borrow().clone();
        known.push(self.all.clone());
        let schema = union(&known);
        let values = Value::Object(self.document.keys.clone());
        walk(&schema, &values, "", &mut |pointer, key, known| {
            if known.is_some() {
                return;
            }
            let around = resolve(&schema, pointer);
            let names = around.and_then(|around| around.get("properties")?.as_object());
            let names = names
                .into_iter()
                .flat_map(|names| names.keys().map(String::as_str));
            let hint = nearest(key, names);
            self.at(pointer).advise(key, &format!("unknown key{hint}"));
        });
    }

    /// The map at `pointer`.
    pub(super) fn at(&'a self, pointer: impl Into<String>) -> At<'a> {
        At {
            keys: self,
            pointer: pointer.into(),
        }
    }

    /// A value that no struct of keys reads.
    pub(super) fn value(&self, pointer: &str) -> Option<&Value> {
        self.document.value(pointer)
    }

    /// Reports what the schema refuses, and returns the pointers of the values.
    fn check(&self, schema: &Value, values: &Value) -> BTreeSet<String> {
        let mut refused = BTreeSet::new();
        let validator = match validator(schema) {
            Ok(validator) => validator,
            Err(error) => {
                self.at("").fault(format!("cannot be checked: {error}"));
                return refused;
            }
        };
        for error in validator.iter_errors(values) {
            let pointer = error.instance_path().to_string();
            let around = schema_around(schema, &error);
            if let ValidationErrorKind::Required { property } = error.kind() {
                let property = property.as_str().unwrap_or_default();
                let wanted = around
                    .and_then(|around| around.get("properties")?.get(property))
                    .map_or_else(String::new, expected);
                let missing = format!("is missing, expected {wanted}");
                self.at(pointer).error(property, missing);
            } else if refused.insert(pointer.clone()) {
                let message = match error.kind() {
                    ValidationErrorKind::MinItems { .. } => {
                        "expected at least one, found an empty list".to_owned()
                    }
                    _ => {
                        let wanted = around.map_or_else(String::new, expected);
                        let found = found(around, error.instance());
                        format!("expected {wanted}, found {found}")
                    }
                };
                let place = self.document.place(&pointer);
                self.faults
                    .borrow_mut()
                    .error(&place.path, place.line, message);
            }
        }
        refused
    }
}

impl At<'_> {
    /// The map under `key`.
    pub(super) fn child(&self, key: &str) -> Self {
        Self {
            keys: self.keys,
            pointer: child(&self.pointer, key),
        }
    }

    /// A fault of the value of `key`: what is expected, if the key is missing.
    pub(super) fn reject(&self, key: &str, message: &str) {
        let (_, is_there) = self.keys.document.place_of_key(&self.pointer, key);
        let message = if is_there {
            message.to_owned()
        } else {
            format!("is missing, expected {message}")
        };
        self.error(key, message);
    }

    /// Warns of the value of `key`, or of its absence.
    pub(super) fn advise(&self, key: &str, message: &str) {
        let (place, _) = self.keys.document.place_of_key(&self.pointer, key);
        let mut faults = self.keys.faults.borrow_mut();
        faults.warning(&place.path, place.line, message.to_owned());
    }

    /// Whether the document has `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.keys.document.place_of_key(&self.pointer, key).1
    }

    fn error(&self, key: &str, message: String) {
        let (place, _) = self.keys.document.place_of_key(&self.pointer, key);
        let mut faults = self.keys.faults.borrow_mut();
        faults.error(&place.path, place.line, message);
    }

    fn fault(&self, message: String) {
        let place = self.keys.document.place(&self.pointer);
        let mut faults = self.keys.faults.borrow_mut();
        faults.error(&place.path, place.line, message);
    }
}

/// The schema of the keys of `T`, without references.
pub(super) fn of<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::draft07();
    settings.inline_subschemas = true;
    let mut schema = Value::from(settings.into_generator().into_root_schema_for::<T>());
    without_null(&mut schema);
    schema
}

/// A key that may be absent is null in the type of its field. In a document null counts as absent.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_mut_slice() {
                    let one = one.take();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(any)) = map.get_mut("anyOf") {
                any.retain(|one| *one != json!({"type": "null"}));
                if let [one] = any.as_mut_slice() {
                    let one = one.take();
                    map.remove("anyOf");
                    if let Value::Object(one) = one {
                        for (keyword, value) in one {
                            map.entry(keyword).or_insert(value);
                        }
                    }
                }
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            map.values_mut().for_each(without_null);
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// One schema with the properties of all.
pub(super) fn union(schemas: &[Value]) -> Value {
    let (mut properties, mut required) = (Map::new(), BTreeSet::new());
    for schema in schemas {
        let of = |keyword| schema.get(keyword);
        if let Some(more) = of("properties").and_then(Value::as_object) {
            properties.extend(more.clone());
        }
        let more = of("required").and_then(Value::as_array);
        required.extend(
            more.into_iter()
                .flatten()
                .filter_map(|name| Some(name.as_str()?.to_owned())),
        );
    }
    json!({"type": "object", "properties": properties, "required": required})
}

fn validator(schema: &Value) -> Result<jsonschema::Validator, ValidationError<'static>> {
    fn known<T: FromText>(options: ValidationOptions<'_>) -> ValidationOptions<'_> {
        options.with_format(T::FORMAT, |text: &str| T::from_text(text).is_some())
    }
    // In draft 4 alone 1.0 is not an integer. A schema is checked against that of its draft first, which stays in memory; that of
    // draft 4 is small.
    let options = jsonschema::options()
        .with_draft(Draft::Draft4)
        .should_validate_formats(true);
    let options = known::<String>(options);
    let options = known::<std::path::PathBuf>(options);
    let options = known::<url::Url>(options);
    let options = known::<std::time::Duration>(options);
    let options = known::<Size>(options);
    let options = known::<super::PlanPhid>(options);
    let options = known::<ServerUrl>(options);
    let options = known::<Period>(options);
    let options = known::<pulse::Topic>(options);
    known::<notify::Status>(options).build(schema)
}

/// The schema of the value that an error is about.
fn schema_around<'a>(schema: &'a Value, error: &ValidationError<'_>) -> Option<&'a Value> {
    let path = error.schema_path().to_string();
    let (around, _keyword) = path.rsplit_once('/')?;
    schema.pointer(around)
}

/// What a correct value is, in words.
fn expected(schema: &Value) -> String {
    let of = |keyword| schema.get(keyword);
    if let Some(words) = of(EXPECTED).and_then(Value::as_str) {
        return words.to_owned();
    }
    if let Some(values) = of("enum").and_then(Value::as_array) {
        let values: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        return match values.as_slice() {
            [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
            _ => values.join(", "),
        };
    }
    let items = of("items").and_then(|items| items.get("type"));
    let is = |kind: Option<&Value>, name| kind.is_some_and(|kind| kind == name);
    match of("type") {
        kind if is(kind, "object") => "a map",
        kind if is(kind, "array") && is(items, "object") => "a list of maps",
        kind if is(kind, "array") => "a list of texts",
        kind if is(kind, "integer") => "a whole number",
        kind if is(kind, "number") => "a number",
        _ => "a text",
    }
    .to_owned()
}

/// What is there instead. Only a key that wants a number shows the number: other values may be secrets.
fn found(schema: Option<&Value>, value: &Value) -> String {
    let wanted = schema.and_then(|schema| schema.get("type")?.as_str());
    match (wanted, value) {
        (Some("integer" | "number"), Value::Number(number)) => number.to_string(),
        _ => kind(value).to_owned(),
    }
}

/// What a value is, without the value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(text) if text.trim().is_empty() => "an empty text",
        Value::String(_) => "another text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// Visits each key of the maps in `value`: the pointer of its map, its name, and its schema if that is known. Maps whose keys
/// are not listed are left out.
pub(super) fn walk<'a>(
    schema: &'a Value,
    value: &Value,
    pointer: &str,
    visit: &mut impl FnMut(&str, &str, Option<&'a Value>),
) {
    match value {
        Value::Object(map) => {
            let Some(known) = schema.get("properties").and_then(Value::as_object) else {
                return;
            };
            for (key, value) in map {
                let schema = known.get(key);
                visit(pointer, key, schema);
                if let Some(schema) = schema {
                    walk(schema, value, &child(pointer, key), visit);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else {
                return;
            };
            for (at, item) in items.iter().enumerate() {
                walk(schema, item, &child(pointer, &at.to_string()), visit);
            }
        }
        _ => {}
    }
}

/// The schema of the value at `pointer` of a document.
fn resolve<'a>(schema: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(schema, |schema, step| {
        match schema.get("properties").and_then(|known| known.get(step)) {
            Some(schema) => Some(schema),
            None => schema.get("items"),
        }
    })
}

/// Removes the value at `pointer`; in a list it becomes null, so that the others keep their places.
fn remove(value: &mut Value, pointer: &str) {
    let Some((around, key)) = pointer.rsplit_once('/') else {
        *value = Value::Object(Map::new());
        return;
    };
    match value.pointer_mut(around) {
        Some(Value::Object(map)) => {
            map.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(items)) => {
            let item = key.parse::<usize>().ok().and_then(|at| items.get_mut(at));
            if let Some(item) = item {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}
