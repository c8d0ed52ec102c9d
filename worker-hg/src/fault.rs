//! The text for an author about a patch that cannot be built.

use phabricator::model::{BaseChoice, BaseReason, Build, Patch, PatchFailure, Report};

use crate::{patch::Refusal, text, tree::Conflict};

/// What is wrong with a patch, in words for its author. What comes from outside is in `details` only.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PatchFault {
    summary: String,
    details: String,
    advice: String,
    commands: String,
    base: Option<Box<BaseChoice>>,
}

impl PatchFault {
    /// The patch was refused before anything was made of it.
    pub(crate) fn refused(build: &Build, patch: &Patch, refusal: &Refusal) -> Self {
        Self::unfit(build, patch, refusal.to_string())
    }

    /// A file of the patch would lie below another file.
    pub(crate) fn conflicts(build: &Build, patch: &Patch, conflict: &Conflict) -> Self {
        let (path, other) = (text::path(&conflict.path), text::path(&conflict.other));
        Self::unfit(build, patch, format!("{path}: it and {other} cannot both be files"))
    }

    fn unfit(build: &Build, patch: &Patch, details: String) -> Self {
        Self {
            summary: format!("{} is refused.", subject(build, patch)),
            details,
            advice: format!("Change D{} and submit it again.", patch.revision_id),
            commands: String::new(),
            base: None,
        }
    }

    /// The stack is longer than `allowed`.
    pub(crate) fn too_long(build: &Build, allowed: usize) -> Self {
        Self {
            summary: format!(
                "The stack of D{} has {} patches that have not landed, and only {allowed} are allowed.",
                build.request.revision_id,
                build.stack.len()
            ),
            details: String::new(),
            advice: "Land the lower part of the stack first, or split it.".to_owned(),
            commands: String::new(),
            base: None,
        }
    }

    /// Mercurial could not apply the patch; `misfits` says where.
    pub(crate) fn does_not_apply(build: &Build, patch: &Patch, base: &BaseChoice, misfits: &str) -> Self {
        Self {
            summary: format!("{} does not apply.", subject(build, patch)),
            details: misfits.to_owned(),
            advice: format!("{}{REBASE}{}", abandoned_below(build), if_there(base)),
            commands: commands(build, base),
            base: Some(Box::new(base.clone())),
        }
    }

    /// The patch leaves every file as it is.
    pub(crate) fn changes_nothing(build: &Build, patch: &Patch, base: &BaseChoice) -> Self {
        Self {
            summary: format!("{} changes nothing: the files are already as it would make them.", subject(build, patch)),
            details: String::new(),
            advice: format!("If it has landed, close D{}. If not: {REBASE}", patch.revision_id),
            commands: commands(build, base),
            base: Some(Box::new(base.clone())),
        }
    }

    /// The report that says so, after `seconds` of work.
    pub(crate) fn report(self, seconds: f64) -> Report {
        let Self { summary, details, advice, commands, base } = self;
        Report::PatchFailed(PatchFailure { summary, details, advice, commands, base: base.map(|base| *base), seconds })
    }
}

/// The patch as the author of the build knows it: below the one that was submitted there may be others.
fn subject(build: &Build, patch: &Patch) -> String {
    let (top, id) = (build.request.revision_id, patch.revision_id);
    if id == top {
        format!("The patch of D{id}")
    } else {
        format!("D{top} cannot be built. It stands on D{id}, and the patch of D{id}")
    }
}

/// What to know of revisions below that were abandoned: one of them may be what is in the way.
fn abandoned_below(build: &Build) -> String {
    let top = build.request.revision_id;
    let below = build.stack.iter().filter(|patch| patch.abandoned && patch.revision_id != top);
    let names: Vec<String> = below.map(|patch| format!("D{}", patch.revision_id)).collect();
    if names.is_empty() {
        return String::new();
    }
    let (names, were) = (names.join(", "), if names.len() == 1 { "was" } else { "were" });
    format!(
        "The stack holds {names}, which {were} abandoned: if its change is not wanted, remove it from the stack first. "
    )
}

const REBASE: &str = "Rebase the stack on that changeset or a newer one, resolve the conflicts, and submit it again.";

/// A stack that was submitted in parts can be fine in its author's clone.
fn if_there(base: &BaseChoice) -> &'static str {
    match base.reason {
        BaseReason::Named => " If your commits stand on it already and fit, submit all of them again.",
        _ => "",
    }
}

/// What moves the stack. `moz-phab` puts the revision's address into the commit messages, which is how a commit is
/// found in its author's clone.
fn commands(build: &Build, base: &BaseChoice) -> String {
    let (top, used) = (build.request.revision_id, &base.used);
    let bottom = build.stack.first().map_or(top, |patch| patch.revision_id);
    format!(
        "# with the commits in your clone\n\
         hg pull\n\
         hg rebase --source 'draft() and desc(r\"re:/D{bottom}\\b\")' --dest {used}\n\
         moz-phab submit\n\
         \n\
         # or from what is on Phabricator\n\
         moz-phab patch D{top} --apply-to {used}\n\
         moz-phab submit"
    )
}
