//! What all `*.search` methods have in common: constraints, order, pages, and the errors for wrong ones.

use serde_json::{Map, Value, json};

/// How a method fails.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An error with a code and a text. Its status is 200, but for some faults of the database.
    Conduit {
        status: u16,
        code: String,
        info: String,
    },
    /// PHP gives up: status 500, and a page for people.
    Crash,
}

impl Refusal {
    pub(super) fn new(code: &str, info: impl Into<String>) -> Self {
        Self::Conduit {
            status: 200,
            code: code.to_owned(),
            info: info.into(),
        }
    }

    pub(super) fn core(info: impl Into<String>) -> Self {
        Self::new("ERR-CONDUIT-CORE", info)
    }

    pub(super) fn call(info: impl Into<String>) -> Self {
        Self::new("ERR-CONDUIT-CALL", info)
    }
}

/// What the real one says of an id that is not a number.
pub(super) fn not_numeric() -> Refusal {
    Refusal::core("Expected a numeric scalar or null for %Ld conversion. Query: id IN (%Ld)")
}

/// A number, or a text of digits: PHP takes both.
pub(super) fn numeric(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Whether an object is one of `count`, which are numbered from 1 and shown to everybody.
pub(super) fn numbered(count: usize) -> impl Fn(u64) -> bool {
    move |id| (1..=count as u64).contains(&id)
}

/// A map, or a list with its places as keys, since PHP makes no difference.
pub(super) fn php_map(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map.clone()),
        Value::Array(list) => Some(
            list.iter()
                .enumerate()
                .map(|(index, value)| (index.to_string(), value.clone()))
                .collect(),
        ),
        _ => None,
    }
}

/// What a search knows.
pub(super) struct Known {
    /// The real one's name for it.
    pub(super) query: &'static str,
    /// The constraints, by the type of what they list.
    pub(super) integers: &'static [&'static str],
    pub(super) strings: &'static [&'static str],
    pub(super) attachments: &'static [&'static str],
}

/// A search as it was asked for.
pub(super) struct Search {
    query: &'static str,
    /// A query that people saved: all of them are of everything here.
    query_key: Value,
    constraints: Map<String, Value>,
    attachments: Map<String, Value>,
    /// How it was given, for the answer, and what that means.
    limit: (Value, usize),
    order: (Value, Order),
    after: Option<i64>,
    before: Option<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Newest,
    Oldest,
    /// Of revisions: what changed last comes first.
    Updated,
}

impl Search {
    pub(super) fn read(params: &Map<String, Value>, known: &Known) -> Result<Self, Refusal> {
        let given = |key: &str| params.get(key).unwrap_or(&Value::Null);
        let map = |key: &str| {
            if given(key).is_null() {
                Some(Map::new())
            } else {
                php_map(given(key))
            }
        };
        let constraints = map("constraints").ok_or_else(|| {
            let info = "Parameter \"constraints\" must be a map of constraints.";
            Refusal::new("ERR-INVALID-CONSTRAINTS-FORMAT", info)
        })?;
        for (key, value) in &constraints {
            if known.integers.contains(&key.as_str()) {
                check_list(key, value, "integer", Value::is_u64)?;
            } else if known.strings.contains(&key.as_str()) {
                check_list(key, value, "string", Value::is_string)?;
            } else {
                let info = "Parameter \"constraints\" includes an invalid key.";
                return Err(Refusal::new("ERR-INVALID-CONSTRAINT", info));
            }
        }
        let attachments = map("attachments").unwrap_or_default();
        if attachments
            .keys()
            .any(|key| !known.attachments.contains(&key.as_str()))
        {
            return Err(Refusal::new(
                "ERR-INVALID-ATTACHMENT",
                "Parameter \"attachments\" includes an invalid key.",
            ));
        }
        let place = |key: &str| match given(key) {
            Value::Null => Ok(None),
            value => numeric(value).map(Some).ok_or_else(not_numeric),
        };
        Ok(Self {
            query: known.query,
            query_key: given("queryKey").clone(),
            constraints,
            attachments,
            limit: read_limit(given("limit"))?,
            order: read_order(given("order"), known.query)?,
            after: place("after")?,
            before: place("before")?,
        })
    }

    /// Whether an object whose `key` has `value` is asked for.
    pub(super) fn wants(&self, key: &str, value: impl Into<Value>) -> bool {
        let value = value.into();
        self.constraints
            .get(key)
            .and_then(Value::as_array)
            .is_none_or(|list| list.contains(&value))
    }

    /// The strings that are listed for `key`.
    pub(super) fn strings(&self, key: &str) -> Option<Vec<String>> {
        let list = self.constraints.get(key)?.as_array()?;
        Some(
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        )
    }

