//! The search for the place of a hunk.

use memchr::memmem::{Finder, FinderRev};
use worker::patch::Hunk;

use super::{
    super::time::{Over, Time},
    Shape,
    image::{Image, Kept, Piece, Place, breaks},
    old_lines,
};

/// The first step of a search to each side, in bytes. Each further step is twice as long. The tests have small files.
const STEP: usize = if cfg!(test) { 4 } else { 16 << 10 };

/// The place of a hunk. `None` if it matches nowhere. `buffer` is reused from hunk to hunk.
pub(super) fn find(
    image: &Image<'_, '_>,
    hunk: &Hunk<'_>,
    shape: &Shape,
    buffer: &mut Vec<u8>,
    time: &Time,
) -> Result<Option<Place>, Over> {
    let at_beginning = hunk.old.start <= 1;
    let at_end = !shape.trailing_context;
    if at_beginning || at_end {
        return Ok(find_fixed(image, hunk, shape, at_beginning, at_end));
    }
    let target = usize::try_from(hunk.new.start.saturating_sub(1)).unwrap_or(usize::MAX);
    let start = Start::of(image, target.min(image.lines));
    if let Some((piece, kept, byte)) = start.inside
        && let Some((_, end)) = matches(image.old, kept, byte, hunk, shape)
    {
        return Ok(Some(Place::In {
            piece,
            before: start.line - start.first_line,
            start: byte,
            end,
        }));
    }
    buffer.clear();
    buffer.push(b'\n');
    old_lines(hunk).for_each(|line| buffer.extend_from_slice(line));
    Search {
        image,
        hunk,
        shape,
        needle: buffer,
        time,
    }
    .nearest(&start)
}

/// The place of a hunk that has to be at the beginning or at the end.
fn find_fixed(
    image: &Image<'_, '_>,
    hunk: &Hunk<'_>,
    shape: &Shape,
    at_beginning: bool,
    at_end: bool,
) -> Option<Place> {
    let lines = shape.old_lines;
    if lines > image.lines || (at_beginning && at_end && lines != image.lines) {
        return None;
    }
    if lines == 0 {
        // Without old lines there is no context, so the hunk is for the end.
        return Some(Place::End);
    }
    let piece = if at_beginning {
        0
    } else {
        image.pieces.len() - 1
    };
    let Some(Piece::Kept(kept)) = image.pieces.get(piece) else {
        return None;
    };
    let before = if at_beginning {
        0
    } else {
        kept.lines.checked_sub(lines)?
    };
    let start = match before {
        0 => kept.start,
        _ => last_lines(&image.old[kept.start..kept.end], lines) + kept.start,
    };
    let (text_end, end) = matches(image.old, kept, start, hunk, shape)?;
    (!at_end || text_end == kept.end).then_some(Place::In {
        piece,
        before,
        start,
        end,
    })
}

/// The place of the last lines of a text that has more.
fn last_lines(text: &[u8], lines: usize) -> usize {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    memchr::memrchr_iter(b'\n', body)
        .nth(lines - 1)
        .map_or(0, |line_break| line_break + 1)
}

