//! Sizes on the disk, as people write and read them.

use std::{fmt, str::FromStr};

/// The units: powers of 1000 and of 1024, each from the largest. Sizes are shown in powers of 1000.
const UNITS: [(&str, u64); 9] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A number of bytes, shown as in `12.3 GB`. It is parsed from a whole number and a unit (`200GB`, `500 MiB`, in any
/// case). A number alone is ambiguous, and refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS[..4]
            .iter()
            .find(|(_, unit)| self.0 >= *unit)
            .unwrap_or(&UNITS[8]);
        let tenths = self.0 / (unit / 10).max(1);
        if *unit == 1 || tenths >= 1000 {
            write!(f, "{} {name}", self.0 / unit)
        } else {
            write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).ok_or(())?;
        let (number, name) = text.split_at(end);
        let (_, unit) = UNITS
            .iter()
            .find(|(unit, _)| unit.eq_ignore_ascii_case(name.trim()))
            .ok_or(())?;
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(*unit))
            .map(Self)
            .ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit_only() {
        for (text, bytes) in [
            ("200GB", Some(200_000_000_000)),
            (" 2 tib ", Some(2 << 40)),
            ("17B", Some(17)),
            ("1kb", Some(1000)),
            ("200", None),
            ("GB", None),
            ("", None),
            ("1.5GB", None),
            ("-1GB", None),
            ("200 apples", None),
            ("99999999999TB", None),
        ] {
            assert_eq!(text.parse().ok(), bytes.map(Size), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345_678, "12.3 MB"),
            (99_960_000_000, "99.9 GB"),
            (345_600_000_000, "345 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }
}
