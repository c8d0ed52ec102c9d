//! The stack of patches below a diff.
//!
//! The parents of a revision are followed until there are none, or until one has landed: the base contains that one and
//! everything below it. An abandoned parent has not landed: its change may not be in the base, and the author built on it,
//! so it is applied like any other.

mod graph;
mod reject_reason;

use std::collections::BTreeMap;

use thiserror::Error;

use crate::{
    Conduit, ConduitError,
    api::{DiffInfo, RevisionInfo},
    visibility::Privacy,
};
use build::{Diff, Patch, Phid};

use self::graph::Graph;
pub(crate) use self::reject_reason::RejectReason;

/// The most patches that are applied for one build.
const MAX_PATCHES: usize = 100;
/// The most bytes that the patches of one build have together.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// The longest title that becomes the message of a changeset, in characters.
const MAX_TITLE: usize = 1000;
/// The longest base that is kept, in characters. A base that can be used is the hash of a changeset, perhaps between spaces.
const MAX_BASE: usize = 200;

/// The cause for which a stack cannot be loaded.
#[derive(Debug, Error)]
pub(crate) enum StackError {
    /// The stack itself cannot be built.
    #[error("the stack is refused")]
    Refused(RejectReason),
    /// A parent of this revision was deleted or is not public. The error does not name the parent.
    #[error("a parent of D{0} is not public")]
    HiddenParent(u64),
    /// A call to Phabricator failed.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
}

impl From<RejectReason> for StackError {
    fn from(reason: RejectReason) -> Self {
        Self::Refused(reason)
    }
}

/// The patches to apply for a diff.
pub(crate) struct Stack {
    /// The patches, ancestors first; the diff's own is the last.
    pub(crate) patches: Vec<Patch>,
    /// The revisions that they stand on and that have landed, in ascending order.
    pub(crate) landed: Vec<u64>,
}

/// Loads the stack for `diff` of `top`, which has not landed and is public. `privacy` decides which parents are public.
pub(crate) async fn load(
    conduit: &Conduit,
    privacy: &Privacy,
    top: &RevisionInfo,
    diff: &DiffInfo,
) -> Result<Stack, StackError> {
    let graph = Graph::load(conduit, privacy, top).await?;
    let landed = graph.landed_numbers();
    let mut line = graph.line()?;
    // The graph's newest diff of the top may be newer than the one that is built.
    line.pop();
    let phids: Vec<Phid> = line
        .iter()
        .map(|revision| revision.fields.diff.clone())
        .collect();
    let diffs: BTreeMap<Phid, DiffInfo> = conduit
        .diffs(&phids)
        .await?
        .into_iter()
        .map(|diff| (diff.phid.clone(), diff))
        .collect();
    let mut patches = Vec::new();
    for revision in line.iter().chain([top]) {
        let diff = if revision.phid == top.phid {
            Some(diff)
        } else {
            diffs.get(&revision.fields.diff)
        };
        let diff = diff.ok_or(RejectReason::NoPatch(revision.id))?;
        patches.push(patch(revision, diff));
    }
    Ok(Stack { patches, landed })
}

fn patch(revision: &RevisionInfo, diff: &DiffInfo) -> Patch {
    let title = revision.fields.title.trim();
    let own = diff.message().is_some();
    Patch {
        revision_id: revision.id,
        diff: diff_of(diff),
        message: (!own && !title.is_empty()).then(|| cut(&revision.fields.title, MAX_TITLE)),
        abandoned: revision.abandoned(),
    }
}

/// The first `length` characters.
fn cut(text: &str, length: usize) -> String {
    text.chars().take(length).collect()
}

/// The fields of a diff that later steps need.
pub(crate) fn diff_of(diff: &DiffInfo) -> Diff {
    Diff {
        id: diff.id,
        phid: diff.phid.clone(),
        created_at: diff.fields.created_at,
        base: diff.base().map(|base| cut(base, MAX_BASE)),
    }
}
