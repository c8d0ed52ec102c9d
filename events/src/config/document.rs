//! A document as JSON, with the place of each value.

use std::{cell::RefCell, collections::BTreeMap};

use saphyr::{LoadableYamlNode as _, MarkedYaml, Scalar, YamlData};
use serde_json::{Map, Number, Value};

use super::{bounds, fault::Faults};

/// The sections of other programs, with which operators of the original share one document.
const OTHER_PROGRAMS: [&str; 2] = ["bot", "backend"];
const COMMON: &str = "common";
const EVENTS: &str = "events";

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its path in the document, such as `events.repositories[0].url`.
    pub(super) path: String,
    /// The line of its key, where an author looks for what is missing.
    pub(super) line: usize,
}

/// The keys of a document: those of its section `events`, and what `common` has beside them. A key whose value is null counts
/// as absent.
pub(super) struct Document {
    pub(super) keys: Map<String, Value>,
    /// By the JSON pointer of the value; that of the section is empty.
    places: BTreeMap<String, Place>,
}

impl Document {
    /// Reads a document. `None`, and a fault, when it has no keys for us.
    pub(super) fn read(text: &str, faults: &RefCell<Faults>) -> Option<Self> {
        let refuse = |line, message: String| {
            faults.borrow_mut().error("document", line, message);
            None
        };
        if let Err(bounds::Exceeded { line, message }) = bounds::check(text) {
            return refuse(line, message);
        }
        match MarkedYaml::load_from_str(text) {
            Ok(documents) if documents.len() > 1 => refuse(
                documents[1].span.start.line(),
                "there is a second document, expected one".to_owned(),
            ),
            Ok(documents) => match documents.first() {
                None => refuse(
                    1,
                    "the document is empty, expected the sections common and events".to_owned(),
                ),
                Some(document) => Self::of(document, faults),
            },
            Err(error) => refuse(error.marker().line(), format!("not YAML: {}", error.info())),
        }
    }

    fn of(document: &MarkedYaml<'_>, faults: &RefCell<Faults>) -> Option<Self> {
        let line = document.span.start.line();
        let root = Place {
            path: String::new(),
            line,
        };
        let mut sections = BTreeMap::new();
        for (name, place, node) in entries(&root, document, faults)? {
            if [COMMON, EVENTS].contains(&name) {
                sections.insert(name, (place, node));
            } else if !OTHER_PROGRAMS.contains(&name) {
                let hint = nearest(name, [COMMON, EVENTS]);
                faults
                    .borrow_mut()
                    .warning(&place.path, place.line, format!("unknown key{hint}"));
            }
        }
        let mut read: Option<Self> = None;
        // What `events` has wins.
        for section in [EVENTS, COMMON] {
            let Some((place, node)) = sections.remove(section).filter(|(_, node)| !is_null(node))
            else {
                continue;
            };
            let Some(entries) = entries(&place, node, faults) else {
                continue;
            };
            let document = read.get_or_insert_with(|| Self {
                keys: Map::new(),
                places: BTreeMap::from([(String::new(), place)]),
            });
            let known: Vec<String> = document.names().map(str::to_owned).collect();
            for (name, place, node) in entries {
                if !known.iter().any(|known| known == name) {
                    document.insert(name, place, node, faults);
                }
            }
        }
        if read.is_none() && faults.borrow().errors.is_empty() {
            let message =
                "is missing, expected a map with our settings: every key is below it".to_owned();
            faults.borrow_mut().error(EVENTS, line, message);
        }
        read
    }

    /// The names of all keys, those with null too.
    fn names(&self) -> impl Iterator<Item = &str> {
        let pointers = self.places.keys();
        pointers.filter_map(|pointer| pointer.strip_prefix('/').filter(|key| !key.contains('/')))
    }

    fn insert(
        &mut self,
        name: &str,
        place: Place,
        node: &MarkedYaml<'_>,
        faults: &RefCell<Faults>,
    ) {
        let pointer = child("", name);
        let value = self.convert(&pointer, &place, node, faults);
        self.places.insert(pointer, place);
        if let Some(value) = value {
            self.keys.insert(name.to_owned(), value);
        }
    }

