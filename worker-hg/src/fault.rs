//! The text for an author about a patch that cannot be built.

use std::time::Duration;

use build::{BaseChoice, BaseReason, Build, Patch, PatchFailure, Report};

use crate::{
    Size,
    made::TooMuch,
    misfit::{Cause, Misfits},
    patch::Refusal,
    text,
    tree::Conflict,
};

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
        Self::unfit(build, patch, refusal.to_string(), refusal.advice)
    }

    /// A patch cannot be loaded.
    pub(crate) fn not_loaded(failure: PatchFailure) -> Self {
        Self {
            summary: failure.summary,
            details: failure.details,
            advice: failure.advice,
            commands: failure.commands,
            base: failure.base.map(Box::new),
        }
    }

    /// A file of the patch would lie below another file.
    pub(crate) fn conflicts(build: &Build, patch: &Patch, conflict: &Conflict) -> Self {
        let (path, other) = (text::path(&conflict.path), text::path(&conflict.other));
        Self::unfit(
            build,
            patch,
            format!("{path}: it and {other} cannot both be files"),
            "",
        )
    }

    fn unfit(build: &Build, patch: &Patch, details: String, advice: &str) -> Self {
        let advice = match advice {
            "" => format!("Change D{} and submit it again.", patch.revision_id),
            advice => advice.to_owned(),
        };
        let abandoned = if patch.abandoned {
            abandoned_below(build)
        } else {
            String::new()
        };
        Self {
            summary: format!("{} is refused.", subject(build, patch)),
            details,
            advice: format!("{abandoned}{advice}"),
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

    /// Mercurial could not apply the patch; `misfits` says where and why.
    pub(crate) fn does_not_apply(
        build: &Build,
        patch: &Patch,
        base: &BaseChoice,
        misfits: Misfits,
    ) -> Self {
        let Misfits {
            details,
            causes,
            unexplained,
        } = misfits;
        let mut advice = vec![];
        if unexplained {
            advice.push(format!("{REBASE}{}", if_there(base)));
        }
        advice.extend(
            causes
                .into_iter()
                .map(|cause| advice_on(cause, unexplained)),
        );
        Self {
            summary: format!("{} does not apply.", subject(build, patch)),
            details,
            advice: format!("{}{}", abandoned_below(build), advice.join(" ")),
            commands: if unexplained {
                commands(build, base)
            } else {
                String::new()
            },
            base: Some(Box::new(base.clone())),
        }
    }

    /// Mercurial searched longer than `allowed` for the places of hunks that are not where they say.
    pub(crate) fn searches_too_long(
        build: &Build,
        patch: &Patch,
        base: &BaseChoice,
        allowed: Duration,
        misfits: Misfits,
    ) -> Self {
        let seconds = allowed.as_secs();
        Self {
            summary: format!(
                "{} does not fit where it says, and other places were not found within {seconds} s of processor time.",
                subject(build, patch)
            ),
            ..Self::does_not_apply(build, patch, base, misfits)
        }
    }

    /// The patch leaves every file as it is.
    pub(crate) fn changes_nothing(build: &Build, patch: &Patch, base: &BaseChoice) -> Self {
        Self {
            summary: format!(
                "{} changes nothing: the files are already as it would make them.",
                subject(build, patch)
            ),
            details: String::new(),
            advice: format!(
                "If it has landed, close D{}. If not: {REBASE}",
                patch.revision_id
            ),
            commands: commands(build, base),
            base: Some(Box::new(base.clone())),
        }
    }

    /// The files that the stack makes are too large.
    pub(crate) fn makes_too_much(build: &Build, too_much: &TooMuch) -> Self {
        let TooMuch {
            bytes,
            allowed,
            largest,
            part,
            files,
        } = too_much;
        let (bytes, allowed, part, largest) = (
            Size(*bytes),
            Size(*allowed),
            Size(*part),
            text::path(largest),
        );
        let part = match files {
            1 => format!("The largest file has {part}: {largest}"),
            _ => format!(
                "The largest part of that is {part} in {files} files, which are copies or versions of one: {largest}"
            ),
        };
        Self {
            summary: format!("The stack of D{} is refused: the files that it makes are too large.", build.request.revision_id),
            details: format!(
                "The files that its patches add, copy, rename or change have {bytes}, and {allowed} are allowed.\n{part}"
            ),
            advice: "Copy or change fewer large files, or split the stack, and land its lower part first.".to_owned(),
            commands: String::new(),
            base: None,
        }
    }

    /// Mercurial computed for longer than `allowed` to apply the patches; it was at that of `D<revision_id>`.
    pub(crate) fn takes_too_long(build: &Build, revision_id: u64, allowed: Duration) -> Self {
        let (top, seconds) = (build.request.revision_id, allowed.as_secs());
        Self::too_costly(
            build,
            format!(
                "Applying the patches of D{top} took longer than {seconds} s of processor time. It was stopped at the \
                 patch of D{revision_id}."
            ),
        )
    }

    /// Mercurial needed more memory than the `allowed` bytes to apply the patch of `D<revision_id>`.
    pub(crate) fn takes_too_much(build: &Build, revision_id: u64, allowed: u64) -> Self {
        let allowed = Size(allowed);
        Self::too_costly(
            build,
            format!("Applying the patch of D{revision_id} takes more memory than {allowed}."),
        )
    }

    fn too_costly(build: &Build, summary: String) -> Self {
        Self {
            summary,
            details: String::new(),
            advice: format!(
                "It is not tried again. Rebase the stack, so that its hunks fit where they say, split large patches, and \
                 submit D{} again.",
                build.request.revision_id
            ),
            commands: String::new(),
            base: None,
        }
    }

    /// The report that says so, after `seconds` of work.
    pub(crate) fn report(self, seconds: f64) -> Report {
        let Self {
            summary,
            details,
            advice,
            commands,
            base,
        } = self;
        Report::PatchFailed(PatchFailure {
            summary,
            details,
            advice,
            commands,
            base: base.map(|base| *base),
            seconds,
        })
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
    let below = build.abandoned_below();
    let names: Vec<String> = below.iter().map(|id| format!("D{id}")).collect();
    if names.is_empty() {
        return String::new();
    }
    let (names, were) = (
        names.join(", "),
        if names.len() == 1 { "was" } else { "were" },
    );
    format!(
        "The stack holds {names}, which {were} abandoned: if its change is not wanted, remove it from the stack first. "
    )
}

const REBASE: &str = "Rebase the stack on that changeset or a newer one, resolve the conflicts, and submit it again.";

/// What helps where a rebase does not. `partly` is when something else is wrong as well.
fn advice_on(cause: Cause, partly: bool) -> String {
    let (only, rebase) = if partly {
        ("Where only", ", a rebase does not help")
    } else {
        ("Only", "; a rebase does not help")
    };
    let (what, remedy) = match cause {
        Cause::LineEndings => (
            "the line endings differ",
            "Give the file the line endings that it has in the repository (`unix2dos` writes CRLF, `dos2unix` writes \
             LF), commit, and submit again. With Git, set `core.autocrlf` to `false`, so that it converts nothing.",
        ),
        Cause::Encoding => (
            "bytes beyond ASCII differ (the file is not UTF-8, and Phabricator serves text as UTF-8)",
            "Submit the file as binary. `moz-phab` does that by itself; for `arc diff`, declare the file `binary` in \
             `.gitattributes`.",
        ),
    };
    format!("{only} {what}{rebase}. {remedy}")
}

/// A stack that was submitted in parts can be fine in its author's clone.
fn if_there(base: &BaseChoice) -> &'static str {
    match base.reason {
        BaseReason::Named => {
            " If your commits stand on it already and fit, submit all of them again."
        }
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
