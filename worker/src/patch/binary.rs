//! Git's binary patches: zlib in base 85, a line at a time.
//!
//! Mercurial unpacks data of any size, and crashes on data that are not zlib. So the worker unpacks the data first, and
//! discards the result.

use std::io::{self, BufRead, Read, Write};

use flate2::{Compression, bufread::ZlibDecoder, write::ZlibEncoder};

use super::{
    Budget, FileChange, Lines, NewSize, Place, RejectReason, Rules, number, refusal::UPLOAD,
};

const ALPHABET: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// The value of each byte as a digit of base 85, or [`NO_DIGIT`] for other bytes.
const DIGITS: [u8; 256] = digits();
const NO_DIGIT: u8 = 85;

/// The most bytes of data on one line.
const LINE: usize = 52;

/// The binary data that make a file, unpacked.
#[derive(Debug, PartialEq, Eq)]
pub enum BinaryData {
    /// The whole file.
    Literal(Vec<u8>),
    /// A delta in Git's form, from the file before the change. Only its header has been checked.
    Delta(Vec<u8>),
}

/// The binary data of a file after the change. `content` is the patch that `file` was read from. `None` when the file
/// has no binary data.
pub fn binary_data(content: &[u8], file: &FileChange) -> Option<BinaryData> {
    let mut lines = Lines::from(content, file.binary?);
    let head = lines.next()?;
    let is_delta = head.starts_with(b"delta ");
    let size = head
        .strip_prefix(b"literal ")
        .or_else(|| head.strip_prefix(b"delta "))?;
    let (size, _) = number(size)?;
    let mut unpacked = Vec::with_capacity(usize::try_from(size).ok()?);
    let data = Data {
        lines: &mut lines,
        chunk: Vec::new(),
        position: 0,
    };
    ZlibDecoder::new(data)
        .take(size.into())
        .read_to_end(&mut unpacked)
        .ok()?;
    Some(match is_delta {
        false => BinaryData::Literal(unpacked),
        true => BinaryData::Delta(unpacked),
    })
}

/// Reads `GIT binary patch` and its data for the file `path`; returns the place of the data.
pub(super) fn scan(
    lines: &mut Lines<'_>,
    path: &[u8],
    deleted: bool,
    rules: Rules,
    budget: &mut Budget,
) -> Result<(Place, NewSize), RejectReason> {
    lines.next();
    let start = lines.place();
    let new = side(lines, path, rules, budget)?;
    if let Side::Delta { size, from, to } = new {
        // The file that it makes is in memory beside the one that it is made from.
        budget.spend_binary(path, to.saturating_sub(size).saturating_add(from))?;
    }
    let is_data = |line: &[u8]| line.starts_with(b"literal ") || line.starts_with(b"delta ");
    let mut old = Side::Literal(0);
    if lines.peek().is_some_and(is_data) {
        old = side(lines, path, rules, budget)?;
    }
    // Phabricator writes this when it has lost the file's content, or never had it.
    if [&new, &old] == [&Side::Literal(0); 2] && !deleted {
        let reason = "the content of a binary file is missing: both sides of its patch are empty";
        return Err(lines.refuse(reason).advise(UPLOAD));
    }
    let (Side::Literal(size) | Side::Delta { to: size, .. }) = new;
    Ok((start, NewSize::Whole { size }))
}

/// One side of a binary patch, with sizes in bytes.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    /// A whole file of this size.
    Literal(u64),
    /// A delta.
    Delta {
        /// The size of the delta itself.
        size: u64,
        /// The size of the file that it is made from.
        from: u64,
        /// The size of the file that it makes.
        to: u64,
    },
}

