//! The report on a patch that does not fit, for its author.

use std::collections::HashMap;

use worker::{
    WorkerError,
    patch::{
        self, FileChange, ParsedPatch,
        reject_report::{
            self, Cause, MAX_PLACES, Nearest, Note, Place, Problem, RejectReport, compare,
            describe, nearest,
        },
    },
};

use super::{base::Base, binary::BinaryFault, change::Misfit};

/// The largest file that is compared with a hunk, in bytes.
const MAX_FILE: usize = 4 << 20;

/// Describes the changes that do not fit, by their indexes in the patch.
pub(super) fn report(
    base: &mut Base<'_>,
    content: &[u8],
    patch: &ParsedPatch,
    misfits: &[(usize, Misfit)],
) -> Result<RejectReport, WorkerError> {
    let misfits: Vec<(&FileChange, String, &Misfit)> = misfits
        .iter()
        .filter_map(|(index, misfit)| {
            let file = patch.files.get(*index)?;
            let name = match misfit {
                Misfit::Missing => reject_report::source_path(file),
                _ => &file.path,
            };
            Some((file, String::from_utf8_lossy(name).into_owned(), misfit))
        })
        .collect();
    let mut places = Vec::new();
    let mut notes = Vec::new();
    let mut files: HashMap<&[u8], Option<Vec<u8>>> = HashMap::new();
    for (file, name, misfit) in &misfits {
        for problem in problems(misfit) {
            if notes.len() < MAX_PLACES {
                notes.push(match problem {
                    Problem::Hunk(number) => {
                        let path = reject_report::source_path(file);
                        if !files.contains_key(path) {
                            files.insert(path, old_content(base, path)?);
                        }
                        note(content, file, number, files[path].as_deref())
                    }
                    _ => Note::default(),
                });
            }
            places.push(Place {
                file: name,
                problem,
            });
        }
    }
    Ok(describe(content, patch, &places, &notes, "Git", &[]))
}

/// The content of a file of the base, if it is not too large to compare.
fn old_content(base: &mut Base<'_>, path: &[u8]) -> Result<Option<Vec<u8>>, WorkerError> {
    let entry = base.leaf(path)?;
    let content = entry.map(|entry| base.content(entry)).transpose()?;
    Ok(content.filter(|content| content.len() <= MAX_FILE))
}

fn note(content: &[u8], file: &FileChange, number: usize, old: Option<&[u8]>) -> Note {
    let (Some(old), Some(lines)) = (old, patch::old_lines(content, file, number)) else {
        return Note::default();
    };
    let cause: Option<Cause> = compare(&lines, old);
    let nearest: Option<Nearest> = match cause {
        None => nearest(&lines, old, first_line(content, file, number)),
        Some(_) => None,
    };
    Note { cause, nearest }
}

/// The line of the file that a hunk names first.
fn first_line(content: &[u8], file: &FileChange, number: usize) -> usize {
    let hunk = patch::hunks(content, file).nth(number.saturating_sub(1));
    hunk.and_then(|hunk| usize::try_from(hunk.old.start).ok())
        .unwrap_or_default()
}

fn problems(misfit: &Misfit) -> Vec<Problem> {
    let problem = match misfit {
        Misfit::Hunks(hunks) => return hunks.iter().copied().map(Problem::Hunk).collect(),
        Misfit::Missing => Problem::Missing,
        Misfit::Exists => Problem::Exists,
        Misfit::OtherKind => Problem::Other(
            "the file is of another kind than the patch says (plain file, symbolic link or submodule)",
        ),
        Misfit::ChangesKind => Problem::Other(
            "the patch changes its kind (plain file, symbolic link or submodule), but does not delete the file and add \
             it again",
        ),
        Misfit::Remains => {
            Problem::Other("the patch deletes the file, but the file has more lines")
        }
        Misfit::Binary(BinaryFault::OtherContent) => {
            Problem::Other("the file has another content than the binary patch was made for")
        }
        Misfit::Binary(BinaryFault::Corrupt) => {
            Problem::Other("the binary patch does not make the content that it names")
        }
        Misfit::Binary(BinaryFault::NoIndex) => Problem::Other(
            "the binary patch is a delta, but does not name the content it is for (`git diff --full-index`)",
        ),
        Misfit::Beside => Problem::Other("the path is a directory, or leads through another file"),
        Misfit::BelowLink => Problem::Other("the path leads through a symbolic link"),
        Misfit::NoCommit => Problem::Other("the patch of a submodule does not name a commit"),
        Misfit::Submodule => {
            Problem::Other("it is a submodule, and patches of this repository may not change these")
        }
        Misfit::Modules => Problem::Other(
            "the file would have an option in the place of an address or a path, or a command that updates a submodule",
        ),
    };
    vec![problem]
}
