//! The stack of patches below a diff.
//!
//! A revision's parents are followed until there are none, or until one has landed: the base has it, and everything
//! below it. An abandoned parent has not landed: nothing says that its change is in the base, and the author built on
//! it, so it is applied like any other.
//!
//! # One line
//!
//! The patches are put on one line, each after all that it stands on; where that leaves a choice, the smallest
//! revision number comes first, so that the same stack always gives the same line. Ways that part and meet again are
//! fine: D9 on D2 and D3, both on D1, becomes D1, D2, D3, D9. The changes of D2 and of D3 were both made on D1, and
//! whether they get along is for Mercurial to find out.
//!
//! Parents that do not meet are refused: they were made on different things, of which only one can be the base. They
//! meet when they stand on the same *root*. A revision whose parents have all landed stands on the base, which is one
//! root however many landed revisions there are. A revision without any parents is a root of its own: what it was
//! made on is only in its author's clone. A landed parent beside one that has not landed says nothing more: the base
//! has it.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::{
    Conduit, ConduitError,
    api::{DiffInfo, RevisionInfo},
    visibility::Privacy,
};
use build::{Diff, Patch, PatchFailure, Phid, Report};

/// The most patches that are applied for one build.
const MAX_PATCHES: usize = 100;
/// The most bytes that the patches of one build have together.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// The longest title that becomes the message of a changeset, and the longest base that is kept, in characters. A base is a
/// changeset's hash, with spaces around it perhaps, and anything else is only shown.
const MAX_TITLE: usize = 1000;
const MAX_BASE: usize = 200;

/// Why there is no stack.
#[derive(Debug, Error)]
pub(crate) enum StackError {
    /// The stack cannot be built, whoever tries.
    #[error("the stack is refused")]
    Refused(Refusal),
    /// A parent of this revision was deleted or is not public. Nothing is said about which.
    #[error("a parent of D{0} is not public")]
    HiddenParent(u64),
    /// Phabricator gave no answer.
    #[error(transparent)]
    Conduit(#[from] ConduitError),
}

/// Why a stack cannot be built. The numbers are of revisions that are public.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This revision, on which the stack stands, is for another repository: the one with this name, if it may be known.
    OtherRepository { parent: u64, name: Option<String> },
    /// The patch of this revision is not there.
    NoPatch(u64),
    /// This revision stands on itself.
    Cycle(u64),
    /// This revision's parents, which these are, do not meet.
    Fork { child: u64, parents: Vec<u64> },
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
    /// The report to the author of `revision_id`, after so many seconds.
    pub(crate) fn report(&self, revision_id: u64, seconds: f64) -> Report {
        Report::PatchFailed(self.failure(revision_id, seconds))
    }

    /// What the author of `revision_id` reads, after so many seconds.
    pub(crate) fn failure(&self, revision_id: u64, seconds: f64) -> PatchFailure {
        let (summary, advice) = self.in_words(revision_id);
        let (details, commands, advice) = (String::new(), String::new(), advice.to_owned());
        PatchFailure {
            summary,
            details,
            advice,
            commands,
            base: None,
            seconds,
        }
    }