    /// A node as JSON, whose places are kept. `None` for null.
    fn convert(
        &mut self,
        pointer: &str,
        place: &Place,
        node: &MarkedYaml<'_>,
        faults: &RefCell<Faults>,
    ) -> Option<Value> {
        match &node.data {
            YamlData::Mapping(_) => {
                let mut map = Map::new();
                for (name, place, node) in entries(place, node, faults).unwrap_or_default() {
                    let pointer = child(pointer, name);
                    if let Some(value) = self.convert(&pointer, &place, node, faults) {
                        map.insert(name.to_owned(), value);
                    }
                    self.places.insert(pointer, place);
                }
                Some(Value::Object(map))
            }
            YamlData::Sequence(items) => {
                let items = items.iter().enumerate().map(|(at, node)| {
                    let place = Place {
                        path: format!("{}[{at}]", place.path),
                        line: node.span.start.line(),
                    };
                    let pointer = child(pointer, &at.to_string());
                    let value = self.convert(&pointer, &place, node, faults);
                    self.places.insert(pointer, place);
                    value.unwrap_or(Value::Null)
                });
                Some(Value::Array(items.collect()))
            }
            YamlData::Value(Scalar::Null) => None,
            YamlData::Value(Scalar::Boolean(flag)) => Some(Value::Bool(*flag)),
            YamlData::Value(Scalar::Integer(number)) => Some(Value::from(*number)),
            YamlData::Value(Scalar::FloatingPoint(number)) => Some(
                // JSON has no infinite numbers, and no key takes one.
                Number::from_f64(number.into_inner())
                    .map_or_else(|| Value::from(number.to_string()), Value::Number),
            ),
            _ => match node.data.as_str() {
                Some(text) => Some(Value::from(text)),
                None => {
                    let message = "expected a value, found a reference or a tag".to_owned();
                    faults.borrow_mut().error(&place.path, place.line, message);
                    None
                }
            },
        }
    }

    /// The place of the value at `pointer`; that of the next value around it if it has none.
    pub(super) fn place(&self, pointer: &str) -> Place {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.places.get(pointer) {
                return place.clone();
            }
            let Some((around, _)) = pointer.rsplit_once('/') else {
                return Place {
                    path: "document".to_owned(),
                    line: 1,
                };
            };
            pointer = around;
        }
    }

    /// The place of `key` in the map at `pointer`, and whether it is there. That of a missing key is on the line of the map.
    pub(super) fn place_of_key(&self, pointer: &str, key: &str) -> (Place, bool) {
        match self.places.get(&child(pointer, key)) {
            Some(place) => (place.clone(), self.value(&child(pointer, key)).is_some()),
            None => {
                let map = self.place(pointer);
                let path = format!("{}.{key}", map.path);
                (Place { path, ..map }, false)
            }
        }
    }

    /// The value at `pointer`.
    pub(super) fn value(&self, pointer: &str) -> Option<&Value> {
        let mut steps = pointer.split('/').skip(1).map(unescaped);
        let first = self.keys.get(&steps.next()?)?;
        steps.try_fold(first, |value, step| match value {
            Value::Object(map) => map.get(&step),
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

/// The entries of a map, with the place of each. `None`, and a fault, for another node.
fn entries<'a>(
    place: &Place,
    node: &'a MarkedYaml<'a>,
    faults: &RefCell<Faults>,
) -> Option<Vec<(&'a str, Place, &'a MarkedYaml<'a>)>> {
    let path = if place.path.is_empty() {
        "document"
    } else {
        &place.path
    };
    let YamlData::Mapping(map) = &node.data else {
        let message = format!("expected a map, found {}", kind_of_node(node));
        faults.borrow_mut().error(path, place.line, message);
        return None;
    };
    let mut entries = Vec::new();
    for (key, value) in map {
        let line = key.span.start.line();
        match key.data.as_str() {
            None => {
                let message = format!("expected a key that is text, found {}", kind_of_node(key));
                faults.borrow_mut().error(path, line, message);
            }
            Some("<<") => {
                let message = "merge keys are not supported, write the keys out".to_owned();
                faults.borrow_mut().error(path, line, message);
            }
            Some(name) => {
                let path = if place.path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{}.{name}", place.path)
                };
                entries.push((name, Place { path, line }, value));
            }
        }
    }
    Some(entries)
}

/// The pointer of `key` in the value at `pointer`.
pub(super) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn unescaped(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}

fn is_null(node: &MarkedYaml<'_>) -> bool {
    matches!(node.data, YamlData::Value(Scalar::Null))
}

fn kind_of_node(node: &MarkedYaml<'_>) -> &'static str {
    match &node.data {
        YamlData::Mapping(_) => "a map",
        YamlData::Sequence(_) => "a list",
        YamlData::Value(Scalar::Null) => "nothing",
        YamlData::Value(Scalar::Boolean(_)) => "true or false",
        YamlData::Value(Scalar::Integer(_) | Scalar::FloatingPoint(_)) => "a number",
        YamlData::Value(Scalar::String(_)) => "another text",
        _ => "something else",
    }
}

/// Says which of the `known` keys is nearest to `name`, if one is near.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // Keys of some predecessors are those of ours in capital letters.
    let name = name.to_lowercase();
    let near = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&name, &known.to_lowercase()), known));
    let nearest = near
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.8);
    nearest.map_or(String::new(), |(_, known)| {
        format!(", did you mean {known}?")
    })
}
