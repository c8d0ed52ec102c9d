//! The order of a stack.
//!
//! The patches of a stack form one line, each after all that it stands on. Among several candidates the smallest revision
//! number comes first, so the same stack always gives the same line. Paths may part and meet again: D9 on D2 and D3, both
//! on D1, becomes D1, D2, D3, D9. The changes of D2 and of D3 were both made on D1; if they conflict, Mercurial rejects
//! them.
//!
//! Parents that do not meet are refused: they were made on different bases, and a build has one. They meet when they stand
//! on the same *root*. A revision whose parents have all landed stands on the base, which is one root however many landed
//! revisions there are. A revision without parents is a root of its own: its base is only in its author's clone. A landed
//! parent beside one that has not landed changes nothing: the base contains it.

use std::collections::{BTreeMap, BTreeSet};

use build::Phid;

use super::{MAX_PATCHES, RejectReason, StackError};
use crate::{Conduit, api::RevisionInfo, visibility::Privacy};

/// A revision and all its ancestors that have not landed.
#[derive(Default)]
pub(super) struct Graph {
    revisions: BTreeMap<Phid, RevisionInfo>,
    /// The direct parents of each revision that have not landed.
    parents: BTreeMap<Phid, BTreeSet<Phid>>,
    /// The direct parents that have landed.
    landed: BTreeSet<Phid>,
    /// The revisions with such a parent.
    on_landed: BTreeSet<Phid>,
    /// The numbers of the public ones among the landed parents.
    named: BTreeSet<u64>,
}

/// The lowest ancestor of a revision.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    /// The base, which contains all landed revisions.
    Base,
    /// The revision of this number, which has no parents.
    Revision(u64),
}

impl Graph {
    /// Follows the parents level by level, with two calls for each.
    pub(super) async fn load(
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
            let edges = conduit
                .parents(&level)
                .await?
                .ok_or(RejectReason::TooMany)?;
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
            // Only for revisions that would be applied: a parent that landed in another repository does no harm.
            if let Some(other) = open
                .iter()
                .find(|revision| revision.fields.repository != top.fields.repository)
            {
                let name = match &other.fields.repository {
                    Some(repository) => conduit.repository_name(repository).await?,
                    None => None,
                };
                return Err(RejectReason::OtherRepository {
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
                return Err(RejectReason::TooMany.into());
            }
        }
        Ok(graph)
    }

    /// The numbers of the public landed parents, in ascending order.
    pub(super) fn landed_numbers(&self) -> Vec<u64> {
        self.named.iter().copied().collect()
    }

    /// The revisions, each after all that it stands on.
    pub(super) fn line(mut self) -> Result<Vec<RevisionInfo>, RejectReason> {
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
                return Err(RejectReason::Cycle(self.on_a_cycle()));
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
                RejectReason::Fork {
                    child: next.id,
                    parents,
                }
            })?;
            roots.insert(next.phid.clone(), root);
            line.push(next);
        }
        Ok(line)
    }

    /// The root of a revision; `None` when its parents do not meet. `known` holds their roots.
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

    /// The parents of a revision that are not on the line yet.
    fn parents_of(&self, phid: &Phid) -> impl Iterator<Item = &RevisionInfo> {
        self.parents
            .get(phid)
            .into_iter()
            .flatten()
            .filter_map(|parent| self.revisions.get(parent))
    }

    /// The lowest number on a cycle. Call it when no revision is ready: then a walk down from any revision reaches a cycle.
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
    fn line(edges: &[(u64, u64)]) -> Result<Vec<u64>, RejectReason> {
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
    fn stack_forms_one_line_when_its_parents_meet() {
        type Case = (
            &'static str,
            &'static [(u64, u64)],
            Result<Vec<u64>, RejectReason>,
        );
        let fork = |child, parents: &[u64]| {
            Err(RejectReason::Fork {
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
            ("itself", &[(1, 1)], Err(RejectReason::Cycle(1))),
            (
                "below a cycle",
                &[(3, 2), (2, 1), (1, 2)],
                Err(RejectReason::Cycle(1)),
            ),
            (
                "a cycle of three",
                &[(1, 5), (5, 6), (6, 7), (7, 5)],
                Err(RejectReason::Cycle(5)),
            ),
        ];
        for (case, edges, expected) in table {
            assert_eq!(line(edges), expected, "{case}");
        }
    }
}