/// Whether the old lines of a hunk are at a line of a piece. Returns the end of their text, and the end of the last line.
/// The two differ where white space follows a last line without a line break.
fn matches(
    old: &[u8],
    piece: &Kept,
    start: usize,
    hunk: &Hunk<'_>,
    shape: &Shape,
) -> Option<(usize, usize)> {
    let mut rest = &old[start..piece.end];
    for line in old_lines(hunk) {
        rest = rest.strip_prefix(line)?;
    }
    let end = piece.end - rest.len();
    if !shape.cut {
        return Some((end, end));
    }
    let behind = rest
        .split_inclusive(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    behind
        .iter()
        .all(is_space)
        .then_some((end, end + behind.len()))
}

/// The line where a search starts.
struct Start<'i> {
    line: usize,
    /// The index of its piece; the number of pieces behind the last line.
    piece: usize,
    /// The number of lines before that piece.
    first_line: usize,
    /// Its piece and its first byte, if no hunk made the line.
    inside: Option<(usize, &'i Kept, usize)>,
}

impl<'i> Start<'i> {
    fn of(image: &'i Image<'_, '_>, line: usize) -> Self {
        let (mut piece, mut first_line) = (image.pieces.len(), image.lines);
        // Most hunks follow the one before.
        while first_line > line {
            piece -= 1;
            first_line -= image.pieces[piece].lines();
        }
        let inside = match image.pieces.get(piece) {
            Some(Piece::Kept(kept)) => {
                let text = &image.old[kept.start..kept.end];
                let start = match line - first_line {
                    0 => 0,
                    lines => memchr::memchr_iter(b'\n', text)
                        .nth(lines - 1)
                        .map_or(text.len(), |line_break| line_break + 1),
                };
                Some((piece, kept, kept.start + start))
            }
            _ => None,
        };
        Self {
            line,
            piece,
            first_line,
            inside,
        }
    }
}

/// A place that was found.
struct Found {
    line: usize,
    place: Place,
}

/// The search for the nearest place.
struct Search<'s, 'o, 'h> {
    image: &'s Image<'o, 'h>,
    hunk: &'s Hunk<'h>,
    shape: &'s Shape,
    /// A line break and the old lines: the bytes before and at a place, except at the first line of the file.
    needle: &'s [u8],
    time: &'s Time,
}

/// One side of a search.
struct Side {
    /// The index of the piece. Behind the target, the number of pieces that are left.
    piece: usize,
    /// The number of lines before that piece.
    first_line: usize,
    /// The lines from the target up to this one, or from this one up to the target, do not match. Ahead, the line is
    /// searched next; behind, the one before it.
    line: usize,
    /// The byte where that line, or the next one, begins. `None` where the piece has not been entered.
    byte: Option<usize>,
    found: Option<Found>,
    done: bool,
}