/// Reads one side of a binary patch and the blank line after it.
fn side(
    lines: &mut Lines<'_>,
    path: &[u8],
    rules: Rules,
    budget: &mut Budget,
) -> Result<Side, RejectReason> {
    let head = lines.next().unwrap_or_default();
    let literal = head.strip_prefix(b"literal ").map(|size| (size, false));
    let delta = || head.strip_prefix(b"delta ").map(|size| (size, true));
    let found = match rules {
        Rules::Mercurial => literal,
        Rules::Git { .. } => literal.or_else(delta),
    };
    let found = found.and_then(|(size, is_delta)| Some((number(size)?, is_delta)));
    let Some(((size, b""), is_delta)) = found else {
        return Err(lines.refuse(match rules {
            Rules::Mercurial => "a binary patch does not hold the whole file (`literal <size>`)",
            Rules::Git { .. } => {
                "a binary patch holds neither a file nor a delta (`literal <size>`, `delta <size>`)"
            }
        }));
    };
    let size = u64::from(size);
    budget.spend_binary(path, size)?;
    Ok(if is_delta {
        let (from, to) = unpack(lines, size, |unpacked| {
            Ok((delta_number(unpacked)?, delta_number(unpacked)?))
        })?;
        Side::Delta { size, from, to }
    } else {
        unpack(lines, size, |_| Ok(()))?;
        Side::Literal(size)
    })
}

/// Unpacks data that must have `size` bytes, and discards them; `begin` reads the first ones.
fn unpack<T>(
    lines: &mut Lines<'_>,
    size: u64,
    begin: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> Result<T, RejectReason> {
    let mut data = Data {
        lines,
        chunk: Vec::new(),
        position: 0,
    };
    let mut unpacker = ZlibDecoder::new(&mut data).take(size.saturating_add(1));
    let unpacked = begin(&mut unpacker).and_then(|begun| {
        io::copy(&mut unpacker, &mut io::sink())?;
        Ok((begun, size.saturating_add(1) - unpacker.limit()))
    });
    let at_end = data.fill_buf().is_ok_and(<[u8]>::is_empty);
    // The blank line after the data.
    lines.next();
    match unpacked {
        Ok((begun, unpacked)) if at_end && unpacked == size => Ok(begun),
        Ok(_) => Err(lines.refuse("a binary patch holds more or less than it says")),
        Err(_) => Err(lines.refuse("a binary patch cannot be unpacked")),
    }
}

/// Reads a number of a delta's header: seven bits a byte, the lowest first.
fn delta_number(unpacked: &mut dyn Read) -> io::Result<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let mut byte = [0];
        unpacked.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// The bytes of one side of a binary patch.
struct Data<'l, 'a> {
    lines: &'l mut Lines<'a>,
    chunk: Vec<u8>,
    position: usize,
}

impl BufRead for Data<'_, '_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.chunk.len() {
            self.position = 0;
            self.chunk.clear();
            if let Some(line) = self.lines.peek().filter(|line| !line.is_empty()) {
                self.chunk = decode_line(line).ok_or(io::ErrorKind::InvalidData)?;
                self.lines.next();
            }
        }
        Ok(&self.chunk[self.position..])
    }

    fn consume(&mut self, amount: usize) {
        self.position += amount;
    }
}

impl Read for Data<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

/// Decodes a line: a letter for the number of bytes, then five digits for each four bytes.
fn decode_line(line: &[u8]) -> Option<Vec<u8>> {
    let (&letter, digits) = line.split_first()?;
    let length = match letter {
        b'A'..=b'Z' => letter - b'A' + 1,
        b'a'..=b'z' => letter - b'a' + 27,
        _ => return None,
    };
    let length = usize::from(length);
    if digits.len() != length.div_ceil(4) * 5 {
        return None;
    }
    let mut bytes = Vec::with_capacity(LINE);
    for group in digits.chunks(5) {
        let mut value: u32 = 0;
        for digit in group {
            let digit = DIGITS[usize::from(*digit)];
            if digit == NO_DIGIT {
                return None;
            }
            value = value.checked_mul(85)?.checked_add(digit.into())?;
        }
        bytes.extend(value.to_be_bytes());
    }
    bytes.truncate(length);
    Some(bytes)
}

