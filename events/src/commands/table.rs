//! Tables on a terminal.

use std::time::Duration;

use runtime::sanitize::one_line;

/// The maximum length of a cell. A reason may contain a whole error page.
const MAX_CHARS: usize = 100;
/// A bound above the bytes of the longest cell.
const MAX_BYTES: usize = 4 * (MAX_CHARS + 1);

/// Rows of cells under headings. A column whose heading ends with a blank is aligned to the right: it holds numbers.
pub(super) struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &'static [&'static str]) -> Self {
        Self {
            headings,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows
            .push(cells.iter().map(|cell| sanitize(cell)).collect());
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let headings: Vec<String> = self
            .headings
            .iter()
            .map(|heading| heading.trim_end().to_owned())
            .collect();
        let all = || std::iter::once(&headings).chain(&self.rows);
        let width = |column: usize| {
            all()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|column| width(column).unwrap_or(0))
            .collect();
        let line = |row: &Vec<String>| {
            let cells =
                row.iter()
                    .zip(self.headings)
                    .zip(&widths)
                    .map(|((cell, heading), width)| {
                        if heading.ends_with(' ') {
                            format!("{cell:>width$}")
                        } else {
                            format!("{cell:<width$}")
                        }
                    });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        all().map(line).collect()
    }
}

/// A cell as one line of limited length, without control sequences: its text may come from outside.
fn sanitize(cell: &str) -> String {
    let cell = one_line(cell, MAX_BYTES);
    let mut cut: String = cell.chars().take(MAX_CHARS).collect();
    if cell.chars().nth(MAX_CHARS).is_some() {
        cut.pop();
        cut.push('…');
    }
    cut
}

/// A time span, rounded to one unit: "3.2 s", "5 min", "2 h", "4 d".
pub(super) fn span(span: Duration) -> String {
    match span.as_secs() {
        0..10 => format!("{:.1} s", span.as_secs_f64()),
        seconds @ 10..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_their_widest_cell_and_numbers_align_right() {
        let mut table = Table::new(&["QUEUE", "READY ", "WHY"]);
        table.row(vec![
            "mercurial".to_owned(),
            "7".to_owned(),
            "Zoë".to_owned(),
        ]);
        table.row(vec!["b".to_owned(), "123456".to_owned(), String::new()]);
        assert_eq!(
            table.lines(),
            [
                "QUEUE       READY  WHY",
                "mercurial       7  Zoë",
                "b          123456"
            ]
        );
    }

    #[test]
    fn cell_is_one_line_of_limited_length_without_control_sequences() {
        assert_eq!(sanitize("a\nb\x1b[2J\u{9b}c\u{202e}"), "a b[2Jc");
        let long = sanitize(&"ü".repeat(500));
        assert_eq!(
            (long.chars().count(), long.ends_with("ü…")),
            (MAX_CHARS, true)
        );
        assert_eq!(sanitize(&"x".repeat(MAX_CHARS)), "x".repeat(MAX_CHARS));
    }

    #[test]
    fn spans_are_shown_in_their_largest_unit() {
        for (seconds, expected) in [
            (0.04, "0.0 s"),
            (9.96, "10.0 s"),
            (59.0, "59 s"),
            (150.0, "2 min"),
            (7200.0, "2 h"),
            (200_000.0, "2 d"),
        ] {
            assert_eq!(span(Duration::from_secs_f64(seconds)), expected);
        }
    }
}