    /// A sentence for the author of `revision_id`, and what to do about it.
    fn in_words(&self, revision_id: u64) -> (String, &'static str) {
        match self {
            Self::OtherRepository { parent, name } => (
                format!(
                    "The stack of D{revision_id} cannot be built: D{parent}, on which it stands, is for {}.",
                    name.as_deref().map_or_else(
                        || "another repository".to_owned(),
                        |name| format!("the repository {name}")
                    )
                ),
                "Remove that parent (\"Edit Related Revisions\" in Phabricator), or correct the repository of the revision, \
                 and submit again. Nothing was applied.",
            ),
            Self::NoPatch(id) => (
                format!(
                    "The stack of D{revision_id} cannot be loaded: the patch of D{id} cannot be read."
                ),
                "Submit that revision again.",
            ),
            Self::Cycle(id) => (
                format!(
                    "The stack of D{revision_id} cannot be ordered: D{id} stands on itself through its parents."
                ),
                "Edit the related revisions in Phabricator so that the parents form one line.",
            ),
            Self::Fork { child, parents } => {
                let names: Vec<String> = parents.iter().map(|id| format!("D{id}")).collect();
                (
                    format!(
                        "The stack of D{revision_id} cannot be ordered: D{child} has the parents {}, which do not stand \
                         on a common revision.",
                        names.join(" and ")
                    ),
                    "Make one of them a parent of the other (\"Edit Related Revisions\" in Phabricator), or land one first.",
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
                format!(
                    "The patches in the stack of D{revision_id} have more than {} MB together.",
                    MAX_BYTES >> 20
                ),
                "Submit smaller patches.",
            ),
        }
    }
}

/// What to apply for a diff.
pub(crate) struct Stack {
    /// The patches, ancestors first; the diff's own is the last.
    pub(crate) patches: Vec<Patch>,
    /// The revisions that they stand on and that have landed, in ascending order.
    pub(crate) landed: Vec<u64>,
}

/// Loads what to apply for `diff` of `top`, which has not landed and is public. `privacy` says which others are.
pub(crate) async fn load(
    conduit: &Conduit,
    privacy: &Privacy,
    top: &RevisionInfo,
    diff: &DiffInfo,
) -> Result<Stack, StackError> {
    let graph = Graph::load(conduit, privacy, top).await?;
    let landed = graph.named.iter().copied().collect();
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
        let diff = diff.ok_or(Refusal::NoPatch(revision.id))?;
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

/// What later steps need to know of a diff.
pub(crate) fn diff_of(diff: &DiffInfo) -> Diff {
    Diff {
        id: diff.id,
        phid: diff.phid.clone(),
        created_at: diff.fields.created_at,
        base: diff.base().map(|base| cut(base, MAX_BASE)),
    }
}

/// A revision and all it stands on that has not landed.
#[derive(Default)]
struct Graph {
    revisions: BTreeMap<Phid, RevisionInfo>,
    /// For each of them, those of its direct parents that have not landed.
    parents: BTreeMap<Phid, BTreeSet<Phid>>,
    /// Direct parents of them that have landed.
    landed: BTreeSet<Phid>,
    /// Those of them that have such a parent.
    on_landed: BTreeSet<Phid>,
    /// The numbers of the landed parents that may be spoken of.
    named: BTreeSet<u64>,
}

/// What a revision stands on in the end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    /// The base, which has all that has landed.
    Base,
    /// The revision of this number, which has no parents.
    Revision(u64),
}

impl Graph {
    /// Follows the parents level by level, two calls each.
    async fn load(
        conduit: &Conduit,
        privacy: &Privacy,
        top: &RevisionInfo,
    ) -> Result<Self, StackError> {
        let mut graph = Self {
            revisions: BTreeMap::from([(top.phid.clone(), top.clone())]),
            ..Self::default()
        };
        let mut level = vec![top.phid.clone()];
        while !level.is_empty() {
            let edges = conduit.parents(&level).await?.ok_or(Refusal::TooMany)?;
            let unseen: BTreeSet<Phid> = edges
                .iter()
                .map(|edge| &edge.parent)
                .filter(|parent| {
                    !graph.revisions.contains_key(parent) && !graph.landed.contains(parent)
                })
                .cloned()
                .collect();
            let unseen: Vec<Phid> = unseen.into_iter().collect();
            let (done, open): (Vec<_>, Vec<_>) = conduit
                .revisions(&unseen)
                .await?
                .into_iter()
                .partition(RevisionInfo::landed);
            graph
                .landed
                .extend(done.iter().map(|revision| revision.phid.clone()));
            graph
                .named
                .extend(privacy.public(done).iter().map(|revision| revision.id));
            let open = privacy.public(open);
            // One that has landed elsewhere is not applied here.
            if let Some(other) = open
                .iter()
                .find(|revision| revision.fields.repository != top.fields.repository)
            {
                let name = match &other.fields.repository {
                    Some(repository) => conduit.repository_name(repository).await?,
                    None => None,
                };
                return Err(Refusal::OtherRepository {
                    parent: other.id,
                    name,
                }
                .into());
            }
            level = open.iter().map(|revision| revision.phid.clone()).collect();
            graph.revisions.extend(
                open.into_iter()
                    .map(|revision| (revision.phid.clone(), revision)),
            );
            for edge in edges {
                if graph.landed.contains(&edge.parent) {
                    graph.on_landed.insert(edge.child);
                } else if graph.revisions.contains_key(&edge.parent) {
                    graph
                        .parents
                        .entry(edge.child)
                        .or_default()
                        .insert(edge.parent);
                } else {
                    let child = graph
                        .revisions
                        .get(&edge.child)
                        .map_or(top.id, |child| child.id);
                    return Err(StackError::HiddenParent(child));
                }
            }
            if graph.revisions.len() > MAX_PATCHES {
                return Err(Refusal::TooMany.into());
            }
        }
        Ok(graph)
    }

