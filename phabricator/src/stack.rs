//! The stack of patches below a diff.
//!
//! A revision's parents are followed until there are none, or until one has landed: the base has it, and everything
//! below it. An abandoned parent has not landed: nothing says that its change is in the base, and the author built on
//! it, so it is applied like any other.
//!
//! The patches are put on one line, so the order must leave no choice: each must stand on the one before. A parent that
//! is also reached by a longer way (D on P1 and P3, P3 on P2, P2 on P1) leaves none; two parents that do not stand on
//! one another do, and are refused.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::{
    Conduit, ConduitError,
    api::{DiffInfo, RevisionInfo},
    model::{Diff, Patch, Phid},
    visibility,
};

/// The most patches that are applied for one build.
const MAX_PATCHES: usize = 100;
/// The most bytes that the patches of one build have together: a build travels as one message, and moving a message of
/// this size keeps Redis busy for about a second.
const MAX_BYTES: usize = 64 << 20;

/// Why there is no stack.
#[derive(Debug, Error)]
pub(crate) enum StackError {
    /// The stack cannot be built, whoever tries.
    #[error("the stack is refused")]
    Refused(Refusal),
    /// Phabricator gave no answer.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
}

/// Why a stack cannot be built. The numbers are of revisions that are public.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A parent of this revision was deleted or is not public. Nothing is said about which.
    HiddenParent(u64),
    /// The patch of this revision is not there.
    NoPatch(u64),
    /// This revision stands on itself.
    Cycle(u64),
    /// These revisions do not stand on one another.
    Fork(Vec<u64>),
    /// More than [`MAX_PATCHES`], or more edges than can be asked for at once.
    TooMany,
    /// More than [`MAX_BYTES`].
    TooLarge,
}

impl From<Refusal> for StackError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Refusal {
    /// A sentence for the author of `revision_id`, and what to do about it.
    pub(crate) fn in_words(&self, revision_id: u64) -> (String, &'static str) {
        match self {
            Self::HiddenParent(child) => (
                format!(
                    "The stack of D{revision_id} cannot be loaded: a parent of D{child} was deleted or is not public."
                ),
                "Remove that parent in Phabricator, or publish it, and submit again.",
            ),
            Self::NoPatch(id) => (
                format!("The stack of D{revision_id} cannot be loaded: the patch of D{id} cannot be read."),
                "Submit that revision again.",
            ),
            Self::Cycle(id) => (
                format!("The stack of D{revision_id} cannot be ordered: D{id} stands on itself through its parents."),
                "Edit the related revisions in Phabricator so that the parents form one line.",
            ),
            Self::Fork(ids) => {
                let names: Vec<String> = ids.iter().map(|id| format!("D{id}")).collect();
                (
                    format!(
                        "The stack of D{revision_id} is not one line of patches: {} do not stand on one another.",
                        names.join(" and ")
                    ),
                    "Edit the related revisions in Phabricator so that the parents form one line.",
                )
            }
            Self::TooMany => (
                format!(
                    "The stack of D{revision_id} has more than {MAX_PATCHES} patches that have not landed, \
                     or as many links between them."
                ),
                "Land the lower ones first, or submit a shorter stack.",
            ),
            Self::TooLarge => (
                format!("The patches in the stack of D{revision_id} have more than {} MB together.", MAX_BYTES >> 20),
                "Submit smaller patches.",
            ),
        }
    }
}

/// The patches to apply for `diff` of `top`, ancestors first; `diff`'s own is the last. `top` has not landed and is
/// public.
pub(crate) async fn load(conduit: &Conduit, top: &RevisionInfo, diff: &DiffInfo) -> Result<Vec<Patch>, StackError> {
    let mut line = Graph::load(conduit, top).await?.line()?;
    // The graph's newest diff of the top may be newer than the one that is built.
    line.pop();
    let phids: Vec<Phid> = line.iter().map(|revision| revision.fields.diff.clone()).collect();
    let diffs: BTreeMap<Phid, DiffInfo> =
        conduit.diffs(&phids).await?.into_iter().map(|diff| (diff.phid.clone(), diff)).collect();
    let mut bytes = 0;
    let mut patches = Vec::new();
    for revision in line.iter().chain([top]) {
        let diff = if revision.phid == top.phid { Some(diff) } else { diffs.get(&revision.fields.diff) };
        let diff = diff.ok_or(Refusal::NoPatch(revision.id))?;
        let content = match conduit.raw_diff(diff.id).await {
            Ok(content) => content.ok_or(Refusal::NoPatch(revision.id))?,
            Err(ConduitError::TooLarge { .. }) => return Err(Refusal::TooLarge.into()),
            Err(error) => return Err(error.into()),
        };
        bytes += content.len();
        if bytes > MAX_BYTES {
            return Err(Refusal::TooLarge.into());
        }
        patches.push(patch(revision, diff, content));
    }
    Ok(patches)
}

