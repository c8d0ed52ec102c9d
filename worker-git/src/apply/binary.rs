//! Applies the binary data of a patch.
//!
//! `git apply` wants the line `index` with both names of the file's content in full. It compares the first with the file,
//! and the second with the result. There are two deliberate differences:
//!
//! * Phabricator writes whole files (`literal`) without that line, or with short names. Git refuses those, and here the
//!   data replace the file. A `delta` needs the line here, too: on another file it would make garbage.
//! * Where the repository has the second name's object, Git takes that and never reads the data. Here the data have to
//!   make it. Otherwise one patch would apply on one clone and not on another.

use worker::patch::BinaryData;

/// The largest copy that a delta encodes as 0.
const WHOLE_COPY: usize = 0x10000;

/// The failure to apply binary data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BinaryFault {
    /// The file has another content than the patch was made from.
    OtherContent,
    /// The data do not make the content that the patch names.
    Corrupt,
    /// A delta comes without the names of the content before and after it.
    NoIndex,
}

/// The content that binary data make of a file. `old` is its content, or `None` for a new file. `names` are those of
/// the line `index`, if it has both in full. `name` computes the name of a content.
pub(super) fn apply(
    old: Option<&[u8]>,
    data: BinaryData,
    names: Option<&[Vec<u8>; 2]>,
    name: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Result<Vec<u8>, BinaryFault> {
    let Some([before, after]) = names else {
        return match data {
            BinaryData::Literal(new) => Ok(new),
            BinaryData::Delta(_) => Err(BinaryFault::NoIndex),
        };
    };
    let has = |content: &[u8], expected: &[u8]| {
        name(content).is_some_and(|name| name.eq_ignore_ascii_case(expected))
    };
    if old.is_some_and(|old| !has(old, before)) {
        return Err(BinaryFault::OtherContent);
    }
    if after.iter().all(|digit| *digit == b'0') {
        return Ok(Vec::new());
    }
    let new = match data {
        BinaryData::Literal(new) => new,
        BinaryData::Delta(delta) => {
            undelta(old.unwrap_or_default(), &delta).ok_or(BinaryFault::Corrupt)?
        }
    };
    if has(&new, after) {
        Ok(new)
    } else {
        Err(BinaryFault::Corrupt)
    }
}

/// The content that a delta makes of `old`. `None` if it does not fit. It begins with the sizes of both contents; then
/// come copies of ranges of the old one, and new bytes.
fn undelta(old: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let mut delta = delta;
    let old_size = size(&mut delta)?;
    let new_size = size(&mut delta)?;
    if old_size != old.len() {
        return None;
    }
    let mut new = Vec::new();
    // The size is bounded by the budget of the stack, which has counted it.
    new.try_reserve_exact(new_size).ok()?;
    while let Some((&command, rest)) = delta.split_first() {
        delta = rest;
        let part = match command {
            0 => return None,
            1..0x80 => take(&mut delta, command.into())?,
            _ => {
                let offset = number(&mut delta, command, 4)?;
                let count = match number(&mut delta, command >> 4, 3)? {
                    0 => WHOLE_COPY,
                    count => count,
                };
                old.get(offset..offset.checked_add(count)?)?
            }
        };
        if part.len() > new_size - new.len() {
            return None;
        }
        new.extend_from_slice(part);
    }
    (new.len() == new_size).then_some(new)
}

/// A size: seven bits a byte, the lowest first.
fn size(delta: &mut &[u8]) -> Option<usize> {
    let mut size = 0_u64;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = delta.split_first()?;
        *delta = rest;
        size |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return usize::try_from(size).ok();
        }
    }
    None
}

/// A number of up to `count` bytes, the lowest first. Those whose bit in `present` is not set are 0, and left out.
fn number(delta: &mut &[u8], present: u8, count: u32) -> Option<usize> {
    let mut number = 0;
    for byte in (0..count).filter(|byte| present >> byte & 1 == 1) {
        number |= usize::from(*take(delta, 1)?.first()?) << (8 * byte);
    }
    Some(number)
}

