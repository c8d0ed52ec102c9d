//! Reads a manifest as Mercurial stores it: lines of `<path> NUL <40 hex digits><flags>`, sorted by the bytes of the
//! paths. It has tens of megabytes if there are many files, so the reader filters it as it arrives.

use worker::patch::path_tree::{PathFilter, Tree};

use crate::framing::Sink;

/// The longest line that is read, in bytes.
const MAX_LINE: usize = 1 << 20;

/// Reads a manifest into a [`Tree`].
#[derive(Debug)]
pub(crate) struct ManifestReader {
    filter: PathFilter,
    /// The part of a line that has arrived.
    line: Vec<u8>,
}

impl ManifestReader {
    /// A reader that keeps the paths that pass the filter.
    pub(crate) fn new(filter: PathFilter) -> Self {
        Self {
            filter,
            line: Vec::new(),
        }
    }

    /// The paths that were kept.
    pub(crate) fn tree(self) -> Tree {
        self.filter.tree()
    }
}

impl Sink for ManifestReader {
    fn room(&self) -> usize {
        usize::MAX
    }

    fn take(&mut self, mut piece: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = (&piece[..end], &piece[end + 1..]);
            if self.line.is_empty() {
                self.filter.pass(path_of(line));
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.filter.pass(path_of(&whole));
            }
            piece = rest;
        }
        // Paths are shorter, and output that is not a manifest must not fill the memory.
        if self.line.len() < MAX_LINE {
            self.line.extend_from_slice(piece);
        }
    }
}

fn path_of(line: &[u8]) -> &[u8] {
    memchr::memchr(0, line).map_or(line, |end| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use worker::{
        Limits,
        patch::{self, Rules},
    };

    #[test]
    fn paths_are_read_however_the_manifest_is_cut() {
        let header = "new file mode 100644\n--- /dev/null\n+++ b/link/x\n@@ -0,0 +1,1 @@\n+x\n";
        let patch = format!("diff --git a/link/x b/link/x\n{header}");
        let patch = patch::scan(patch.as_bytes(), &Limits::default(), Rules::Mercurial)
            .expect("a good patch");
        let manifest: String = ["a", "link", "z"]
            .iter()
            .map(|path| format!("{path}\0{}\n", "0".repeat(40)))
            .collect();
        for piece in [1, 7, 50, 10_000] {
            let mut reader =
                ManifestReader::new(PathFilter::new(std::slice::from_ref(&patch), None));
            manifest
                .as_bytes()
                .chunks(piece)
                .for_each(|piece| reader.take(piece));
            let conflict = reader.tree().apply(&patch).expect_err("below a file");
            assert_eq!(conflict.other, b"link", "{piece}");
        }
    }
}
