//! The texts for authors about patches that cannot be built. Foreign text is in `details` only.

use std::time::Duration;

use build::{BaseChoice, BaseReason, Build, Patch, PatchFailure, VersionControl};

use crate::{
    Limits, Size,
    patch::{
        RejectReason,
        path_tree::{Clash, Conflict},
        reject_report::{Cause, RejectReport},
        stack_size::TooLarge,
    },
    text,
    vcs::Rejection,
};

/// The patch was refused before it was applied.
pub(crate) fn refused(build: &Build, patch: &Patch, refusal: &RejectReason) -> PatchFailure {
    unfit(build, patch, refusal.to_string(), refusal.advice)
}

/// A file of the patch cannot be beside another one.
pub(crate) fn conflicts(build: &Build, patch: &Patch, conflict: &Conflict) -> PatchFailure {
    let (path, other) = (text::path(&conflict.path), text::path(&conflict.other));
    let details = match conflict.clash {
        Clash::Nesting => format!("{path}: it and {other} cannot both be files"),
        Clash::Spelling => format!(
            "{path}: {other} is there already, and differs by case only: Windows and macOS take both for one"
        ),
    };
    unfit(build, patch, details, "")
}

fn unfit(build: &Build, patch: &Patch, details: String, advice: &str) -> PatchFailure {
    let advice = match advice {
        "" => format!("Change D{} and submit it again.", patch.revision_id),
        advice => advice.to_owned(),
    };
    let abandoned = if patch.abandoned {
        abandoned_below(build)
    } else {
        String::new()
    };
    PatchFailure {
        vcs: build.vcs,
        summary: format!("{} is refused.", subject(build, patch.revision_id)),
        details,
        advice: format!("{abandoned}{advice}"),
        commands: String::new(),
        base: None,
        seconds: 0.0,
    }
}

/// The stack is longer than `allowed`.
pub(crate) fn too_long(build: &Build, allowed: usize) -> PatchFailure {
    PatchFailure {
        vcs: build.vcs,
        summary: format!(
            "The stack of D{} has {} patches that have not landed, and only {allowed} are allowed.",
            build.request.revision_id,
            build.stack.len()
        ),
        details: String::new(),
        advice: "Land the lower part of the stack first, or split it.".to_owned(),
        commands: String::new(),
        base: None,
        seconds: 0.0,
    }
}

/// The stack was not applied on `base`; `commands` rebase it onto that.
pub(crate) fn rejected(
    build: &Build,
    base: &BaseChoice,
    limits: &Limits,
    commands: String,
    rejection: Rejection,
) -> PatchFailure {
    match rejection {
        Rejection::DoesNotApply {
            revision_id,
            report,
        } => does_not_apply(build, revision_id, base, commands, report),
        Rejection::SearchesTooLong {
            revision_id,
            report,
        } => searches_too_long(
            build,
            revision_id,
            base,
            limits.search_time,
            commands,
            report,
        ),
        Rejection::ChangesNothing { revision_id } => {
            changes_nothing(build, revision_id, base, commands)
        }
        Rejection::TakesTooLong { revision_id } => {
            takes_too_long(build, revision_id, limits.apply_time)
        }
        Rejection::TakesTooMuchMemory { revision_id } => {
            takes_too_much(build, revision_id, limits.memory)
        }
    }
}

/// The patch could not be applied; `report` has the hunks and the causes.
fn does_not_apply(
    build: &Build,
    revision_id: u64,
    base: &BaseChoice,
    commands: String,
    report: RejectReport,
) -> PatchFailure {
    let RejectReport {
        details,
        causes,
        unexplained,
    } = report;
    let mut advice = vec![];
    if unexplained {
        advice.push(format!("{}{}", rebase(build.vcs), if_there(base)));
    }
    advice.extend(
        causes
            .into_iter()
            .map(|cause| advice_on(cause, unexplained)),
    );
    PatchFailure {
        vcs: build.vcs,
        summary: format!("{} does not apply.", subject(build, revision_id)),
        details,
        advice: format!("{}{}", abandoned_below(build), advice.join(" ")),
        commands: if unexplained { commands } else { String::new() },
        base: Some(base.clone()),
        seconds: 0.0,
    }
}

/// The search for hunks that are at other lines than they say took longer than `allowed`.
fn searches_too_long(
    build: &Build,
    revision_id: u64,
    base: &BaseChoice,
    allowed: Duration,
    commands: String,
    report: RejectReport,
) -> PatchFailure {
    let seconds = allowed.as_secs();
    PatchFailure {
        summary: format!(
            "{} does not fit where it says, and other places were not found within {seconds} s of processor time.",
            subject(build, revision_id)
        ),
        ..does_not_apply(build, revision_id, base, commands, report)
    }
}

/// The patch leaves every file as it is.
fn changes_nothing(
    build: &Build,
    revision_id: u64,
    base: &BaseChoice,
    commands: String,
) -> PatchFailure {
    PatchFailure {
        vcs: build.vcs,
        summary: format!(
            "{} changes nothing: the files are already as it would make them.",
            subject(build, revision_id)
        ),
        details: String::new(),
        advice: format!(
            "If it has landed, close D{revision_id}. If not: {}",
            rebase(build.vcs)
        ),
        commands,
        base: Some(base.clone()),
        seconds: 0.0,
    }
}

