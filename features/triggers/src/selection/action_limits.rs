//! Bounds for what a decision task offers: under them, checking against its schema and rendering its template end soon and
//! take little store, whoever wrote them. The libraries that do it know no such bounds.
//!
//! A schema without references is a tree, and each part of it reads each part of a document a few times at most. With
//! references, some hundred bytes of it can mean more reads than there is time for.
//!
//! A template of JSON-e is a program. `range(0, 1e12)` takes all store, nested loops multiply, `(((((((a` is read for
//! years, and each of them is short. So only those parts of the language are rendered whose result is a sum: names, plain
//! operators on them, `$if` and `$merge`. Real templates use names alone.

use serde_json::Value;

use super::action::ActionError;

/// The longest schema, in bytes of JSON.
const MAX_SCHEMA: usize = 16 * 1024;
/// The longest template, in bytes of JSON.
const MAX_TEMPLATE: usize = 64 * 1024;
/// How deep either may be nested.
const MAX_DEPTH: usize = 16;
/// The longest expression, in bytes.
const MAX_EXPRESSION: usize = 256;
/// The most bytes that a template may grow to.
const MAX_RENDERED: usize = 8 * 1024 * 1024;

/// The keys of a schema that lead to another one.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// The operators of JSON-e that are rendered.
const OPERATORS: [&str; 3] = ["$eval", "$if", "$merge"];

/// Checks that looking through `schema` ends soon.
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

/// Checks that `template`, rendered with a context of `context` bytes, ends soon and stays small.
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

/// How many names are looked up in the part of a template: each can put the whole context there.
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
                // A key is read after what is in it is filled in, so that could make an operator of it.
                let operator = key.starts_with('$') && !key.starts_with("$$");
                if key.contains("${") || operator && !OPERATORS.contains(&key.as_str()) {
                    return Err(language(key));
                }
                names += match value {
                    Value::String(expression) if key == "$eval" || key == "$if" => {
                        evaluated(expression)?
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
        Value::String(text) => names += interpolated(text)?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(names)
}

/// An expression without brackets: no calls, no lists, and nothing to be read again and again.
fn evaluated(expression: &str) -> Result<usize, ActionError> {
    if expression.len() > MAX_EXPRESSION || expression.contains(['(', '[', '{', '*']) {
        return Err(language(expression));
    }
    Ok(words(expression))
}

/// A text with names in it, each as `${name}`. More is not filled in: where an expression ends is for the library to say,
/// and only of a name it is sure.
fn interpolated(text: &str) -> Result<usize, ActionError> {
    let mut names = 0;
    for part in text.split("${").skip(1) {
        let end = part.find('}').ok_or_else(|| language(text))?;
        let name = &part[..end];
        if name.len() > MAX_EXPRESSION
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_. ".contains(c))
        {
            return Err(language(text));
        }
        names += words(name);
    }
    Ok(names)
}

fn words(expression: &str) -> usize {
    expression
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .count()
}

fn language(part: &str) -> ActionError {
    ActionError::language(part)
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
        for usual in [
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
            assert!(template(&usual, 1000).is_ok(), "{usual}");
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
        // Short, but it would grow beyond all bounds.
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
