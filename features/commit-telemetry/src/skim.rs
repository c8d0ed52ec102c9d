//! The few wanted fields of a JSON object that is too large to be held.
//!
//! hgweb's `json-rev` tells the whole diff, twice as long as it is, between the fields that are of use: gigabytes for what
//! vendors a library. So the answer passes through here piece by piece, and only the wanted fields stay.

use memchr::memchr2;

/// Takes an object in pieces and keeps some of its fields; of the others `null` stays.
pub(crate) struct Skim {
    wanted: &'static [&'static str],
    kept: Vec<u8>,
    /// How many braces and brackets are open.
    depth: usize,
    /// Whether what comes is within a string, and whether a backslash stood before it.
    in_string: bool,
    escaped: bool,
    /// Whether a value of the object itself comes, not a key.
    in_value: bool,
    /// Where in `kept` the last key of the object begins.
    key: usize,
    /// Whether what comes is kept.
    keeping: bool,
}

impl Skim {
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

    /// What has been kept so far. In the end this is JSON if the whole was.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Takes the next piece.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) {
        while let Some(&byte) = piece.first() {
            if self.in_string && !self.keeping && !self.escaped {
                // Nothing matters before the end of the string.
                let Some(at) = memchr2(b'"', b'\\', piece) else {
                    return;
                };
                piece = &piece[at..];
                self.string(piece[0]);
            } else if self.in_string {
                self.string(byte);
            } else {
                self.structure(byte);
            }
            piece = &piece[1..];
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
                    (self.in_value, self.keeping) = (false, true);
                }
            }
            b',' if self.depth == 1 => (self.in_value, self.keeping) = (false, true),
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

    /// Whether the value of the key that was read last is wanted.
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

    fn skimmed(pieces: &[&[u8]]) -> Vec<u8> {
        let mut skim = Skim::new(WANTED);
        for piece in pieces {
            skim.feed(piece);
        }
        skim.kept().to_vec()
    }

    #[test]
    fn wanted_fields_are_kept_for_any_chunking() {
        let whole = br#"{"a\"b": "]}\\", "node" : "x\"}, \\", "diff": [{"node": "no", "l": "\"}]\\\""}], "desc": ["a", {"b": 1}], "n": -1e5 }"#;
        let expected =
            r#"{"a\"b":null, "node" : "x\"}, \\", "diff":null, "desc": ["a", {"b": 1}], "n":null}"#;
        for cut in 0..whole.len() {
            let (head, tail) = whole.split_at(cut);
            assert_eq!(
                String::from_utf8(skimmed(&[head, tail])).unwrap(),
                expected,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn non_object_is_unreadable() {
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
            let kept = skimmed(&[text.as_bytes()]);
            assert!(
                serde_json::from_slice::<Map<String, Value>>(&kept).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn unwanted_fields_need_no_memory() {
        let mut skim = Skim::new(WANTED);
        skim.feed(b"{\"diff\": [\"");
        for _ in 0..1000 {
            skim.feed(&[b'x'; 10_000]);
        }
        skim.feed(b"\"], \"desc\": 5}");
        assert_eq!(skim.kept(), b"{\"diff\":null, \"desc\": 5}");
        assert!(skim.kept.capacity() < 100);
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
        fn skimming_equals_reading_all_and_dropping_the_rest(
            fields in prop::collection::hash_map("node|desc|[\"\\\\a:,]{0,4}", json(), 0..5), size in 1_usize..9
        ) {
            let object: Map<String, Value> = fields.into_iter().collect();
            let text = serde_json::to_vec_pretty(&object).unwrap();
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            let kept: Map<String, Value> = serde_json::from_slice(&skimmed(&pieces)).unwrap();
            let expected = object.into_iter().map(|(key, value)| {
                let value = if WANTED.contains(&key.as_str()) { value } else { Value::Null };
                (key, value)
            });
            prop_assert_eq!(kept, expected.collect::<Map<_, _>>());
        }
    }
}