const fn digits() -> [u8; 256] {
    let mut digits = [NO_DIGIT; 256];
    let mut digit = 0;
    while digit < NO_DIGIT {
        digits[ALPHABET[digit as usize] as usize] = digit;
        digit += 1;
    }
    digits
}

/// The data of a binary patch that gives a file this `content`, whatever it was.
pub fn encode(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content)?;
    let packed = encoder.finish()?;
    let mut patch = format!("GIT binary patch\nliteral {}\n", content.len()).into_bytes();
    for line in packed.chunks(LINE) {
        let length = u8::try_from(line.len()).unwrap_or_default();
        patch.push(if length <= 26 {
            b'A' + length - 1
        } else {
            b'a' + length - 27
        });
        for group in line.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..group.len()].copy_from_slice(group);
            let mut value = u32::from_be_bytes(bytes);
            let mut digits = [0; 5];
            for digit in digits.iter_mut().rev() {
                *digit = ALPHABET[usize::try_from(value % 85).unwrap_or_default()];
                value /= 85;
            }
            patch.extend(digits);
        }
        patch.push(b'\n');
    }
    patch.push(b'\n');
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Limits;

    fn read(patch: &[u8], budget: usize) -> Result<(), String> {
        let mut lines = Lines::new(patch);
        let mut budget = Budget::new(&Limits {
            stack_bytes: u64::try_from(budget).expect("small"),
            ..Limits::default()
        });
        scan(&mut lines, b"file", false, Rules::Mercurial, &mut budget)
            .map(|_| ())
            .map_err(|refusal| refusal.reason)
    }

    proptest! {
        #[test]
        fn encoded_data_can_be_read(content in proptest::collection::vec(any::<u8>(), 1..600)) {
            let patch = encode(&content).expect("encoded");
            prop_assert_eq!(read(&patch, 600), Ok(()));
            prop_assert!(read(&patch, content.len() - 1).is_err(), "the budget holds");
        }

        #[test]
        fn decoding_a_line_never_panics(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_line(&line);
        }
    }

    #[test]
    fn malformed_binary_patches_are_refused() {
        let bomb = String::from_utf8(encode(&vec![0; 1 << 20]).expect("encoded")).expect("ascii");
        let table = [
            (
                "a small size for much data",
                bomb.replace("literal 1048576", "literal 10"),
            ),
            (
                "a large size for less data",
                bomb.replace("literal 1048576", "literal 1048577"),
            ),
            (
                "no zlib",
                "GIT binary patch\nliteral 4\nD00000\n\n".to_owned(),
            ),
            (
                "no base 85",
                "GIT binary patch\nliteral 4\nD0,000\n\n".to_owned(),
            ),
            (
                "a digit too few",
                "GIT binary patch\nliteral 4\nD0000\n\n".to_owned(),
            ),
            (
                "a group over 32 bits",
                "GIT binary patch\nliteral 4\nD~~~~~\n\n".to_owned(),
            ),
            (
                "bytes behind the stream",
                bomb.replacen("\n\n", "\nD00000\n\n", 1),
            ),
            ("a delta", bomb.replace("literal", "delta")),
            ("no data", "GIT binary patch\nliteral 4\n\n".to_owned()),
            ("nothing", "GIT binary patch\n".to_owned()),
            (
                "a size that is no number",
                bomb.replace("literal 1048576", "literal 99999999999999999999"),
            ),
            (
                "both sides empty",
                "GIT binary patch\nliteral 0\nHc$@<O00001\n\nliteral 0\nHc$@<O00001\n\n".to_owned(),
            ),
            (
                "one side, empty",
                "GIT binary patch\nliteral 0\nHc$@<O00001\n\n".to_owned(),
            ),
        ];
        assert_eq!(read(bomb.as_bytes(), 1 << 20), Ok(()));
        for (case, patch) in table {
            assert!(read(patch.as_bytes(), 2 << 20).is_err(), "{case}");
        }
    }
}
