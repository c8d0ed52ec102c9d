//! The patches of a build, read, and refused when they must not be applied.

use build::{Build, PatchContent, PatchFailure};

use crate::{
    Limits,
    outcome::patch_failure,
    patch::{self, Budget, ParsedPatch, RejectReason, stack_size},
};

/// The patches of a stack, loaded and read.
#[derive(Debug)]
pub(super) struct Patches {
    pub(super) contents: Vec<PatchContent>,
    pub(super) parsed: Vec<ParsedPatch>,
}

impl Patches {
    /// Reads the patches of a stack.
    pub(super) fn read(contents: Vec<PatchContent>, limits: &Limits) -> Result<Self, Unfit> {
        let mut budget = Budget::new(limits);
        let parsed = contents.iter().enumerate().map(|(place, content)| {
            patch::scan_next(&content.bytes, limits, &mut budget)
                .map_err(|refusal| Unfit::Refused(place, refusal))
        });
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        // Without the base, and so before it is known.
        stack_size::check(&parsed, &stack_size::Sizes::new(), limits.made)
            .map_err(Unfit::TooLarge)?;
        Ok(Self { contents, parsed })
    }
}

/// Why a stack must not be given to the version control.
pub(super) enum Unfit {
    /// The patch at this place.
    Refused(usize, RejectReason),
    /// The files that it makes are too large.
    TooLarge(stack_size::TooLarge),
}

impl Unfit {
    pub(super) fn failure(&self, build: &Build) -> PatchFailure {
        match self {
            Self::Refused(place, refusal) => {
                patch_failure::refused(build, &build.stack[*place], refusal)
            }
            Self::TooLarge(too_large) => patch_failure::makes_too_much(build, too_large),
        }
    }
}
