//! A streaming filter that keeps a few fields of a JSON object too large for memory.
//!
//! hgweb's `json-rev` holds the whole diff, at twice its size, between the fields that we need: gigabytes for a vendored
//! library. So the answer passes through this filter in chunks, and only the wanted fields stay in memory.

use memchr::memchr2;

/// Keeps the wanted fields of an object that arrives in chunks, and replaces the values of the others by `null`.
pub(crate) struct JsonFieldFilter {
    wanted: &'static [&'static str],
    kept: Vec<u8>,
    /// Number of open braces and brackets.
    depth: usize,
    /// Whether the next byte is within a string.
    in_string: bool,
    /// Whether the last byte was an escaping backslash.
    escaped: bool,
    /// Whether the next byte belongs to a value of the outermost object, and not to a key.
    in_value: bool,
    /// Offset in `kept` of the last key of the outermost object.
    key: usize,
    keeping: bool,
}

impl JsonFieldFilter {
    pub(crate) fn new(wanted: &'static [&'static str]) -> Self {
        Self {
            wanted,
            kept: Vec::new(),
            depth: 0,
            in_string: false,
            escaped: false,
            in_value: false,
            key: 0,
            keeping: true,
        }
    }

    /// The output so far. After the last chunk it is valid JSON if the input was.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Filters the next chunk.
    pub(crate) fn feed(&mut self, mut chunk: &[u8]) {
        while let Some(&byte) = chunk.first() {
            if self.in_string && !self.keeping && !self.escaped {
                // Skip to the next byte that may end the string.
                let Some(at) = memchr2(b'"', b'\\', chunk) else {
                    return;
                };
                chunk = &chunk[at..];
                self.string(chunk[0]);
            } else if self.in_string {
                self.string(byte);
            } else {
                self.structure(byte);
            }
            chunk = &chunk[1..];
        }
    }

    fn keep(&mut self, byte: u8) {
        if self.keeping {
            self.kept.push(byte);
        }
    }

    fn string(&mut self, byte: u8) {
        self.keep(byte);
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = true;
        } else if byte == b'"' {
            self.in_string = false;
        }
    }

    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == 1 && !self.in_value {
                    self.key = self.kept.len() + 1;
                }
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    self.end_value();
                }
            }
            b',' if self.depth == 1 => self.end_value(),
            b':' if self.depth == 1 && !self.in_value => {
                self.in_value = true;
                self.kept.push(byte);
                self.keeping = self.is_wanted();
                if !self.keeping {
                    self.kept.extend_from_slice(b"null");
                }
                return;
            }
            _ => {}
        }
        self.keep(byte);
    }

    fn end_value(&mut self) {
        self.in_value = false;
        self.keeping = true;
    }

    /// Whether the value of the last key is wanted.
    fn is_wanted(&self) -> bool {
        let key = self.kept.get(self.key..).unwrap_or_default();
        self.wanted.iter().any(|wanted| {
            key.strip_prefix(wanted.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    const WANTED: &[&str] = &["node", "desc"];

    fn filtered(chunks: &[&[u8]]) -> Vec<u8> {
        let mut filter = JsonFieldFilter::new(WANTED);
        for chunk in chunks {
            filter.feed(chunk);
        }
        filter.kept().to_vec()
    }

    #[test]
    fn wanted_fields_are_kept_for_any_chunking() {
        let whole = br#"{"a\"b": "]}\\", "node" : "x\"}, \\", "diff": [{"node": "no", "l": "\"}]\\\""}], "desc": ["a", {"b": 1}], "n": -1e5 }"#;
        let expected =
            r#"{"a\"b":null, "node" : "x\"}, \\", "diff":null, "desc": ["a", {"b": 1}], "n":null}"#;
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(
                String::from_utf8(filtered(&[head, tail])).unwrap(),
                expected,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn filtered_non_object_is_not_parsed_as_object() {
        for text in [
            "",
            "[1, 2]",
            "\"node\"",
            "{\"node\"",
            "}}}}",
            "{]",
            "<html>",
            "{\"diff\": [1, 2",
            "]{\"node\": 1",
        ] {
            let kept = filtered(&[text.as_bytes()]);
            assert!(
                serde_json::from_slice::<Map<String, Value>>(&kept).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn unwanted_fields_take_no_memory() {
        let mut filter = JsonFieldFilter::new(WANTED);
        filter.feed(b"{\"diff\": [\"");
        for _ in 0..1000 {
            filter.feed(&[b'x'; 10_000]);
        }
        filter.feed(b"\"], \"desc\": 5}");
        assert_eq!(filter.kept(), b"{\"diff\":null, \"desc\": 5}");
        assert!(filter.kept.capacity() < 100);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[\"\\\\\\[\\]{}:,a\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("node|desc|[\"\\\\a:]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn filtered_object_equals_parsed_object_without_the_other_values(
            fields in prop::collection::hash_map("node|desc|[\"\\\\a:,]{0,4}", json(), 0..5), size in 1_usize..9
        ) {
            let object: Map<String, Value> = fields.into_iter().collect();
            let text = serde_json::to_vec_pretty(&object).unwrap();
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            let kept: Map<String, Value> = serde_json::from_slice(&filtered(&chunks)).unwrap();
            let expected = object.into_iter().map(|(key, value)| {
                let value = if WANTED.contains(&key.as_str()) { value } else { Value::Null };
                (key, value)
            });
            prop_assert_eq!(kept, expected.collect::<Map<_, _>>());
        }
    }
}
