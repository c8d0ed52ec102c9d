//! As much of JSON schema as the hooks of tests need.

use serde_json::Value;

/// What does not fit, in the words of Taskcluster's validator; `place` is where `value` is.
pub(super) fn misfit(value: &Value, schema: &Value, place: &str) -> Option<String> {
    let kind = schema["type"].as_str();
    if let Some(kind) = kind.filter(|kind| !is(value, kind)) {
        return Some(format!("{place} must be {kind}"));
    }
    let names = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let missing = names.into_iter().find(|name| value.get(*name).is_none());
    if let Some(name) = missing {
        return Some(format!("{place} must have required property '{name}'"));
    }
    value
        .as_object()?
        .iter()
        .find_map(|(name, value)| match schema["properties"].get(name) {
            Some(schema) => misfit(value, schema, &format!("{place}/{name}")),
            None if schema["additionalProperties"] == false => {
                Some(format!("{place} must NOT have additional properties"))
            }
            None => None,
        })
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => value.is_null(),
    }
}
