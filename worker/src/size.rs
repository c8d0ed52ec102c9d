//! Sizes on the disk, as people write and read them.

use std::{fmt, str::FromStr};

use bytesize::ByteSize;

/// A number of bytes, shown in powers of 1000, as in `12.3 GB`. It is parsed from a number and a unit (`200GB`, `500 MiB`,
/// in any case). A number alone is ambiguous, and refused. So is a unit without its B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = ByteSize(self.0).display().si().to_string();
        // A limit is a round number: `256 MB`.
        f.write_str(&shown.replace(".0 ", " "))
    }
}

impl FromStr for Size {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        if !text.ends_with(['B', 'b']) {
            return Err(());
        }
        match text.parse() {
            // Too large a size is parsed as the largest one.
            Ok(ByteSize(u64::MAX)) | Err(_) => Err(()),
            Ok(ByteSize(bytes)) => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit_only() {
        for (text, bytes) in [
            ("200GB", Some(200_000_000_000)),
            ("200 gb", Some(200_000_000_000)),
            ("500 MiB", Some(500 << 20)),
            (" 2 tib ", Some(2 << 40)),
            ("17B", Some(17)),
            ("1kb", Some(1000)),
            ("1.5GB", Some(1_500_000_000)),
            ("2PiB", Some(2 << 50)),
            ("9007199254740993B", Some(9_007_199_254_740_993)),
            ("200", None),
            ("200G", None),
            ("GB", None),
            ("", None),
            ("-1GB", None),
            ("1 000 B", None),
            ("200 apples", None),
            ("200 verb", None),
            ("99999999999TB", None),
            ("99999999999999999999999B", None),
        ] {
            assert_eq!(text.parse().ok(), bytes.map(Size), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (12_345_678, "12.3 MB"),
            (256_000_000, "256 MB"),
            (99_960_000_000, "100 GB"),
            (345_600_000_000, "345.6 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }
}