/// The destination `name` refuses the stack, which was applied on `base`. `words` is its message.
pub(crate) fn refused_by(
    build: &Build,
    base: &BaseChoice,
    name: &str,
    words: &str,
) -> PatchFailure {
    let top = build.request.revision_id;
    PatchFailure {
        vcs: build.vcs,
        summary: format!("The stack of D{top} is refused by {name}."),
        details: text::separate_lines(words),
        advice: format!("Change the patch as the message below says, and submit D{top} again."),
        commands: String::new(),
        base: Some(base.clone()),
        seconds: 0.0,
    }
}

/// The job at `page` of Lando did not push the stack to `name`, with this error.
pub(crate) fn not_landed(
    build: &Build,
    base: &BaseChoice,
    name: &str,
    page: &str,
    error: &str,
) -> PatchFailure {
    let top = build.request.revision_id;
    PatchFailure {
        summary: format!("The stack of D{top} was not pushed to {name}: {page}"),
        advice: format!(
            "Lando found a fault in the patches, see the message below. Mend it, and submit D{top} again."
        ),
        ..refused_by(build, base, name, error)
    }
}

/// Lando takes no stack of this size.
pub(crate) fn too_large_for_lando(build: &Build) -> PatchFailure {
    let top = build.request.revision_id;
    PatchFailure {
        summary: format!(
            "The stack of D{top} is too large for Lando, which takes 15 MiB of patches."
        ),
        advice: "Split the stack, and land its lower part first. Large binary files count most."
            .to_owned(),
        ..too_long(build, 0)
    }
}

/// The commit with this number holds text that is not UTF-8, which Lando cannot store.
pub(crate) fn no_text(build: &Build, number: usize) -> PatchFailure {
    let top = build.request.revision_id;
    let patch = build
        .stack
        .get(number)
        .map_or(top, |patch| patch.revision_id);
    PatchFailure {
        summary: format!(
            "{} holds text that is not UTF-8, and Lando takes no other.",
            subject(build, patch)
        ),
        advice: "Convert the files to UTF-8, or submit them as binary files.".to_owned(),
        ..too_long(build, 0)
    }
}

/// The files that the stack makes are too large.
pub(crate) fn makes_too_much(build: &Build, too_large: &TooLarge) -> PatchFailure {
    let TooLarge {
        bytes,
        allowed,
        largest,
        part,
        files,
    } = too_large;
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
    PatchFailure {
        vcs: build.vcs,
        summary: format!(
            "The stack of D{} is refused: the files that it makes are too large.",
            build.request.revision_id
        ),
        details: format!(
            "The files that its patches add, copy, rename or change have {bytes}, and {allowed} are allowed.\n{part}"
        ),
        advice:
            "Copy or change fewer large files, or split the stack, and land its lower part first."
                .to_owned(),
        commands: String::new(),
        base: None,
        seconds: 0.0,
    }
}

/// Applying the patches took longer than `allowed`, and was stopped at the patch of `D<revision_id>`.
fn takes_too_long(build: &Build, revision_id: u64, allowed: Duration) -> PatchFailure {
    let (top, seconds) = (build.request.revision_id, allowed.as_secs());
    too_costly(
        build,
        format!(
            "Applying the patches of D{top} took longer than {seconds} s of processor time. It was stopped at the \
             patch of D{revision_id}."
        ),
    )
}

/// Applying the patch of `D<revision_id>` needed more memory than `allowed` bytes.
fn takes_too_much(build: &Build, revision_id: u64, allowed: u64) -> PatchFailure {
    let allowed = Size(allowed);
    too_costly(
        build,
        format!("Applying the patch of D{revision_id} takes more memory than {allowed}."),
    )
}

fn too_costly(build: &Build, summary: String) -> PatchFailure {
    PatchFailure {
        vcs: build.vcs,
        summary,
        details: String::new(),
        advice: format!(
            "It is not tried again. Rebase the stack, so that its hunks fit where they say, split large patches, and \
             submit D{} again.",
            build.request.revision_id
        ),
        commands: String::new(),
        base: None,
        seconds: 0.0,
    }
}

/// The patch, named for the author of the build: it may be that of a revision below the one that was submitted.
fn subject(build: &Build, id: u64) -> String {
    let top = build.request.revision_id;
    if id == top {
        format!("The patch of D{id}")
    } else {
        format!("D{top} cannot be built. It stands on D{id}, and the patch of D{id}")
    }
}

/// The advice about abandoned revisions below: one of them may be the cause.
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

fn rebase(vcs: VersionControl) -> String {
    format!(
        "Rebase the stack on that {} or a newer one, resolve the conflicts, and submit it again.",
        vcs.commit()
    )
}

/// The advice on a cause that a rebase does not remove. `partly` is set when there are other causes.
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

/// The advice on a stack that was submitted in parts: it can be fine in its author's clone.
fn if_there(base: &BaseChoice) -> &'static str {
    match base.reason {
        BaseReason::Named => {
            " If your commits stand on it already and fit, submit all of them again."
        }
        _ => "",
    }
}
