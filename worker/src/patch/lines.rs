//! The lines of a patch.

use super::{Place, RejectReason};

/// The lines of a patch. They end at `\n` only.
pub(super) struct Lines<'a> {
    content: &'a [u8],
    /// The place of the next line. Its `line` is the number of the line before.
    at: Place,
}

impl<'a> Lines<'a> {
    pub(super) fn new(content: &'a [u8]) -> Self {
        Self::from(content, Place { offset: 0, line: 0 })
    }

    /// The lines from `at` on, a place that [`Self::place`] returned for the same content.
    pub(super) fn from(content: &'a [u8], at: Place) -> Self {
        Self { content, at }
    }

    pub(super) fn place(&self) -> Place {
        self.at
    }

    /// The content that was read since `start`.
    pub(super) fn since(&self, start: Place) -> &'a [u8] {
        &self.content[start.offset..self.at.offset.min(self.content.len())]
    }

    /// The next line, without its `\n`.
    pub(super) fn next_raw(&mut self) -> Option<&'a [u8]> {
        let rest = self
            .content
            .get(self.at.offset..)
            .filter(|rest| !rest.is_empty())?;
        let line = first_line(rest);
        self.at.offset += line.len() + 1;
        self.at.line += 1;
        Some(line)
    }

    /// The next line without the carriage returns at its end, as Mercurial reads all lines but those of hunks.
    pub(super) fn next(&mut self) -> Option<&'a [u8]> {
        self.next_raw().map(without_cr)
    }

    pub(super) fn peek(&self) -> Option<&'a [u8]> {
        Lines { ..*self }.next()
    }

    /// Whether the next line begins with `prefix`. Unlike [`Self::peek`], this does not search for its end.
    pub(super) fn next_starts_with(&self, prefix: &[u8]) -> bool {
        self.content
            .get(self.at.offset..)
            .is_some_and(|rest| rest.starts_with(prefix))
    }

    /// The whole content, from its beginning to its end.
    pub(super) fn content(&self) -> &'a [u8] {
        self.content
    }

    /// Whether the content ended before the line break of the last line that was read.
    pub(super) fn lacks_end(&self) -> bool {
        self.at.offset > self.content.len()
    }

    /// A refusal that names the line before a place.
    pub(super) fn refuse_at(&self, place: Place, reason: impl Into<String>) -> RejectReason {
        Lines::from(self.content, place).refuse(reason)
    }

    pub(super) fn refuse(&self, reason: impl Into<String>) -> RejectReason {
        RejectReason {
            path: None,
            line: self.at.line,
            reason: reason.into(),
            advice: "",
        }
    }
}

fn first_line(rest: &[u8]) -> &[u8] {
    rest.split(|&byte| byte == b'\n').next().unwrap_or_default()
}

fn without_cr(mut line: &[u8]) -> &[u8] {
    while let Some(shorter) = line.strip_suffix(b"\r") {
        line = shorter;
    }
    line
}