    /// Whether an attachment is asked for; the real one attaches it whatever the value.
    pub(super) fn attaches(&self, key: &str) -> bool {
        self.attachments.contains_key(key)
    }

    /// The page that is asked for, of the objects with their numbers. A cursor must be the number of an object that
    /// `is_shown`, whether or not it is asked for.
    pub(super) fn page(
        &self,
        mut objects: Vec<(u64, Value)>,
        is_shown: impl Fn(u64) -> bool,
    ) -> Result<Value, Refusal> {
        for cursor in [self.after, self.before].into_iter().flatten() {
            if !u64::try_from(cursor).is_ok_and(&is_shown) {
                let query = self.query;
                let info = format!(
                    "Cursor \"{cursor}\" does not identify a valid object in query \"{query}\"."
                );
                return Err(Refusal::core(info));
            }
        }
        let oldest_first = self.order.1 == Order::Oldest;
        let limit = self.limit.1;
        let changed = |object: &Value| match self.order.1 {
            Order::Updated => object["fields"]["dateModified"].as_i64(),
            Order::Newest | Order::Oldest => None,
        };
        let place_of = |cursor: i64| {
            let id = cursor.unsigned_abs();
            (
                objects
                    .iter()
                    .find(|(known, _)| *known == id)
                    .and_then(|(_, object)| changed(object)),
                id,
            )
        };
        let (after, before) = (self.after.map(place_of), self.before.map(place_of));
        let place = |(id, object): &(u64, Value)| (changed(object), *id);
        let is_after = |place, cursor| {
            if oldest_first {
                place > cursor
            } else {
                place < cursor
            }
        };
        objects.sort_by_key(place);
        if !oldest_first {
            objects.reverse();
        }
        if let Some(after) = after {
            objects.retain(|object| is_after(place(object), after));
        }
        let mut more = objects.len() > limit;
        if let Some(before) = before {
            objects.retain(|object| place(object) != before && !is_after(place(object), before));
            // Those nearest to the cursor, which itself comes after them.
            objects.drain(..objects.len().saturating_sub(limit));
            more = true;
        }
        objects.truncate(limit);
        let id = |object: Option<&(u64, Value)>| object.map(|(id, _)| id.to_string());
        let after = id(objects.last()).filter(|_| more);
        let before = id(objects.first()).filter(|_| self.after.is_some());
        Ok(json!({
            "data": objects.into_iter().map(|(_, object)| object).collect::<Vec<_>>(),
            "maps": {},
            "query": { "queryKey": self.query_key },
            "cursor": { "limit": self.limit.0, "after": after, "before": before, "order": self.order.0 },
        }))
    }
}

fn read_limit(given: &Value) -> Result<(Value, usize), Refusal> {
    if given.is_null() {
        return Ok((json!(100), 100));
    }
    let limit = numeric(given).unwrap_or(0);
    let bound = |kind: &str, bound: i64| {
        let info = format!(
            "{kind} page size for Conduit API method calls is {bound}, but this call specified {limit}."
        );
        Err(Refusal::new("ERR-INVALID-PAGE-SIZE", info))
    };
    match usize::try_from(limit) {
        Ok(size @ 1..=100) => Ok((given.clone(), size)),
        Ok(101..) => bound("Maximum", 100),
        Ok(0) | Err(_) => bound("Minimum", 1),
    }
}

/// A name, or a list of columns, of which the real one takes `-id` for "up".
fn read_order(given: &Value, query: &str) -> Result<(Value, Order), Refusal> {
    let order = match given {
        Value::String(name) if name == "oldest" => Order::Oldest,
        Value::String(name) if name == "updated" && query == "DifferentialRevisionQuery" => {
            Order::Updated
        }
        Value::String(name) if name != "newest" && name != "created" => {
            let info = format!("Query \"{query}\" does not support a builtin order \"{name}\".");
            return Err(Refusal::core(format!(
                "{info} Supported orders are: newest, created, oldest."
            )));
        }
        Value::Array(columns) if columns.first().is_some_and(|column| column == "-id") => {
            Order::Oldest
        }
        _ => Order::Newest,
    };
    Ok((given.clone(), order))
}

fn check_list(
    key: &str,
    value: &Value,
    kind: &str,
    fits: fn(&Value) -> bool,
) -> Result<(), Refusal> {
    let fault = |place: &str, problem: &str| {
        Err(Refusal::core(format!(
            "Error while reading \"{key}{place}\": Expected {problem}."
        )))
    };
    let Some(list) = value.as_array() else {
        return fault("", "a list, but value is not a list");
    };
    if list.is_empty() {
        return fault("", "a nonempty list, but value is an empty list");
    }
    match list.iter().position(|entry| !fits(entry)) {
        None => Ok(()),
        Some(index) => fault(
            &format!("[{index}]"),
            &format!("{kind}, got something else"),
        ),
    }
}
