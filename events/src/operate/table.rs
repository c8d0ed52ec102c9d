//! Tables on a terminal.

use std::time::Duration;

use runtime::sanitize::one_line;

/// The longest cell. A reason may hold a whole error page.
const WIDEST: usize = 100;
/// More than the longest cell needs.
const MOST_BYTES: usize = 4 * (WIDEST + 1);

/// Rows of cells below their headings, in columns. A heading that ends with a blank stands over numbers, which are
/// aligned to the right.
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
            .push(cells.iter().map(|cell| tame(cell)).collect());
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

/// A cell in one line, of a bearable length, and without what a terminal would obey: it may come from outside.
fn tame(cell: &str) -> String {
    let cell = one_line(cell, MOST_BYTES);
    let mut tame: String = cell.chars().take(WIDEST).collect();
    if cell.chars().nth(WIDEST).is_some() {
        tame.pop();
        tame.push('…');
    }
    tame
}

/// A time span as an operator says it: "3.2 s", "5 min", "2 h", "4 d".
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
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_end_together() {
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
    fn a_cell_cannot_speak_to_the_terminal_nor_fill_it() {
        assert_eq!(tame("a\nb\x1b[2J\u{9b}c\u{202e}"), "a b[2Jc");
        let long = tame(&"ü".repeat(500));
        assert_eq!((long.chars().count(), long.ends_with("ü…")), (WIDEST, true));
        assert_eq!(tame(&"x".repeat(WIDEST)), "x".repeat(WIDEST));
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
