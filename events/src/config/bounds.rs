//! Bounds on a document, checked before a tree is made of it: the tree's maker calls itself for each level, and makes a copy of
//! the value for each alias.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// The largest document, in bytes. That of a deployment has a few thousand.
pub(super) const BYTES: usize = 1024 * 1024;

/// The most levels of maps and lists. A configuration has five.
const DEPTH: usize = 32;

/// A bound that a document exceeds, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) line: usize,
    pub(super) message: String,
}

/// Checks the document event by event, which takes no stack. Text that is not YAML is left to the reader.
pub(super) fn check(text: &str) -> Result<(), Exceeded> {
    if text.len() > BYTES {
        let line = text
            .bytes()
            .take(BYTES)
            .filter(|byte| *byte == b'\n')
            .count()
            + 1;
        let message =
            format!("the document is longer than {BYTES} bytes: is this the configuration?");
        return Err(Exceeded { line, message });
    }
    let mut progress = Progress {
        bytes: text.len(),
        ..Progress::default()
    };
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else {
            return Ok(());
        };
        let depth = progress.read(&event);
        let message = if depth > DEPTH {
            format!(
                "maps and lists are nested more than {DEPTH} levels deep, expected at most that"
            )
        } else if progress.bytes > BYTES {
            format!(
                "the document is longer than {BYTES} bytes with its aliases written out, expected at most that"
            )
        } else {
            continue;
        };
        let line = span.start.line();
        return Err(Exceeded { line, message });
    }
    Ok(())
}

/// The size of a value with its aliases written out.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    /// The bytes of its texts, and one for each value in it.
    bytes: usize,
    /// The levels of maps and lists.
    depth: usize,
}

/// A document up to an event.
#[derive(Debug, Default)]
struct Progress {
    /// The bytes of the document with its aliases written out.
    bytes: usize,
    /// The maps and lists around the next event, each with its anchor.
    open: Vec<(usize, Extent)>,
    /// The values with an anchor, by its number.
    anchored: HashMap<usize, Extent>,
}

impl Progress {
    /// Reads the next event. Returns the depth that it reaches.
    fn read(&mut self, event: &Event<'_>) -> usize {
        let around = self.open.len();
        match event {
            Event::MappingStart(anchor, _) | Event::SequenceStart(anchor, _) => {
                self.open.push((*anchor, Extent { bytes: 1, depth: 1 }));
                around + 1
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some((anchor, value)) = self.open.pop() {
                    self.add(anchor, value);
                }
                around
            }
            Event::Scalar(text, _, anchor, _) => {
                let bytes = text.len() + 1;
                self.add(*anchor, Extent { bytes, depth: 0 });
                around
            }
            Event::Alias(anchor) => {
                // An alias within its own value stands for nothing, and the reader refuses it.
                let value = self.anchored.get(anchor).copied().unwrap_or_default();
                self.bytes = self.bytes.saturating_add(value.bytes);
                self.add(0, value);
                around + value.depth
            }
            _ => around,
        }
    }

    /// Adds a whole value to the map or list around it. The anchor 0 is none.
    fn add(&mut self, anchor: usize, value: Extent) {
        if anchor > 0 {
            self.anchored.insert(anchor, value);
        }
        if let Some((_, around)) = self.open.last_mut() {
            around.bytes = around.bytes.saturating_add(value.bytes);
            around.depth = around.depth.max(value.depth + 1);
        }
    }
}
