//! Limits for the schema and the template of an action. Within them, checking the schema and rendering the template end soon
//! and take little memory, whoever wrote them. The libraries have no such limits.
//!
//! A schema without references is a tree, and each part of it reads each part of a document a few times at most. With
//! references, some hundred bytes of schema can cause reads without end.
//!
//! A template of JSON-e is a program. `range(0, 1e12)` takes all memory, nested loops multiply, and `(((((((a` takes years
//! to parse. So only those parts of the language are rendered whose cost is a sum: names, operators on them, `$if` and
//! `$merge`. Real templates use names alone.

use serde_json::Value;

use super::action::ActionError;

/// The longest schema, in bytes of JSON.
const MAX_SCHEMA: usize = 16 * 1024;
/// The longest template, in bytes of JSON.
const MAX_TEMPLATE: usize = 64 * 1024;
/// The deepest nesting of either.
const MAX_DEPTH: usize = 16;
/// The longest expression, in bytes.
const MAX_EXPRESSION: usize = 256;
/// The longest rendered template, in bytes.
const MAX_RENDERED: usize = 8 * 1024 * 1024;

/// The keys of a schema that refer to another one.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// The supported operators of JSON-e.
const OPERATORS: [&str; 3] = ["$eval", "$if", "$merge"];

/// Checks that validation against `schema` ends soon.
pub(super) fn schema(schema: &Value) -> Result<(), ActionError> {
    fn walk(schema: &Value, depth: usize) -> Result<(), ActionError> {
        if depth > MAX_DEPTH {
            return Err(ActionError::TooDeep {
                what: "schema",
                limit: MAX_DEPTH,
            });
        }
        match schema {
            Value::Object(entries) => {
                entries
                    .iter()
                    .try_for_each(|(key, value)| match key.as_str() {
                        reference if REFERENCES.contains(&reference) => Err(ActionError::Reference),
                        _ => walk(value, depth + 1),
                    })
            }
            Value::Array(elements) => elements
                .iter()
                .try_for_each(|element| walk(element, depth + 1)),
            _ => Ok(()),
        }
    }
    limit("schema", schema, MAX_SCHEMA)?;
    walk(schema, 1)
}

/// Checks that rendering `template` with a context of `context` bytes ends soon and stays small.
pub(super) fn template(template: &Value, context: usize) -> Result<(), ActionError> {
    let length = limit("hookPayload", template, MAX_TEMPLATE)?;
    let names = walk(template, 1)?;
    if names.saturating_mul(context).saturating_add(length) > MAX_RENDERED {
        return Err(ActionError::TooLarge {
            what: "rendered hookPayload",
            limit: MAX_RENDERED,
        });
    }
    Ok(())
}

fn limit(what: &'static str, value: &Value, limit: usize) -> Result<usize, ActionError> {
    let length = value.to_string().len();
    if length <= limit {
        Ok(length)
    } else {
        Err(ActionError::TooLarge { what, limit })
    }
}

