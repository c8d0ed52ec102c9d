//! What an author is told about a patch that cannot be built.

use phabricator::model::{Build, Patch};

use crate::{clone::Changeset, outcome, patch::Refusal, process::CommandOutput, text, tree::Conflict};

/// What is wrong with a patch, in words for its author.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PatchFault {
    pub(crate) summary: String,
    pub(crate) details: String,
    pub(crate) advice: String,
}

impl PatchFault {
    /// The patch was refused before anything was made of it.
    pub(crate) fn refused(patch: &Patch, refusal: &Refusal) -> Self {
        Self {
            summary: format!("The patch of D{} is refused: {refusal}.", patch.revision_id),
            details: String::new(),
            advice: "Change the patch and submit it again.".to_owned(),
        }
    }

    /// A file of the patch would lie below another file.
    pub(crate) fn conflicts(patch: &Patch, conflict: &Conflict) -> Self {
        let (path, other) = (text::path(&conflict.path), text::path(&conflict.other));
        Self {
            summary: format!(
                "The patch of D{} is refused: {path}: it and {other} cannot both be files.",
                patch.revision_id
            ),
            details: String::new(),
            advice: "Change the patch and submit it again.".to_owned(),
        }
    }

    /// The stack is longer than `allowed`.
    pub(crate) fn too_long(build: &Build, allowed: usize) -> Self {
        Self {
            summary: format!("The stack has {} patches, {allowed} are allowed.", build.stack.len()),
            details: String::new(),
            advice: "Land the lower part of the stack first, or split it.".to_owned(),
        }
    }

    /// Mercurial could not apply the patch.
    pub(crate) fn does_not_apply(build: &Build, patch: &Patch, base: &Changeset, output: &CommandOutput) -> Self {
        let base = base.short();
        let mut places = outcome::places(output);
        let more = places.len().saturating_sub(5);
        places.truncate(5);
        if more > 0 {
            places.push(format!("and {more} more"));
        }
        Self {
            summary: format!("The patch of D{} does not apply on {base}: {}.", patch.revision_id, places.join("; ")),
            details: text::block(&output.stderr),
            advice: format!(
                "Rebase the stack on {base} or a newer changeset and submit it again, for example with \
                 `moz-phab patch D{} --apply-to {base}`, then resolve the conflicts, then `moz-phab submit`.",
                build.request.revision_id
            ),
        }
    }

    /// The patch would take a file away, if it held nothing else.
    pub(crate) fn keeps(patch: &Patch, base: &Changeset, path: &[u8]) -> Self {
        let (base, path) = (base.short(), text::path(path));
        Self {
            summary: format!(
                "The patch of D{} does not apply on {base}: {path}: the patch deletes it, but it has more lines.",
                patch.revision_id
            ),
            details: String::new(),
            advice: format!("Rebase the stack on {base} or a newer changeset and submit it again."),
        }
    }

    /// The patch leaves every file as it is.
    pub(crate) fn changes_nothing(patch: &Patch, base: &Changeset) -> Self {
        let base = base.short();
        Self {
            summary: format!("The patch of D{} changes nothing on {base}.", patch.revision_id),
            details: String::new(),
            advice: "Perhaps it has landed already. If not, rebase it and submit it again.".to_owned(),
        }
    }
}
