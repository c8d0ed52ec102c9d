//! What is wrong with a configuration: all of it at once.

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where in the document, such as `events.repositories[0].url`.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
    /// What was expected, and what is there. Never a value that may be secret.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.path, self.message)
    }
}

/// The faults of a document, in the order of its lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    /// It cannot be used because of these.
    pub errors: Vec<Fault>,
    /// It can be used in spite of these.
    pub warnings: Vec<Fault>,
    /// Whether secrets were read.
    pub(super) secrets: bool,
}

impl Faults {
    pub(super) fn error(&mut self, path: &str, line: usize, message: String) {
        self.errors.push(Fault {
            path: path.to_owned(),
            line,
            message,
        });
    }

    pub(super) fn warning(&mut self, path: &str, line: usize, message: String) {
        self.warnings.push(Fault {
            path: path.to_owned(),
            line,
            message,
        });
    }

    /// Sorts them. What two roles find of one key is found once.
    pub(super) fn sort(&mut self) {
        self.errors
            .sort_by(|a, b| (a.line, &a.path).cmp(&(b.line, &b.path)));
        self.warnings
            .sort_by(|a, b| (a.line, &a.path).cmp(&(b.line, &b.path)));
        self.errors.dedup();
        self.warnings.dedup();
    }

    /// Warns of a file with secrets whose permissions are `mode`.
    pub(super) fn warn_of_mode(&mut self, mode: u32) {
        let message = format!(
            "the file holds secrets, and its mode {:04o} lets other users read or change it: use chmod 600",
            mode & 0o7777
        );
        self.warnings.insert(
            0,
            Fault {
                path: "document".to_owned(),
                line: 1,
                message,
            },
        );
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.errors.iter().map(|fault| format!("error: {fault}"));
        let lines = lines.chain(
            self.warnings
                .iter()
                .map(|fault| format!("warning: {fault}")),
        );
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Faults {}