    /// The revisions, each after all that it stands on.
    fn line(mut self) -> Result<Vec<RevisionInfo>, Refusal> {
        let mut line: Vec<RevisionInfo> = Vec::new();
        let mut roots: BTreeMap<Phid, Root> = BTreeMap::new();
        while !self.revisions.is_empty() {
            let ready = self
                .revisions
                .values()
                .filter(|revision| self.parents_of(&revision.phid).next().is_none());
            let Some(next) = ready
                .min_by_key(|revision| revision.id)
                .map(|revision| revision.phid.clone())
            else {
                return Err(Refusal::Cycle(self.on_a_cycle()));
            };
            let Some(next) = self.revisions.remove(&next) else {
                break;
            };
            let root = self.root(&next, &roots).ok_or_else(|| {
                let stands_on = |id: &&RevisionInfo| {
                    self.parents
                        .get(&next.phid)
                        .is_some_and(|it| it.contains(&id.phid))
                };
                let mut parents: Vec<u64> = line
                    .iter()
                    .filter(stands_on)
                    .map(|parent| parent.id)
                    .collect();
                parents.sort_unstable();
                Refusal::Fork {
                    child: next.id,
                    parents,
                }
            })?;
            roots.insert(next.phid.clone(), root);
            line.push(next);
        }
        Ok(line)
    }

    /// What a revision stands on in the end, when its parents meet. Theirs are known.
    fn root(&self, revision: &RevisionInfo, known: &BTreeMap<Phid, Root>) -> Option<Root> {
        let parents = self.parents.get(&revision.phid).into_iter().flatten();
        let roots: BTreeSet<Root> = parents
            .filter_map(|parent| known.get(parent))
            .copied()
            .collect();
        match (roots.first(), roots.len()) {
            (Some(root), 1) => Some(*root),
            (Some(_), _) => None,
            (None, _) if self.on_landed.contains(&revision.phid) => Some(Root::Base),
            (None, _) => Some(Root::Revision(revision.id)),
        }
    }

    /// Those of a revision's parents that are not on the line yet.
    fn parents_of(&self, phid: &Phid) -> impl Iterator<Item = &RevisionInfo> {
        self.parents
            .get(phid)
            .into_iter()
            .flatten()
            .filter_map(|parent| self.revisions.get(parent))
    }

