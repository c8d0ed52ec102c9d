//! What a campaign prints while it runs.

use std::io::{self, Write};

/// To three digits.
pub fn thousandths(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// A line on the way. Nobody may be listening.
pub fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "chaos: {line}");
}
