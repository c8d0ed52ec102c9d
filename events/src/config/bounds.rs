//! Bounds on a document, checked before a tree is made of it: the tree's maker calls itself for each level.

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
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else {
            return Ok(());
        };
        match event {
            Event::MappingStart(..) | Event::SequenceStart(..) => depth += 1,
            Event::MappingEnd | Event::SequenceEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            let line = span.start.line();
            let message = format!(
                "maps and lists are nested more than {DEPTH} levels deep, expected at most that"
            );
            return Err(Exceeded { line, message });
        }
    }
    Ok(())
}