impl Search<'_, '_, '_> {
    fn nearest(&self, start: &Start<'_>) -> Result<Option<Place>, Over> {
        let target = start.line;
        let byte = start.inside.map(|(_, _, byte)| byte);
        let side = |piece, first_line| Side {
            piece,
            first_line,
            line: byte.map_or(first_line, |_| target),
            byte,
            found: None,
            done: false,
        };
        let (piece, first_line) = (start.piece, start.first_line);
        let (mut ahead, mut behind) = match byte {
            Some(_) => (side(piece, first_line), side(piece + 1, first_line)),
            None => {
                let made = self.image.pieces.get(piece).map_or(0, Piece::lines);
                (side(piece + 1, first_line + made), side(piece, first_line))
            }
        };
        let (ahead_finder, behind_finder) = (Finder::new(self.needle), FinderRev::new(self.needle));
        let mut step = STEP;
        loop {
            self.time.check()?;
            let look_ahead = !ahead.done
                && behind
                    .found
                    .as_ref()
                    .is_none_or(|found| ahead.line - target <= target - found.line);
            let look_behind = !behind.done
                && ahead
                    .found
                    .as_ref()
                    .is_none_or(|found| target - behind.line + 1 < found.line - target);
            if look_ahead {
                self.step_ahead(&mut ahead, &ahead_finder, step)?;
            }
            if look_behind {
                self.step_behind(&mut behind, &behind_finder, step)?;
            }
            if !look_ahead && !look_behind {
                break;
            }
            step = step.saturating_mul(2);
        }
        Ok(match (ahead.found, behind.found) {
            (Some(ahead), Some(behind)) if target - behind.line < ahead.line - target => {
                Some(behind.place)
            }
            (Some(found), _) | (None, Some(found)) => Some(found.place),
            (None, None) => None,
        })
    }

    /// The place in a piece, if the hunk matches there. `line` is the number of the line in the file.
    fn found(&self, piece: usize, first_line: usize, line: usize, start: usize) -> Option<Found> {
        let Piece::Kept(kept) = self.image.pieces.get(piece)? else {
            return None;
        };
        let (_, end) = matches(self.image.old, kept, start, self.hunk, self.shape)?;
        let place = Place::In {
            piece,
            before: line - first_line,
            start,
            end,
        };
        Some(Found { line, place })
    }

    fn fits(&self, piece: &Piece<'_>) -> Option<Kept> {
        match piece {
            Piece::Kept(kept) if kept.lines >= self.shape.old_lines => Some(*kept),
            _ => None,
        }
    }

    /// Searches the next `step` bytes behind the target, towards the end of the file.
    fn step_ahead(&self, side: &mut Side, finder: &Finder<'_>, step: usize) -> Result<(), Over> {
        let old = self.image.old;
        let kept = loop {
            self.time.tick()?;
            let Some(piece) = self.image.pieces.get(side.piece) else {
                side.done = true;
                return Ok(());
            };
            if let Some(kept) = self.fits(piece) {
                break kept;
            }
            side.leave_ahead(piece);
        };
        let mut byte = side.byte.unwrap_or(kept.start);
        if byte == 0 {
            side.found = self.found(side.piece, side.first_line, side.line, 0);
            if side.found.is_some() {
                side.done = true;
                return Ok(());
            }
            byte = 1;
            side.line += 1;
        }
        // The line break before the line.
        let mut from = byte - 1;
        let to = from
            .saturating_add(step)
            .saturating_add(self.needle.len())
            .min(kept.end);
        while let Some(at) = finder.find(&old[from.min(to)..to]) {
            self.time.tick()?;
            let start = from + at + 1;
            side.line += breaks(&old[from..start - 1]);
            side.found = self.found(side.piece, side.first_line, side.line, start);
            if side.found.is_some() {
                side.done = true;
                return Ok(());
            }
            side.line += 1;
            from = start;
        }
        if to == kept.end {
            side.leave_ahead(&Piece::Kept(kept));
        } else {
            let next = to - self.needle.len() + 1;
            side.line += breaks(&old[from..next.max(from)]);
            side.byte = Some(next.max(from) + 1);
        }
        Ok(())
    }

    /// Searches the next `step` bytes before the target, towards the beginning of the file.
    fn step_behind(
        &self,
        side: &mut Side,
        finder: &FinderRev<'_>,
        step: usize,
    ) -> Result<(), Over> {
        let old = self.image.old;
        let (piece, kept) = loop {
            self.time.tick()?;
            let Some(index) = side.piece.checked_sub(1) else {
                side.done = true;
                return Ok(());
            };
            let piece = &self.image.pieces[index];
            if side.byte.is_none() {
                side.first_line -= piece.lines();
            }
            if let Some(kept) = self.fits(piece) {
                break (index, kept);
            }
            side.leave_behind();
        };
        let mut byte = side.byte.unwrap_or(kept.end);
        let lowest = kept.start.max(1);
        let low = byte.saturating_sub(step).max(lowest);
        while low < byte {
            self.time.tick()?;
            let to = (byte - 2).saturating_add(self.needle.len()).min(kept.end);
            let Some(at) = finder.rfind(&old[low - 1..to]) else {
                side.line -= breaks(&old[low - 1..byte - 1]);
                byte = low;
                break;
            };
            let start = low + at;
            side.line -= breaks(&old[start - 1..byte - 1]);
            side.found = self.found(piece, side.first_line, side.line, start);
            if side.found.is_some() {
                side.done = true;
                return Ok(());
            }
            byte = start;
        }
        side.byte = Some(byte);
        if byte <= lowest {
            if kept.start == 0 && byte > 0 {
                side.line -= 1;
                side.found = self.found(piece, side.first_line, side.line, 0);
                side.done = side.found.is_some();
            }
            side.leave_behind();
        }
        Ok(())
    }
}

impl Side {
    /// Goes on to the next piece.
    fn leave_ahead(&mut self, piece: &Piece<'_>) {
        self.piece += 1;
        self.first_line += piece.lines();
        self.line = self.first_line;
        self.byte = None;
    }

    /// Goes on to the piece before.
    fn leave_behind(&mut self) {
        self.piece -= 1;
        self.line = self.first_line;
        self.byte = None;
    }
}