fn take<'a>(delta: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = delta.split_at_checked(count)?;
    *delta = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that tells contents apart, in place of a hash.
    fn name(content: &[u8]) -> Option<Vec<u8>> {
        Some(format!("{:040x}", content.len() + 1).into_bytes())
    }

    fn literal(content: &[u8]) -> BinaryData {
        BinaryData::Literal(content.to_vec())
    }

    #[test]
    fn names_of_both_contents_are_checked() {
        let names = |before: usize, after: usize| {
            [before, after].map(|count| format!("{count:040X}").into_bytes())
        };
        let delta = || BinaryData::Delta(b"\x02\x03\x90\x02\x01c".to_vec());
        let table = [
            (
                "a change",
                Some(&b"ab"[..]),
                literal(b"abc"),
                Some(names(3, 4)),
                Ok(&b"abc"[..]),
            ),
            (
                "a delta",
                Some(b"ab"),
                delta(),
                Some(names(3, 4)),
                Ok(b"abc"),
            ),
            (
                "a delta of nothing",
                None,
                delta(),
                Some(names(0, 4)),
                Err(BinaryFault::Corrupt),
            ),
            (
                "a new file",
                None,
                literal(b"abc"),
                Some(names(0, 4)),
                Ok(b"abc"),
            ),
            (
                "a file that goes",
                Some(b"ab"),
                literal(b""),
                Some(names(3, 0)),
                Ok(b""),
            ),
            (
                "another file",
                Some(b"abcd"),
                literal(b"abc"),
                Some(names(3, 4)),
                Err(BinaryFault::OtherContent),
            ),
            (
                "other data",
                Some(b"ab"),
                literal(b"abcd"),
                Some(names(3, 4)),
                Err(BinaryFault::Corrupt),
            ),
            ("no names", Some(b"ab"), literal(b"abc"), None, Ok(b"abc")),
            (
                "a delta without names",
                Some(b"ab"),
                delta(),
                None,
                Err(BinaryFault::NoIndex),
            ),
        ];
        for (case, old, data, names, expected) in table {
            let made = apply(old, data, names.as_ref(), name);
            assert_eq!(made.as_deref().map_err(|fault| *fault), expected, "{case}");
        }
    }

    #[test]
    fn deltas_copy_and_insert_within_their_bounds() {
        let old = b"0123456789";
        type Case<'a> = (&'a str, &'a [u8], Option<&'a [u8]>);
        let table: [Case<'_>; 14] = [
            ("a copy", b"\x0a\x04\x91\x02\x04", Some(b"2345")),
            ("an insert", b"\x0a\x02\x02xy", Some(b"xy")),
            ("both", b"\x0a\x04\x91\x08\x02\x02xy", Some(b"89xy")),
            ("a copy from the start", b"\x0a\x03\x90\x03", Some(b"012")),
            ("nothing", b"\x0a\x00", Some(b"")),
            ("another old size", b"\x09\x03\x90\x03", None),
            ("a copy behind the end", b"\x0a\x04\x91\x08\x04", None),
            ("a copy of 64 KiB", b"\x0a\x80\x80\x04\x80", None),
            (
                "an offset of 32 bits",
                b"\x0a\x01\x9f\xff\xff\xff\xff\x01",
                None,
            ),
            ("more than the new size", b"\x0a\x01\x02xy", None),
            ("less than the new size", b"\x0a\x03\x02xy", None),
            ("a reserved command", b"\x0a\x01\x00", None),
            ("an insert that is cut off", b"\x0a\x05\x05xy", None),
            (
                "a size without an end",
                b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                None,
            ),
        ];
        for (case, delta, expected) in table {
            assert_eq!(undelta(old, delta).as_deref(), expected, "{case}");
        }
        let long = vec![b'x'; WHOLE_COPY];
        assert_eq!(
            undelta(&long, b"\x80\x80\x04\x80\x80\x04\x80"),
            Some(long.clone())
        );
    }

    proptest::proptest! {
        #[test]
        fn no_delta_panics(
            old in proptest::collection::vec(proptest::num::u8::ANY, 0..20),
            mut delta in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
        ) {
            if let Some(first) = delta.first_mut() {
                *first = u8::try_from(old.len()).unwrap_or_default();
            }
            let _ = undelta(&old, &delta);
        }
    }
}
