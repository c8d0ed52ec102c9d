//! Message bodies of any type as JSON, for an operator to read.

use base64::{Engine, prelude::BASE64_STANDARD};
use rmpv::ValueRef;
use serde::Serialize;
use serde_json::{Map, Number, Value, json};

/// A body as JSON, or in base64 when it is not MessagePack.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The body, field by field. Bytes are text if they are UTF-8, else `{"base64": …}`.
    Body(Value),
    /// The bytes of a body that is not MessagePack.
    BodyBase64(String),
}

impl Body {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut rest = bytes;
        match rmpv::decode::read_value_ref(&mut rest) {
            Ok(value) if rest.is_empty() => Self::Body(json(&value)),
            _ => Self::BodyBase64(BASE64_STANDARD.encode(bytes)),
        }
    }
}

fn json(value: &ValueRef<'_>) -> Value {
    match value {
        ValueRef::Nil => Value::Null,
        ValueRef::Boolean(value) => Value::Bool(*value),
        ValueRef::Integer(value) => {
            let number = value
                .as_i64()
                .map(Number::from)
                .or_else(|| value.as_u64().map(Number::from));
            number.map_or(Value::Null, Value::Number)
        }
        ValueRef::F32(value) => Value::from(*value),
        ValueRef::F64(value) => Value::from(*value),
        ValueRef::String(value) => bytes(value.as_bytes()),
        ValueRef::Binary(value) => bytes(value),
        ValueRef::Array(values) => values.iter().map(json).collect(),
        ValueRef::Map(entries) => entries
            .iter()
            .map(|(key, value)| (name(key), json(value)))
            .collect::<Map<_, _>>()
            .into(),
        ValueRef::Ext(kind, value) => {
            json!({"type": kind, "base64": BASE64_STANDARD.encode(value)})
        }
    }
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"base64": BASE64_STANDARD.encode(bytes)}),
    }
}

/// The key of a map. Keys of our messages are text.
fn name(key: &ValueRef<'_>) -> String {
    match key {
        ValueRef::String(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        other => json(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Patch {
        name: &'static str,
        number: i64,
        share: f64,
        none: Option<u8>,
        #[serde(with = "serde_bytes")]
        text: &'static [u8],
        #[serde(with = "serde_bytes")]
        bytes: &'static [u8],
        lines: Vec<u64>,
    }

    #[test]
    fn body_is_shown_field_by_field() {
        let patch = Patch {
            name: "Zoë",
            number: -7,
            share: 0.5,
            none: None,
            text: b"+line\n",
            bytes: b"\xff\x00",
            lines: vec![1, u64::MAX],
        };
        let Body::Body(body) = Body::read(&rmp_serde::to_vec_named(&patch).unwrap()) else {
            panic!("it is MessagePack")
        };
        let expected = json!({
            "name": "Zoë", "number": -7, "share": 0.5, "none": null, "text": "+line\n", "bytes": {"base64": "/wA="},
            "lines": [1, u64::MAX],
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn body_that_is_no_messagepack_is_shown_in_base64() {
        for (bytes, expected) in [
            (&b"no message"[..], "bm8gbWVzc2FnZQ=="),
            (b"", ""),
            (b"\x81\xa1a", "gaFh"),
        ] {
            assert_eq!(Body::read(bytes), Body::BodyBase64(expected.to_owned()));
        }
        // Nested as deep as an attacker likes.
        assert!(matches!(Body::read(&[0x91; 100_000]), Body::BodyBase64(_)));
    }
}
