//! What is in the repositories: the same on every machine, and known without looking.

use std::{collections::HashMap, fmt::Write as _};

use fastrand::Rng;

/// How large a repository is.
pub struct Shape {
    pub name: &'static str,
    pub files: usize,
    /// The first one adds all files.
    pub changesets: usize,
}

pub const SMALL: Shape = Shape {
    name: "S",
    files: 200,
    changesets: 300,
};
pub const LARGE: Shape = Shape {
    name: "L",
    files: 100_000,
    changesets: 2_000,
};

/// How many different lines there are.
const LINES: usize = 20_000;
/// How many of them a file has, behind the one that names it.
const LENGTH: usize = 95;
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789 ";
/// How many files a changeset changes.
const CHANGES: usize = 5;
/// The lines at the head of a file that no changeset changes, so that patches against the newest one can.
pub const KEPT: usize = 5;

/// All lines that files are made of.
pub struct Content {
    lines: Vec<String>,
}

impl Content {
    pub fn new() -> Self {
        let mut random = Rng::with_seed(1);
        let mut line = || {
            (0..60)
                .map(|_| char::from(LETTERS[random.usize(..LETTERS.len())]))
                .collect()
        };
        Self {
            lines: (0..LINES).map(|_| line()).collect(),
        }
    }

    /// The lines of a file in the first changeset.
    pub fn file(&self, number: usize) -> Vec<String> {
        let mut random = Rng::with_seed(number as u64);
        let lines = (0..LENGTH).map(|_| self.line(&mut random).to_owned());
        std::iter::once(format!("file {number}"))
            .chain(lines)
            .collect()
    }

    /// One of the lines.
    pub fn line(&self, random: &mut Rng) -> &str {
        &self.lines[random.usize(..LINES)]
    }

    /// Gives all changesets but the first to `each`, with their numbers.
    pub fn history(&self, shape: &Shape, mut each: impl FnMut(usize, Vec<Change>)) {
        let mut random = Rng::with_seed(2);
        let mut files = HashMap::<usize, Vec<String>>::new();
        for changeset in 1..shape.changesets {
            let mut chosen = random.choose_multiple(0..shape.files, CHANGES);
            chosen.sort_unstable();
            let changes = chosen.into_iter().map(|number| {
                let lines = files.entry(number).or_insert_with(|| self.file(number));
                let at = random.usize(KEPT + 1..LENGTH);
                let (path, mut patch) = (path(number), String::new());
                change(
                    &mut patch,
                    &path,
                    lines,
                    at,
                    format!("changed by {changeset}"),
                );
                Change {
                    content: text(lines),
                    path,
                    patch,
                }
            });
            let changes = changes.collect();
            each(changeset, changes);
        }
    }
}

/// The change of one file.
pub struct Change {
    pub path: String,
    pub patch: String,
    /// The file after it.
    pub content: String,
}

/// The text of a file with these lines.
pub fn text(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

/// Where a file is.
pub fn path(number: usize) -> String {
    format!("{}/file{number:06}.txt", directory(number))
}

/// The directory of a file.
pub fn directory(number: usize) -> String {
    format!("d{:02}/s{:02}", number % 100, number / 100 % 50)
}

/// Puts another line in place of line `at`, which is neither the first nor the last, and appends that as a patch.
pub fn change(patch: &mut String, path: &str, lines: &mut [String], at: usize, new: String) {
    let old = std::mem::replace(&mut lines[at], new);
    let (before, new, after) = (&lines[at - 1], &lines[at], &lines[at + 1]);
    let _ = write!(
        patch,
        "diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -{at},3 +{at},3 @@\n {before}\n-{old}\n+{new}\n {after}\n"
    );
}
