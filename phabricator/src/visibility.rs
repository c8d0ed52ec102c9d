//! Which revisions may be spoken of.

use std::collections::BTreeSet;

use crate::{api::RevisionInfo, model::Phid};

/// Those of `revisions` that are in none of the projects `secure`.
pub(crate) fn public(mut revisions: Vec<RevisionInfo>, secure: &BTreeSet<Phid>) -> Vec<RevisionInfo> {
    revisions.retain(|revision| !revision.projects().iter().any(|project| secure.contains(project)));
    revisions
}