    /// The lowest number on a cycle, when nothing is ready: going down from anywhere ends up on one.
    fn on_a_cycle(&self) -> u64 {
        let mut path: Vec<&RevisionInfo> = Vec::new();
        let mut at = self.revisions.values().next();
        while let Some(revision) = at {
            if let Some(start) = path.iter().position(|seen| seen.phid == revision.phid) {
                return path[start..]
                    .iter()
                    .map(|revision| revision.id)
                    .min()
                    .unwrap_or(revision.id);
            }
            path.push(revision);
            at = self.parents_of(&revision.phid).next();
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
                "repositoryPHID": null, "diffPHID": "PHID-DIFF-a", "dateModified": 0, "policy": { "view": "users" },
            },
            "attachments": { "projects": { "projectPHIDs": [] }, "reviewers": { "reviewers": [] } },
        }))
        .unwrap()
    }

    /// The order for `edges` of child and parent; 0 is a parent that has landed.
    fn line(edges: &[(u64, u64)]) -> Result<Vec<u64>, Refusal> {
        let mut graph = Graph::default();
        for (child, parent) in edges {
            graph.revisions.insert(phid(*child), revision(*child));
            if *parent == 0 {
                graph.on_landed.insert(phid(*child));
            } else {
                graph.revisions.insert(phid(*parent), revision(*parent));
                graph
                    .parents
                    .entry(phid(*child))
                    .or_default()
                    .insert(phid(*parent));
            }
        }
        graph
            .line()
            .map(|line| line.iter().map(|revision| revision.id).collect())
    }

    #[test]
    fn a_stack_is_put_on_one_line_when_its_parents_meet() {
        type Case = (
            &'static str,
            &'static [(u64, u64)],
            Result<Vec<u64>, Refusal>,
        );
        let fork = |child, parents: &[u64]| {
            Err(Refusal::Fork {
                child,
                parents: parents.to_vec(),
            })
        };
        let table: [Case; 16] = [
            ("a line", &[(2, 1)], Ok(vec![1, 2])),
            (
                "a child older than its parent",
                &[(1, 2), (2, 3)],
                Ok(vec![3, 2, 1]),
            ),
            (
                "a short and a long way",
                &[(9, 1), (9, 3), (3, 2), (2, 1)],
                Ok(vec![1, 2, 3, 9]),
            ),
            (
                "a diamond",
                &[(9, 2), (9, 3), (2, 1), (3, 1)],
                Ok(vec![1, 2, 3, 9]),
            ),
            (
                "the smaller number first",
                &[(9, 3), (9, 2), (9, 4), (2, 8), (3, 8), (4, 8)],
                Ok(vec![8, 2, 3, 4, 9]),
            ),
            (
                "but after its parent",
                &[(9, 2), (9, 5), (2, 7), (7, 1), (5, 1)],
                Ok(vec![1, 5, 7, 2, 9]),
            ),
            (
                "a diamond on a diamond",
                &[
                    (9, 7),
                    (9, 8),
                    (7, 6),
                    (8, 6),
                    (6, 2),
                    (6, 3),
                    (2, 1),
                    (3, 1),
                ],
                Ok(vec![1, 2, 3, 6, 7, 8, 9]),
            ),
            (
                "two on what has landed",
                &[(9, 2), (9, 3), (2, 0), (3, 0)],
                Ok(vec![2, 3, 9]),
            ),
            (
                "a landed parent beside another",
                &[(9, 0), (9, 2)],
                Ok(vec![2, 9]),
            ),
            ("two without a parent", &[(9, 1), (9, 2)], fork(9, &[1, 2])),
            (
                "one of two has landed below",
                &[(9, 2), (9, 3), (3, 0)],
                fork(9, &[2, 3]),
            ),
            (
                "not even at the bottom",
                &[(9, 3), (9, 4), (3, 1), (4, 2)],
                fork(9, &[3, 4]),
            ),
            ("further down", &[(9, 8), (8, 1), (8, 2)], fork(8, &[1, 2])),
            ("itself", &[(1, 1)], Err(Refusal::Cycle(1))),
            (
                "below a cycle",
                &[(3, 2), (2, 1), (1, 2)],
                Err(Refusal::Cycle(1)),
            ),
            (
                "a cycle of three",
                &[(1, 5), (5, 6), (6, 7), (7, 5)],
                Err(Refusal::Cycle(5)),
            ),
        ];
        for (case, edges, expected) in table {
            assert_eq!(line(edges), expected, "{case}");
        }
    }
}
