//! Queries of a clone: commits and branches. They block.

use std::collections::{BTreeMap, HashSet};

use gix::{ObjectId, hash::Prefix, objs::Kind};
use jiff::Timestamp;
use worker::{WorkerError, revision::RevisionName};

use super::{Refs, default_revision::DEFAULT_BRANCH};
use crate::fault;

/// Whether file contents are fetched when they are needed.
pub(super) fn is_partial(repository: &gix::ThreadSafeRepository) -> bool {
    repository
        .to_thread_local()
        .config_snapshot()
        .string("extensions.partialClone")
        .is_some()
}

/// The branches with their commits.
pub(super) fn refs(repository: &gix::Repository) -> Result<Refs, WorkerError> {
    let listing = || -> gix::Result<Refs> {
        let mut refs = BTreeMap::new();
        let platform = repository.references()?;
        for branch in platform.local_branches()? {
            let branch = branch?;
            if let Some(id) = branch.try_id() {
                refs.insert(branch.name().as_bstr().to_vec(), id.detach());
            }
        }
        Ok(refs)
    };
    listing().map_err(fault::read("list the branches"))
}

/// The commit that `default_revision` names in the clone.
pub(super) fn local(
    repository: &gix::Repository,
    name: &str,
) -> Result<Option<ObjectId>, WorkerError> {
    let candidates = if DEFAULT_BRANCH.contains(&name) {
        vec!["HEAD".to_owned()]
    } else if name.starts_with("refs/") {
        vec![name.to_owned()]
    } else {
        vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")]
    };
    let finding = || -> gix::Result<Option<ObjectId>> {
        for candidate in &candidates {
            // A name that no ref can have is not there.
            let Ok(Some(mut found)) = repository.try_find_reference(candidate.as_str()) else {
                continue;
            };
            if found.follow_to_object().is_err() {
                // `HEAD` can name a branch that the source has deleted.
                continue;
            }
            return Ok(Some(found.peel_to_commit()?.id));
        }
        Ok(None)
    };
    finding().map_err(fault::read("find the source tip"))
}

/// Whether the clone has this object, and it is a commit.
pub(super) fn is_commit(repository: &gix::Repository, id: ObjectId) -> Result<bool, WorkerError> {
    let header = repository
        .try_find_header(id)
        .map_err(fault::read(format!("read commit {id}")))?;
    Ok(header.is_some_and(|header| header.kind() == Kind::Commit))
}

/// The tree of a commit that the clone has to have.
pub(crate) fn tree_of(
    repository: &gix::Repository,
    commit: ObjectId,
) -> Result<ObjectId, WorkerError> {
    let doing = format!("read commit {commit}");
    let reading = || -> gix::Result<Option<ObjectId>> {
        let Some(commit) = repository.try_find_object(commit)? else {
            return Ok(None);
        };
        let tree = commit.into_commit().tree_id()?.detach();
        Ok(repository.try_find_object(tree)?.map(|_| tree))
    };
    reading()
        .map_err(fault::read(doing.as_str()))?
        .ok_or_else(|| fault::lost(doing, "it is not there, or its tree"))
}

/// The commits with these names, each once, the newest last: none is in the history of one before it. A name that is
/// unknown or ambiguous is left out.
pub(crate) fn known(
    repository: &gix::Repository,
    names: &[RevisionName],
) -> Result<Vec<ObjectId>, WorkerError> {
    let doing = "look up commits";
    let mut found = HashSet::new();
    for name in names {
        found.extend(named(repository, name)?);
    }
    let graph = repository
        .commit_graph_if_enabled()
        .map_err(fault::read(doing))?;
    let mut dated = Vec::new();
    for id in found {
        // A commit's generation is larger than those of all in its history. One that is not in the graph came later.
        let generation = graph
            .as_ref()
            .and_then(|graph| graph.commit_by_id(id))
            .map_or(u32::MAX, |commit| commit.generation());
        let commit = repository.find_commit(id).map_err(fault::read(doing))?;
        let time = commit.time().map_err(fault::read(doing))?;
        dated.push((generation, time.seconds, id));
    }
    dated.sort_unstable();
    Ok(dated.into_iter().map(|(_, _, id)| id).collect())
}

/// The commit with this name, if there is one alone.
fn named(
    repository: &gix::Repository,
    name: &RevisionName,
) -> Result<Option<ObjectId>, WorkerError> {
    if let Ok(id) = ObjectId::from_hex(name.as_str().as_bytes()) {
        return Ok(is_commit(repository, id)?.then_some(id));
    }
    let Ok(prefix) = Prefix::from_hex(name.as_str()) else {
        return Ok(None);
    };
    let mut candidates = HashSet::new();
    repository
        .objects
        .lookup_prefix(prefix, Some(&mut candidates))
        .map_err(fault::read("look up commits"))?;
    let mut commits = Vec::new();
    for id in candidates {
        if is_commit(repository, id)? {
            commits.push(id);
        }
    }
    Ok(match commits.as_slice() {
        [one] => Some(*one),
        _ => None,
    })
}

/// Whether the history of `newest` holds all of `others`.
pub(crate) fn contains(
    repository: &gix::Repository,
    newest: ObjectId,
    others: &[ObjectId],
) -> Result<bool, WorkerError> {
    let looking = || -> gix::Result<bool> {
        let cache = repository.commit_graph_if_enabled()?;
        let mut graph = repository.revision_graph(cache.as_ref());
        for other in others {
            if *other == newest {
                continue;
            }
            let base = repository.merge_base_with_graph(newest, *other, &mut graph)?;
            if base.map(gix::Id::detach) != Some(*other) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    looking().map_err(fault::read("compare commits"))
}

/// The newest commit that the line of `head` had on `date`. It follows first parents: a commit that was made on a branch
/// before `date`, and merged after it, was not on the line then.
pub(crate) fn newest_before(
    repository: &gix::Repository,
    head: ObjectId,
    date: Timestamp,
) -> Result<Option<ObjectId>, WorkerError> {
    let date = date.as_second();
    let walking = || -> gix::Result<Option<ObjectId>> {
        let graph = repository.commit_graph_if_enabled()?;
        let mut next = Some(head);
        while let Some(id) = next {
            let (time, parent) = step(repository, graph.as_ref(), id)?;
            if time <= date {
                return Ok(Some(id));
            }
            next = parent;
        }
        Ok(None)
    };
    walking().map_err(fault::read("find a commit by its date"))
}

/// The time and the first parent of a commit. The walks of `gix` give no times along first parents.
fn step(
    repository: &gix::Repository,
    graph: Option<&gix::commitgraph::Graph>,
    id: ObjectId,
) -> gix::Result<(i64, Option<ObjectId>)> {
    if let Some(graph) = graph
        && let Some(commit) = graph.commit_by_id(id)
    {
        let parent = commit.parent1()?.map(|at| graph.id_at(at).to_owned());
        let time = i64::try_from(commit.committer_timestamp()).unwrap_or(i64::MAX);
        return Ok((time, parent));
    }
    let commit = repository.find_commit(id)?;
    let parent = commit.parent_ids().next().map(gix::Id::detach);
    Ok((commit.time()?.seconds, parent))
}
