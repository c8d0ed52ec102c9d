//! Applies the hunks of a text file to its bytes, as `git apply` does.
//!
//! * Lines are compared byte for byte: no fuzz, no repair of white space.
//! * A hunk that names line 0 or 1 has to match at the beginning of the file. One without context behind its last
//!   change has to match at the end.
//! * Any other hunk is searched for, from the line that it names for the new file. The nearest place wins; of two
//!   places that are equally near, the later one. The offset of a hunk does not move the hunks after it.
//! * Lines that a hunk made or compared do not match again. Otherwise a hunk may match before an earlier one.
//! * The text of a last line without a line break is also found where only white space and a line break follow it.
//!   What the hunk makes of the line replaces those, too.
//!
//! The file is not indexed: a table of its lines can take more memory than the file. Lines are counted where a search
//! passes them, and a search finds its bytes with the two-way algorithm, in time linear in the file. What hunks did to
//! the file is kept as a list of pieces, from which the result is read once.

mod image;
mod search;

use worker::patch::{Hunk, HunkLine};

use super::time::{Over, Time};
pub(super) use image::Image;

/// The failure to apply hunks.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TextFault {
    /// These hunks match nowhere, by their numbers from 1.
    Misfits(Vec<usize>),
    /// The time is over.
    Over,
}

impl From<Over> for TextFault {
    fn from(Over: Over) -> Self {
        Self::Over
    }
}

/// The file that `hunks` make of one with the content `old`. Each hunk that matches nowhere is reported; those after it
/// are searched for as if it were not there.
pub(super) fn apply<'o, 'h>(
    old: &'o [u8],
    hunks: impl Iterator<Item = Hunk<'h>>,
    time: &Time,
) -> Result<Image<'o, 'h>, TextFault> {
    let mut image = Image::new(old);
    let mut misfits = Vec::new();
    let mut buffer = Vec::new();
    for (index, hunk) in hunks.enumerate() {
        time.tick()?;
        let shape = Shape::of(&hunk);
        let place = match shape.is_sound() {
            true => search::find(&image, &hunk, &shape, &mut buffer, time)?,
            false => None,
        };
        match place {
            Some(place) => image.replace(&place, hunk, &shape),
            None => misfits.push(index + 1),
        }
    }
    if misfits.is_empty() {
        Ok(image)
    } else {
        Err(TextFault::Misfits(misfits))
    }
}

/// What the lines of a hunk are like.
#[derive(Debug, Default)]
struct Shape {
    /// The number of lines before the change.
    old_lines: usize,
    /// The number of lines after the change.
    new_lines: usize,
    /// Whether the last line is context.
    trailing_context: bool,
    /// Whether the last line before the change has no line break.
    cut: bool,
    /// Whether a line follows one without a line break, which no file has.
    broken: bool,
    /// Whether a line is added or removed.
    changes: bool,
}

impl Shape {
    fn of(hunk: &Hunk<'_>) -> Self {
        let mut shape = Self::default();
        let mut new_cut = false;
        for line in hunk.lines() {
            let (text, is_old, is_new) = match line {
                HunkLine::Context(text) => (text, true, true),
                HunkLine::Removed(text) => (text, true, false),
                HunkLine::Added(text) => (text, false, true),
            };
            let cut = !text.ends_with(b"\n");
            if is_old {
                shape.old_lines += 1;
                shape.broken |= shape.cut || text.is_empty();
                shape.cut = cut;
            }
            if is_new {
                shape.new_lines += 1;
                shape.broken |= new_cut || text.is_empty();
                new_cut = cut;
            }
            shape.trailing_context = is_old && is_new;
            shape.changes |= is_old != is_new;
        }
        shape
    }

    fn is_sound(&self) -> bool {
        !self.broken && self.changes
    }
}

/// The lines that the file has to have, one after another.
fn old_lines<'a>(hunk: &Hunk<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    hunk.lines().filter_map(|line| match line {
        HunkLine::Context(text) | HunkLine::Removed(text) => Some(text),
        HunkLine::Added(_) => None,
    })
}

/// The lines that the file gets instead.
fn new_lines<'a>(hunk: &Hunk<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    hunk.lines().filter_map(|line| match line {
        HunkLine::Context(text) | HunkLine::Added(text) => Some(text),
        HunkLine::Removed(_) => None,
    })
}

#[cfg(test)]
mod tests;