fn patch(revision: &RevisionInfo, diff: &DiffInfo, content: String) -> Patch {
    let commit = diff.first_commit();
    let message = commit.and_then(|commit| commit.message.as_deref()).filter(|message| !message.trim().is_empty());
    let title = Some(revision.fields.title.as_str()).filter(|title| !title.trim().is_empty());
    Patch {
        revision_id: revision.id,
        diff: diff_of(diff),
        author: commit.and_then(|commit| author(commit.author.as_ref()?.raw.as_deref()?)),
        message: message.or(title).map_or_else(|| format!("D{}", revision.id), str::to_owned),
        content: content.into_bytes().into(),
    }
}

/// What later steps need to know of a diff.
pub(crate) fn diff_of(diff: &DiffInfo) -> Diff {
    Diff {
        id: diff.id,
        phid: diff.phid.clone(),
        created_at: diff.fields.created_at,
        base: diff.base().map(str::to_owned),
    }
}

/// `Name <mail>` from `"Name" <mail>`, on one line.
fn author(raw: &str) -> Option<String> {
    let plain: String = raw.chars().filter(|c| *c != '"').map(|c| if c.is_control() { ' ' } else { c }).collect();
    let plain = plain.trim();
    (!plain.is_empty()).then(|| plain.to_owned())
}

/// A revision and all it stands on that has not landed.
struct Graph {
    revisions: BTreeMap<Phid, RevisionInfo>,
    /// For each of them, those of its direct parents that have not landed.
    parents: BTreeMap<Phid, BTreeSet<Phid>>,
}

impl Graph {
    /// Follows the parents level by level, two calls each.
    async fn load(conduit: &Conduit, top: &RevisionInfo) -> Result<Self, StackError> {
        let mut revisions = BTreeMap::from([(top.phid.clone(), top.clone())]);
        let mut parents: BTreeMap<Phid, BTreeSet<Phid>> = BTreeMap::new();
        let mut landed: BTreeSet<Phid> = BTreeSet::new();
        let mut level = vec![top.phid.clone()];
        while !level.is_empty() {
            let edges = conduit.parents(&level).await?.ok_or(Refusal::TooMany)?;
            let unseen: BTreeSet<Phid> = edges
                .iter()
                .map(|edge| &edge.parent)
                .filter(|parent| !revisions.contains_key(parent) && !landed.contains(parent))
                .cloned()
                .collect();
            let unseen: Vec<Phid> = unseen.into_iter().collect();
            let (done, open): (Vec<_>, Vec<_>) =
                conduit.revisions(&unseen).await?.into_iter().partition(RevisionInfo::landed);
            landed.extend(done.into_iter().map(|revision| revision.phid));
            let open = visibility::public(conduit, open).await?;
            level = open.iter().map(|revision| revision.phid.clone()).collect();
            revisions.extend(open.into_iter().map(|revision| (revision.phid.clone(), revision)));
            for edge in edges {
                if landed.contains(&edge.parent) {
                    continue;
                }
                if !revisions.contains_key(&edge.parent) {
                    let child = revisions.get(&edge.child).map_or(top.id, |child| child.id);
                    return Err(Refusal::HiddenParent(child).into());
                }
                parents.entry(edge.child).or_default().insert(edge.parent);
            }
            if revisions.len() > MAX_PATCHES {
                return Err(Refusal::TooMany.into());
            }
        }
        Ok(Self { revisions, parents })
    }

