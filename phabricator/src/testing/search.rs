//! What all `*.search` methods have in common: constraints, order, pages, and the errors for wrong ones.

use serde_json::{Map, Value, json};

/// An error of a method: code and text.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) info: String,
}

impl Refusal {
    pub(super) fn new(code: &str, info: impl Into<String>) -> Self {
        Self { code: code.to_owned(), info: info.into() }
    }

    pub(super) fn core(info: impl Into<String>) -> Self {
        Self::new("ERR-CONDUIT-CORE", info)
    }

    pub(super) fn call(info: impl Into<String>) -> Self {
        Self::new("ERR-CONDUIT-CALL", info)
    }
}

/// Refuses parameters that `method` does not have.
pub(super) fn only(method: &str, params: &Map<String, Value>, known: &[&str]) -> Result<(), Refusal> {
    match params.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(Refusal::call(format!("API Method \"{method}\" does not define these parameters: '{key}'."))),
    }
}

/// The constraints that a method has, by the type of what they list.
pub(super) struct Known {
    pub(super) integers: &'static [&'static str],
    pub(super) strings: &'static [&'static str],
    pub(super) attachments: &'static [&'static str],
}

/// A search as it was asked for.
#[derive(Debug)]
pub(super) struct Search {
    constraints: Map<String, Value>,
    attachments: Map<String, Value>,
    limit: usize,
    after: Option<u64>,
    order: Option<String>,
}

impl Search {
    pub(super) fn read(method: &str, params: &Map<String, Value>, known: &Known) -> Result<Self, Refusal> {
        only(method, params, &["queryKey", "constraints", "attachments", "order", "before", "after", "limit"])?;
        let map = |key: &str| params.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let (constraints, attachments) = (map("constraints"), map("attachments"));
        for (key, value) in &constraints {
            if known.integers.contains(&key.as_str()) {
                check_list(key, value, "integer", Value::is_u64)?;
            } else if known.strings.contains(&key.as_str()) {
                check_list(key, value, "string", Value::is_string)?;
            } else {
                return Err(Refusal::new(
                    "ERR-INVALID-CONSTRAINT",
                    "Parameter \"constraints\" includes an invalid key.",
                ));
            }
        }
        if attachments.keys().any(|key| !known.attachments.contains(&key.as_str())) {
            return Err(Refusal::new("ERR-INVALID-ATTACHMENT", "Parameter \"attachments\" includes an invalid key."));
        }
        let limit = params.get("limit").and_then(Value::as_i64).unwrap_or(100);
        let bound = |kind: &str, bound: i64| {
            Refusal::new(
                "ERR-INVALID-PAGE-SIZE",
                format!("{kind} page size for Conduit API method calls is {bound}, but this call specified {limit}."),
            )
        };
        if limit < 1 {
            return Err(bound("Minimum", 1));
        }
        if limit > 100 {
            return Err(bound("Maximum", 100));
        }
        Ok(Self {
            constraints,
            attachments,
            limit: usize::try_from(limit).unwrap_or(100),
            after: params.get("after").and_then(Value::as_str).and_then(|after| after.parse().ok()),
            order: params.get("order").and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// Whether an object whose `key` has `value` is asked for.
    pub(super) fn wants(&self, key: &str, value: impl Into<Value>) -> bool {
        let value = value.into();
        self.constraints.get(key).and_then(Value::as_array).is_none_or(|list| list.contains(&value))
    }

    /// The strings that are listed for `key`.
    pub(super) fn strings(&self, key: &str) -> Option<Vec<String>> {
        let list = self.constraints.get(key)?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    pub(super) fn attaches(&self, key: &str) -> bool {
        self.attachments.get(key).is_some_and(|value| value == true)
    }

    /// The page that is asked for, of objects in the order of their ids.
    pub(super) fn page(&self, objects: Vec<(u64, Value)>) -> Value {
        let oldest_first = self.order.as_deref() == Some("oldest");
        let mut objects = objects;
        objects.sort_by_key(|(id, _)| *id);
        if !oldest_first {
            objects.reverse();
        }
        if let Some(after) = self.after {
            objects.retain(|(id, _)| if oldest_first { *id > after } else { *id < after });
        }
        let more = objects.len() > self.limit;
        objects.truncate(self.limit);
        let after = objects.last().filter(|_| more).map(|(id, _)| id.to_string());
        json!({
            "data": objects.into_iter().map(|(_, object)| object).collect::<Vec<_>>(),
            "maps": {},
            "query": { "queryKey": null },
            "cursor": { "limit": self.limit, "after": after, "before": null, "order": self.order },
        })
    }
}

fn check_list(key: &str, value: &Value, kind: &str, fits: fn(&Value) -> bool) -> Result<(), Refusal> {
    let fault = |place: &str, problem: &str| {
        Err(Refusal::core(format!("Error while reading \"{key}{place}\": Expected {problem}.")))
    };
    let Some(list) = value.as_array() else { return fault("", "a list, but value is not a list") };
    if list.is_empty() {
        return fault("", "a nonempty list, but value is an empty list");
    }
    match list.iter().position(|entry| !fits(entry)) {
        None => Ok(()),
        Some(index) => fault(&format!("[{index}]"), &format!("{kind}, got something else")),
    }
}
