//! Where and how a patch does not fit the files that it is for, as Mercurial's words tell.

use phabricator::model::Patch;

use crate::{
    outcome,
    patch::{self, Scanned},
    process::CommandOutput,
    text,
};

/// The most places that are named.
const MAX_PLACES: usize = 10;

/// What is wrong with a patch that Mercurial could not apply, a line for each place, and Mercurial's own words. The
/// names in it are hostile.
pub(crate) fn find(patch: &Patch, scanned: &Scanned, output: &CommandOutput) -> String {
    let words = String::from_utf8_lossy(&output.stderr);
    let mut file = "";
    let mut places = Vec::new();
    for line in words.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name;
        } else if let Some((number, _)) = line.strip_prefix("Hunk #").and_then(|rest| rest.split_once(" FAILED at ")) {
            places.push(hunk(patch, scanned, file, number));
        } else if let Some(name) =
            line.strip_prefix("unable to find '").and_then(|rest| rest.strip_suffix("' for patching"))
        {
            places.push(format!("{}: the file does not exist", shown(name)));
        } else if let Some(name) = outcome::without_file(line) {
            places.push(format!("{}: the file does not exist", shown(name)));
        } else if let Some(name) = line.strip_prefix("file ").and_then(|rest| rest.strip_suffix(" already exists")) {
            places.push(format!("{}: the file exists already", shown(name)));
        }
    }
    let more = places.len().saturating_sub(MAX_PLACES);
    places.truncate(MAX_PLACES);
    if more > 0 {
        places.push(format!("and {more} more places"));
    }
    if !places.is_empty() {
        places.push(String::new());
    }
    // Mercurial's hints are for whoever runs it.
    let words: Vec<&str> = words.lines().filter(|line| !line.starts_with("(use ")).collect();
    places.push(format!("Mercurial says:\n{}", text::block(words.join("\n").as_bytes())));
    places.join("\n")
}

/// A hunk that does not fit: its file, its line there and its head.
fn hunk(patch: &Patch, scanned: &Scanned, file: &str, number: &str) -> String {
    let change = scanned.files.iter().find(|change| change.path == file.as_bytes());
    let head = change.and_then(|change| patch::hunk_head(&patch.content, change, number.parse().ok()?));
    let file = shown(file);
    let Some(head) = head else { return format!("{file}: hunk #{number} does not fit") };
    let text = String::from_utf8_lossy(head.text);
    let line: String = text.trim_start_matches("@@ -").chars().take_while(char::is_ascii_digit).collect();
    format!("{file}, line {line}: hunk #{number} does not fit\n  {}", text::cut(&shown(&text), 100))
}

fn shown(name: &str) -> String {
    text::path(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use phabricator::model::{Diff, Phid};

    use super::*;
    use crate::Limits;

    const PATCH: &str = "diff --git a/a b b/a b\n--- a/a b\t\n+++ b/a b\t\n@@ -3,1 +3,1 @@ fn first()\n-x\n+y\n@@ -90,1 +90,1 @@\n-x\n+y\n";

    fn found(stderr: &str) -> Vec<String> {
        let phid = |text| Phid::parse(text).expect("a PHID");
        let patch = Patch {
            revision_id: 7,
            diff: Diff { id: 8, phid: phid("PHID-DIFF-8"), created_at: jiff::Timestamp::UNIX_EPOCH, base: None },
            author: None,
            message: "message".to_owned(),
            content: PATCH.as_bytes().to_vec().into(),
            abandoned: false,
        };
        let scanned = patch::scan(&patch.content, &Limits::default()).expect("a good patch");
        let output = CommandOutput { code: 255, stdout: Vec::new(), stderr: stderr.into() };
        let text = find(&patch, &scanned, &output);
        let (places, words) = text.split_once("Mercurial says:\n").expect("both");
        assert_eq!(words.lines().next(), stderr.lines().next());
        assert!(!words.contains("--prefix"), "{words}");
        places.trim_end().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_place_is_named_by_file_line_and_the_head_of_the_hunk() {
        let table: [(&str, &[&str]); 6] = [
            (
                "patching file a b\nHunk #1 FAILED at 2\nHunk #2 FAILED at 80\nabort: patch failed to apply\n",
                &[
                    "a b, line 3: hunk #1 does not fit",
                    "  @@ -3,1 +3,1 @@ fn first()",
                    "a b, line 90: hunk #2 does not fit",
                    "  @@ -90,1 +90,1 @@",
                ],
            ),
            ("patching file other\nHunk #1 FAILED at 2\n", &["other: hunk #1 does not fit"]),
            ("patching file a b\nHunk #3 FAILED at 2\n", &["a b: hunk #3 does not fit"]),
            (
                "unable to find 'c' for patching\n(use '--prefix' to apply patch relative to the current directory)\n",
                &["c: the file does not exist"],
            ),
            ("file d already exists\n", &["d: the file exists already"]),
            ("abort: cannot patch q: file is not tracked\n", &[]),
        ];
        for (stderr, expected) in table {
            assert_eq!(found(stderr), expected, "{stderr}");
        }
    }

    #[test]
    fn ten_places_are_enough() {
        let stderr: String = (0..25).map(|number| format!("file f{number} already exists\n")).collect();
        let places = found(&stderr);
        assert_eq!((places.len(), places[10].as_str()), (11, "and 15 more places"));
    }
}
