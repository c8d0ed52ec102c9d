//! The parsed patches of a build, and the reasons to refuse them.

use std::io;

use build::{Build, PatchContent, PatchFailure};

use crate::{
    Limits, WorkerError,
    outcome::{NotPushed, patch_failure},
    patch::{self, Budget, ParsedPatch, RejectReason, Rules, stack_size},
    revision::Revision,
};

/// The patches of a stack, loaded and parsed.
#[derive(Debug)]
pub(super) struct Patches {
    pub(super) contents: Vec<PatchContent>,
    pub(super) parsed: Vec<ParsedPatch>,
    /// The base of the lowest patch, if that was taken from the staging area.
    pub(super) staged_on: Option<Revision>,
    /// The fault for which it was taken from there, if that was found before the base is known.
    pub(super) fault: Option<Box<PatchFailure>>,
}

impl Patches {
    /// Reads, parses and checks the patches of a stack, one after another. Blocks.
    pub(super) fn read(
        contents: Vec<PatchContent>,
        limits: &Limits,
        rules: Rules,
    ) -> Result<Self, Unfit> {
        let mut budget = Budget::new(limits);
        let mut parsed = Vec::with_capacity(contents.len());
        for (place, content) in contents.iter().enumerate() {
            let refused = |refusal| Unfit::Refused(place, refusal);
            patch::check_size(content.file.size(), limits).map_err(refused)?;
            let bytes = content.file.read().map_err(Unfit::Unreadable)?;
            parsed.push(patch::scan_next(&bytes, limits, rules, &mut budget).map_err(refused)?);
        }
        // A first check, before the base is known: without the sizes of its files.
        stack_size::check(&parsed, &stack_size::Sizes::new(), limits.stack_bytes)
            .map_err(Unfit::TooLarge)?;
        Ok(Self {
            contents,
            parsed,
            staged_on: None,
            fault: None,
        })
    }
}

/// The reason for which a stack does not reach the version control.
pub(super) enum Unfit {
    /// A stored patch cannot be read.
    Unreadable(io::Error),
    /// The patch at this place is refused.
    Refused(usize, RejectReason),
    /// The files that the stack makes are too large.
    TooLarge(stack_size::TooLarge),
}

impl Unfit {
    /// Whether all that is wrong is that the lowest patch lacks the content of a binary file.
    pub(super) fn is_for_staging(&self) -> bool {
        matches!(self, Self::Refused(0, reason) if reason.lacks_content())
    }

    /// The result of the build.
    pub(super) fn into_not_pushed(self, build: &Build) -> NotPushed {
        match self {
            Self::Unreadable(error) => WorkerError::io("read the patches of a stack")(error).into(),
            Self::Refused(place, refusal) => {
                patch_failure::refused(build, &build.stack[place], &refusal).into()
            }
            Self::TooLarge(too_large) => patch_failure::makes_too_much(build, &too_large).into(),
        }
    }
}
