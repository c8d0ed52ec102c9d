//! Words and phrases that are not written: private ones, where the field has a word.

use std::path::Path;

use crate::sources;

/// What is not written, and what is written instead.
const PHRASES: &[(&str, &str)] = &[
    ("becomes of", "the outcome of"),
    ("is told", "receives, is sent, or knows"),
    ("is said", "is logged, is sent, or is called"),
    ("are said", "are logged, are sent, or are called"),
    ("for good", "permanently"),
    ("anew", "again"),
    ("whom", "the recipients, or which"),
    ("trying on", "trying again"),
    ("heard", "received, or seen"),
    ("put off", "deferred"),
    ("condemned", "quarantined"),
    ("for ever", "without end, or until shutdown"),
    ("looked at", "checked, read, or polled"),
    ("looks at", "checks, reads, or polls"),
    ("so many", "the number of, or N"),
];

/// Every place that has one of them.
pub(crate) fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut faults = Vec::new();
    for file in sources::files(root, &[".rs", ".md", ".lua", ".yml", ".toml"])? {
        // It has to name them.
        if file.ends_with(file!()) {
            continue;
        }
        let text = sources::read(&file)?;
        for (number, line) in text.lines().enumerate() {
            let found = in_line(line).into_iter().map(|(phrase, instead)| {
                let file = file.strip_prefix(root).unwrap_or(&file).display();
                format!("{file}:{}: {phrase:?}: write {instead}", number + 1)
            });
            faults.extend(found);
        }
    }
    Ok(faults)
}

/// The phrases in a line, as whole words, in names of code too.
fn in_line(line: &str) -> Vec<(&'static str, &'static str)> {
    let line = line.to_lowercase().replace('_', " ");
    let mut found = Vec::new();
    for (phrase, instead) in PHRASES {
        let whole = line.match_indices(phrase).any(|(at, _)| {
            let is_letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
            !is_letter(line[..at].chars().next_back())
                && !is_letter(line[at + phrase.len()..].chars().next())
        });
        if whole {
            found.push((*phrase, *instead));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_as_whole_words() {
        let found = |line| {
            let found = in_line(line).into_iter().map(|(phrase, _)| phrase);
            found.collect::<Vec<_>>()
        };
        assert_eq!(found("// It is retried anew."), ["anew"]);
        assert_eq!(found("fn who_is_told_first() {"), ["is told"]);
        assert_eq!(found("a paneware of goodness"), [""; 0]);
    }
}
