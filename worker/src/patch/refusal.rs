//! The refusal of a patch.

use std::fmt;

use super::{Lines, Rules, path};
use crate::text;

/// The reason for refusing a patch.
#[derive(Debug, PartialEq, Eq)]
pub struct RejectReason {
    /// The file at fault, if there is one.
    pub path: Option<Vec<u8>>,
    /// The line of the patch, from 1; 0 if no line is at fault.
    pub line: usize,
    /// The fault, as text for the author.
    pub reason: String,
    /// The remedy, as text for the author. Empty where the reason makes it plain.
    pub advice: &'static str,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", text::path(path))?;
        }
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "{} (line {line} of the patch)", self.reason),
        }
    }
}

/// The refusal of a line that is out of place.
pub(super) fn stray(line: &[u8], rules: Rules, lines: &Lines<'_>) -> RejectReason {
    let for_mercurial = rules == Rules::Mercurial;
    if for_mercurial && line.starts_with(b"# HG changeset patch") {
        lines.refuse(
            "it has a `# HG changeset patch` header, which could make one patch several commits",
        )
    } else if line.starts_with(b"Binary file") {
        lines
            .refuse("the content of a binary file is missing")
            .advise(UPLOAD)
    } else if for_mercurial && line.starts_with(b"diff --git \"") {
        lines.refuse("a file's name stands in quotes, which Mercurial takes as part of the name")
    } else {
        lines.refuse(format!(
            "this line has no place in a git patch: {}",
            text::cut(&text::path(line), 80)
        ))
    }
}

pub(super) const CONVERT: &str = "Convert the patch to LF line endings (`dos2unix`) and submit it again. A rebase does not help.";
pub(super) const SPLIT: &str = "Split the stack, and land its lower part first.";
pub(super) const UPLOAD: &str =
    "Submit it again with `moz-phab` or `arc diff`, which upload the content of binary files.";
pub(super) const RENAME: &str = "Mercurial cannot import a patch for such a file. Rename the directory whose name ends in ` b`, in a \
                      revision of its own, and submit this one on top of that.";

impl RejectReason {
    /// Whether Phabricator lacks the content of a binary file, which the author has.
    pub(crate) fn lacks_content(&self) -> bool {
        self.advice == UPLOAD
    }

    pub(super) fn without_line(reason: String) -> Self {
        Self {
            path: None,
            line: 0,
            reason,
            advice: "",
        }
    }

    pub(super) fn about(self, path: &[u8]) -> Self {
        // A name can be as long as the patch.
        let start = &path[..path.len().min(path::MAX_PATH)];
        Self {
            path: self.path.or_else(|| Some(start.to_vec())),
            ..self
        }
    }

    pub(super) fn advise(self, advice: &'static str) -> Self {
        Self { advice, ..self }
    }
}