    /// The revisions in the only order in which each comes after all that it stands on.
    fn line(mut self) -> Result<Vec<RevisionInfo>, Refusal> {
        let mut line = Vec::new();
        while !self.revisions.is_empty() {
            let mut ready = self.revisions.values().filter(|revision| self.is_ready(&revision.phid));
            let Some(next) = ready.next() else {
                return Err(Refusal::Cycle(self.on_a_cycle()));
            };
            let mut ids: Vec<u64> = ready.map(|revision| revision.id).chain([next.id]).collect();
            if ids.len() > 1 {
                ids.sort_unstable();
                return Err(Refusal::Fork(ids));
            }
            let next = next.phid.clone();
            line.extend(self.revisions.remove(&next));
        }
        Ok(line)
    }

    /// Whether all it stands on was taken out already.
    fn is_ready(&self, phid: &Phid) -> bool {
        self.parents.get(phid).is_none_or(|parents| parents.iter().all(|parent| !self.revisions.contains_key(parent)))
    }

    /// The lowest number on a cycle, when nothing is ready: going down from anywhere ends up on one.
    fn on_a_cycle(&self) -> u64 {
        let mut path: Vec<&RevisionInfo> = Vec::new();
        let mut at = self.revisions.values().next();
        while let Some(revision) = at {
            if let Some(start) = path.iter().position(|seen| seen.phid == revision.phid) {
                return path[start..].iter().map(|revision| revision.id).min().unwrap_or(revision.id);
            }
            path.push(revision);
            let mut parents = self.parents.get(&revision.phid).into_iter().flatten();
            at = parents.find_map(|parent| self.revisions.get(parent));
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn phid(id: u64) -> Phid {
        Phid::parse(&format!("PHID-DREV-{id:020}")).unwrap()
    }

    fn revision(id: u64) -> RevisionInfo {
        serde_json::from_value(json!({
            "id": id,
            "phid": phid(id),
            "fields": {
                "title": "", "uri": "", "authorPHID": "PHID-USER-a", "status": { "value": "accepted" },
                "repositoryPHID": null, "diffPHID": "PHID-DIFF-a",
            },
            "attachments": { "projects": { "projectPHIDs": [] }, "reviewers": { "reviewers": [] } },
        }))
        .unwrap()
    }

    /// The order for `edges` of child and parent.
    fn line(edges: &[(u64, u64)]) -> Result<Vec<u64>, Refusal> {
        let mut graph = Graph { revisions: BTreeMap::new(), parents: BTreeMap::new() };
        for (child, parent) in edges {
            graph.revisions.insert(phid(*child), revision(*child));
            graph.revisions.insert(phid(*parent), revision(*parent));
            graph.parents.entry(phid(*child)).or_default().insert(phid(*parent));
        }
        graph.line().map(|line| line.iter().map(|revision| revision.id).collect())
    }

    #[test]
    fn a_stack_is_ordered_only_when_the_order_leaves_no_choice() {
        type Edges = &'static [(u64, u64)];
        let table: [(Edges, Result<Vec<u64>, Refusal>); 8] = [
            (&[(2, 1)], Ok(vec![1, 2])),
            // A child may be older than its parent.
            (&[(1, 2), (2, 3)], Ok(vec![3, 2, 1])),
            (&[(9, 1), (9, 3), (3, 2), (2, 1)], Ok(vec![1, 2, 3, 9])),
            (&[(9, 1), (9, 2)], Err(Refusal::Fork(vec![1, 2]))),
            // Two ways that part and meet again.
            (&[(9, 2), (9, 3), (2, 1), (3, 1)], Err(Refusal::Fork(vec![2, 3]))),
            (&[(1, 1)], Err(Refusal::Cycle(1))),
            (&[(3, 2), (2, 1), (1, 2)], Err(Refusal::Cycle(1))),
            (&[(1, 5), (5, 6), (6, 7), (7, 5)], Err(Refusal::Cycle(5))),
        ];
        for (edges, expected) in table {
            assert_eq!(line(edges), expected, "{edges:?}");
        }
    }

    #[test]
    fn an_author_is_a_plain_line() {
        let table = [
            ("\"Alice Example\" <alice@example.com>", Some("Alice Example <alice@example.com>")),
            ("Alice\n<alice@example.com>", Some("Alice <alice@example.com>")),
            ("\"\"", None),
            (" ", None),
        ];
        for (raw, expected) in table {
            assert_eq!(author(raw).as_deref(), expected, "{raw:?}");
        }
    }
}
