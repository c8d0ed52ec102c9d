//! A file while hunks are applied to it.

use std::io::{self, Read};

use worker::patch::Hunk;

use super::{Shape, new_lines};

/// The file: its old content in pieces, and the hunks between them.
#[derive(Debug)]
pub(in crate::apply) struct Image<'o, 'h> {
    pub(super) old: &'o [u8],
    /// The pieces, in the order of the file. None is empty.
    pub(super) pieces: Vec<Piece<'h>>,
    /// The number of lines of all pieces.
    pub(super) lines: usize,
}

#[derive(Debug)]
pub(super) enum Piece<'h> {
    /// Lines that no hunk has matched.
    Kept(Kept),
    /// The lines that a hunk made, and their number.
    Made(Hunk<'h>, usize),
}

/// A range of the old content, which begins at a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) lines: usize,
}

impl Piece<'_> {
    pub(super) fn lines(&self) -> usize {
        match self {
            Self::Kept(kept) => kept.lines,
            Self::Made(_, lines) => *lines,
        }
    }
}

/// The place of a hunk.
#[derive(Debug)]
pub(super) enum Place {
    /// Behind the last line, without old lines.
    End,
    /// In a kept piece.
    In {
        /// The index of the piece.
        piece: usize,
        /// The number of the piece's lines before the place.
        before: usize,
        /// The old bytes that the hunk replaces.
        start: usize,
        end: usize,
    },
}

impl<'o, 'h> Image<'o, 'h> {
    pub(super) fn new(old: &'o [u8]) -> Self {
        let lines = count_lines(old);
        let kept = Kept {
            start: 0,
            end: old.len(),
            lines,
        };
        Self {
            old,
            pieces: (lines > 0)
                .then_some(Piece::Kept(kept))
                .into_iter()
                .collect(),
            lines,
        }
    }

    /// Puts a hunk at its place.
    pub(super) fn replace(&mut self, place: &Place, hunk: Hunk<'h>, shape: &Shape) {
        self.lines = self.lines - shape.old_lines + shape.new_lines;
        // A hunk that leaves no lines has no context, so it is at the end: it joins no pieces.
        let made = (shape.new_lines > 0).then_some(Piece::Made(hunk, shape.new_lines));
        let (piece, before, start, end) = match *place {
            Place::End => return self.pieces.extend(made),
            Place::In {
                piece,
                before,
                start,
                end,
            } => (piece, before, start, end),
        };
        let Some(Piece::Kept(kept)) = self.pieces.get(piece) else {
            return;
        };
        let parts = [
            Kept {
                start: kept.start,
                end: start,
                lines: before,
            },
            Kept {
                start: end,
                end: kept.end,
                lines: kept.lines - before - shape.old_lines,
            },
        ];
        let [first, last] = parts.map(|part| (part.lines > 0).then_some(Piece::Kept(part)));
        self.pieces
            .splice(piece..=piece, first.into_iter().chain(made).chain(last));
    }

    /// The whole file, in parts.
    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().flat_map(|piece| {
            let (kept, made) = match piece {
                Piece::Kept(kept) => (Some(&self.old[kept.start..kept.end]), None),
                Piece::Made(hunk, _) => (None, Some(new_lines(hunk))),
            };
            kept.into_iter().chain(made.into_iter().flatten())
        })
    }

    /// The whole file.
    pub(in crate::apply) fn content(&self) -> Vec<u8> {
        let mut content = Vec::with_capacity(self.size());
        self.parts()
            .for_each(|part| content.extend_from_slice(part));
        content
    }

    /// The size of the whole file.
    pub(in crate::apply) fn size(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    /// A reader of the whole file: a second copy of a large one would take as much memory.
    pub(in crate::apply) fn reader(&self) -> impl Read {
        Reader {
            parts: self.parts(),
            rest: &[],
        }
    }
}

struct Reader<'i, I> {
    parts: I,
    /// What is left of the part that is being read.
    rest: &'i [u8],
}

impl<'i, I: Iterator<Item = &'i [u8]>> Read for Reader<'i, I> {
    /// Fills the buffer, unless the end is reached: parts can be short, and the caller compresses each buffer.
    fn read(&mut self, mut buffer: &mut [u8]) -> io::Result<usize> {
        let size = buffer.len();
        while !buffer.is_empty() {
            if self.rest.is_empty() {
                let Some(part) = self.parts.next() else {
                    break;
                };
                self.rest = part;
            }
            let count = self.rest.len().min(buffer.len());
            let (part, rest) = self.rest.split_at(count);
            buffer[..count].copy_from_slice(part);
            (self.rest, buffer) = (rest, &mut buffer[count..]);
        }
        Ok(size - buffer.len())
    }
}

/// The number of lines. The last one needs no line break.
fn count_lines(text: &[u8]) -> usize {
    breaks(text) + usize::from(text.last().is_some_and(|last| *last != b'\n'))
}

/// The number of line breaks.
pub(super) fn breaks(text: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', text).count()
}
