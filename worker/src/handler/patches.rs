//! The patches of a build, read, and refused when they must not be applied.

use std::io;

use build::{Build, PatchContent};

use crate::{
    Limits, WorkerError,
    outcome::{NotPushed, patch_failure},
    patch::{self, Budget, ParsedPatch, RejectReason, stack_size},
};

/// The patches of a stack, loaded and read.
#[derive(Debug)]
pub(super) struct Patches {
    pub(super) contents: Vec<PatchContent>,
    pub(super) parsed: Vec<ParsedPatch>,
}

impl Patches {
    /// Reads the patches of a stack, one after another. Blocks.
    pub(super) fn read(contents: Vec<PatchContent>, limits: &Limits) -> Result<Self, Unfit> {
        let mut budget = Budget::new(limits);
        let mut parsed = Vec::with_capacity(contents.len());
        for (place, content) in contents.iter().enumerate() {
            let refused = |refusal| Unfit::Refused(place, refusal);
            patch::check_size(content.file.size(), limits).map_err(refused)?;
            let bytes = content.file.read().map_err(Unfit::Unreadable)?;
            parsed.push(patch::scan_next(&bytes, limits, &mut budget).map_err(refused)?);
        }
        // Without the base, and so before it is known.
        stack_size::check(&parsed, &stack_size::Sizes::new(), limits.made)
            .map_err(Unfit::TooLarge)?;
        Ok(Self { contents, parsed })
    }
}

/// Why a stack is not given to the version control.
pub(super) enum Unfit {
    /// We cannot read what we have stored.
    Unreadable(io::Error),
    /// The patch at this place.
    Refused(usize, RejectReason),
    /// The files that it makes are too large.
    TooLarge(stack_size::TooLarge),
}

impl Unfit {
    /// How a build ends for it.
    pub(super) fn ends(self, build: &Build) -> NotPushed {
        match self {
            Self::Unreadable(error) => WorkerError::io("read the patches of a stack")(error).into(),
            Self::Refused(place, refusal) => {
                patch_failure::refused(build, &build.stack[place], &refusal).into()
            }
            Self::TooLarge(too_large) => patch_failure::makes_too_much(build, &too_large).into(),
        }
    }
}