/// The number of names in a part of a template: each can insert the whole context.
fn walk(template: &Value, depth: usize) -> Result<usize, ActionError> {
    if depth > MAX_DEPTH {
        return Err(ActionError::TooDeep {
            what: "hookPayload",
            limit: MAX_DEPTH,
        });
    }
    let mut names = 0_usize;
    match template {
        Value::Object(entries) => {
            for (key, value) in entries {
                // JSON-e fills in the names in a key before it reads the key, so they could make an operator of it.
                let operator = key.starts_with('$') && !key.starts_with("$$");
                if key.contains("${") || operator && !OPERATORS.contains(&key.as_str()) {
                    return Err(ActionError::language(key));
                }
                names += match value {
                    Value::String(expression) if key == "$eval" || key == "$if" => {
                        names_of_expression(expression)?
                    }
                    value => walk(value, depth + 1)?,
                };
            }
        }
        Value::Array(elements) => {
            for element in elements {
                names += walk(element, depth + 1)?;
            }
        }
        Value::String(text) => names += names_of_text(text)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(names)
}

/// The number of names in an expression. Brackets are rejected: they are calls, lists, and parser recursion.
fn names_of_expression(expression: &str) -> Result<usize, ActionError> {
    if expression.len() > MAX_EXPRESSION || expression.contains(['(', '[', '{', '*']) {
        return Err(ActionError::language(expression));
    }
    Ok(count_names(expression))
}

/// The number of names in a text, each as `${name}`. Other expressions are rejected, since only the library knows where
/// they end.
fn names_of_text(text: &str) -> Result<usize, ActionError> {
    let mut names = 0;
    for part in text.split("${").skip(1) {
        let end = part.find('}').ok_or_else(|| ActionError::language(text))?;
        let name = &part[..end];
        if name.len() > MAX_EXPRESSION
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_. ".contains(c))
        {
            return Err(ActionError::language(text));
        }
        names += count_names(name);
    }
    Ok(names)
}

fn count_names(expression: &str) -> usize {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!({}), |inner, _| json!({ "a": inner }))
    }

    #[test]
    fn name_templates_are_rendered() {
        for common in [
            json!({ "user": { "input": { "$eval": "input" }, "taskId": { "$eval": " taskId " } }, "level": 1 }),
            json!([
                "${taskGroupId}",
                "a $ b ${ input.times } c",
                "(not [an] expression)"
            ]),
            json!({ "$if": "taskId == null && input.times >= 1", "then": "a", "else": { "$$escaped": true } }),
            json!({ "$merge": [{ "a": 1 }, { "b": { "$eval": "input" } }] }),
            nested(MAX_DEPTH - 1),
        ] {
            assert!(template(&common, 1000).is_ok(), "{common}");
        }
    }

    #[test]
    fn templates_are_bounded_in_time_and_memory() {
        for hostile in [
            json!({ "$eval": "range(0, 1000000000000)" }),
            json!({ "$eval": "[input, input]" }),
            json!({ "$eval": "((((((((((a" }),
            json!({ "$eval": "a + ".repeat(100) }),
            json!({ "$if": "a[b[c[d]]]" }),
            json!({ "$map": [1, 2], "each(x)": 1 }),
            json!({ "$reduce": [1, 2], "initial": 0, "each(a,x)": 1 }),
            json!({ "$let": { "a": 1 }, "in": { "$eval": "a" } }),
            json!({ "$json": { "$json": "\"" } }),
            json!({ "$ma${taskId}p": [1, 2], "each(x)": 1 }),
            json!({ "then": { "$if": { "$map": 1 } } }),
            json!("${((((((((((a}"),
            json!("${a ((((((((((((((("),
            json!("${'}' + ((((((((((a}"),
            json!("$${join(a)}"),
            nested(MAX_DEPTH),
            json!("a".repeat(MAX_TEMPLATE)),
        ] {
            assert!(template(&hostile, 1000).is_err(), "{hostile}");
        }
        // A short template whose result exceeds the limit.
        let names = json!(vec![json!({ "$eval": "input" }); 1000]);
        assert!(template(&names, 1000).is_ok() && template(&names, 100_000).is_err());
    }

    #[test]
    fn schemas_are_bounded_in_size_and_depth() {
        assert!(
            schema(&json!({ "type": "object", "properties": { "tasks": { "type": "array" } } }))
                .is_ok()
        );
        for hostile in [
            json!({ "$ref": "#" }),
            json!({ "allOf": [{ "$ref": "https://elsewhere.example/schema.json" }] }),
            json!({ "items": { "$dynamicRef": "#a" } }),
            nested(MAX_DEPTH),
            json!({ "description": "a".repeat(MAX_SCHEMA) }),
        ] {
            assert!(schema(&hostile).is_err(), "{hostile}");
        }
    }
}
