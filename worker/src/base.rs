//! The choice of the base that a stack is applied on.
//!
//! # Why the choice is recorded
//!
//! A build's changesets are a function of its base, its stack and its target. A build is delivered again after its push
//! when its worker died before it settled the delivery. Then the same changesets must come out, here or on another
//! machine, so that the second push finds "no changes". Other changesets would be a second head, which would run all
//! jobs twice.
//!
//! The stack and the target are in the message. The base often is not: when the stack names one that is not known here,
//! the build goes on the newest revision, which is another one a minute later. Even a named base can be unknown at
//! first, and known after the next pull. So the worker records its choice before it makes the first changeset. A later
//! delivery keeps to the recorded choice; of two deliveries at once, the first to record decides. A recorded base that
//! the source does not have any more is replaced, as nothing can be built on it.
//!
//! # The choice
//!
//! Tests should run on what the author saw:
//!
//! * The stack goes on the base that it names, when it is known here.
//! * Each patch names a base. Of several known ones, the worker takes the newest that contains the others: the author
//!   made an upper patch on what the lower ones were moved to. Most upper patches name the changeset of the patch
//!   below, which only the author has. If the stack does not apply, the worker pulls, and chooses again: the clone may
//!   have lacked one of them.
//! * When no named base is known, the newest changeset at the time of the diff is the best guess. The newest one of all
//!   is used if the stack does not apply there, as with a rebase.
//! * A stack on revisions that have landed goes on the newest changeset at once: they may have landed since the diff.
//!
//! # Names of the other version control
//!
//! With `base_mapping`, a name that the clone does not know is also looked up there, the lowest one first. An author makes
//! a diff on what was pushed before, and a push is mapped some minutes later. So while the lowest base is neither known nor
//! mapped, the build is deferred until [`MAPPED_WITHIN`] after its diff was made. That a service does not respond makes no
//! difference. An older diff is not deferred: its base was never pushed.

use std::time::Duration;

use build::{BaseChoice, BaseReason, Build, BuildLog, Phid};
use bus::Context;

use crate::{
    WorkerError,
    repository::Repository,
    revision::{Revision, RevisionName},
    text,
    vcs::VcsClone,
};

/// The time from a diff until its base is mapped, if it ever is.
const MAPPED_WITHIN: Duration = Duration::from_secs(600);

/// The most names of one stack that are looked up beside the lowest one. Most are of commits that only their author has.
const MAPPED_NAMES: usize = 10;

/// A chosen base, and its revision in the clone.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) choice: BaseChoice,
    pub(crate) revision: Revision,
}

/// Access to the base in the record of a build.
#[derive(Clone, Copy)]
pub(crate) struct RecordedBase<'a> {
    pub(crate) cx: &'a Context,
    pub(crate) log: &'a BuildLog,
    pub(crate) target: &'a Phid,
    /// The base that an earlier delivery chose.
    pub(crate) before: Option<&'a BaseChoice>,
}

impl RecordedBase<'_> {
    /// Records the base, unless another delivery has recorded one; returns the recorded base.
    async fn choose(self, choice: BaseChoice) -> Result<BaseChoice, WorkerError> {
        Ok(self.log.choose_base(self.cx, self.target, &choice).await?)
    }

    /// Replaces the base `tried` in the record, unless another delivery has; returns the recorded base.
    async fn choose_instead(
        self,
        tried: &BaseChoice,
        choice: BaseChoice,
    ) -> Result<BaseChoice, WorkerError> {
        let (log, target) = (self.log, self.target);
        Ok(log
            .choose_base_instead(self.cx, target, tried, &choice)
            .await?)
    }
}

/// Chooses the base of a build, and records the choice before a changeset is made on it.
pub(crate) async fn choose(
    clone: &mut dyn VcsClone,
    build: &Build,
    repository: &Repository,
    recorded: RecordedBase<'_>,
) -> Result<Base, WorkerError> {
    if let Some(choice) = recorded.before
        && let Some(revision) = find_or_update(clone, &choice.used).await?
    {
        return Ok(Base {
            choice: choice.clone(),
            revision,
        });
    }
    let (revision, reason) = find(clone, build, repository, recorded.cx).await?;
    let choice = choice_for(build, &revision, reason);
    let agreed = match recorded.before {
        None => recorded.choose(choice).await?,
        Some(gone) => recorded.choose_instead(gone, choice).await?,
    };
    resolve(clone, agreed, revision, repository).await
}

/// Chooses the newest changeset for a stack that does not apply on `tried`, which was chosen by date. Returns `None`
/// when `tried` is the newest. The clone must hold no changeset of a build.
pub(crate) async fn newest_instead(
    clone: &mut dyn VcsClone,
    build: &Build,
    repository: &Repository,
    recorded: RecordedBase<'_>,
    tried: &BaseChoice,
) -> Result<Option<Base>, WorkerError> {
    let revision = clone.default_revision().await?;
    if revision.id == tried.used {
        return Ok(None);
    }
    let tried_node = Some(tried.used.clone());
    let choice = BaseChoice {
        tried: tried_node,
        ..choice(&revision, lowest(build), unknown(build))
    };
    let agreed = recorded.choose_instead(tried, choice).await?;
    resolve(clone, agreed, revision, repository).await.map(Some)
}

/// Chooses among the named bases again, after a pull, for a stack that does not apply on `tried`. Returns `None` when the
/// choice stays. The clone must hold no changeset of a build.
///
/// An upper patch can name a changeset of the source that the clone does not have yet. The worker does not pull for that
/// beforehand: most upper patches name the changeset of the patch below, which no source has.
pub(crate) async fn named_instead(
    clone: &mut dyn VcsClone,
    build: &Build,
    repository: &Repository,
    recorded: RecordedBase<'_>,
    tried: &BaseChoice,
) -> Result<Option<Base>, WorkerError> {
    let mut named = named_by(build);
    if clone.known(&named).await?.len() == named.len() {
        return Ok(None);
    }
    map(clone, repository, recorded.cx, &mut named).await?;
    clone.update().await?;
    let Some(revision) = newest_named(clone, &named).await? else {
        return Ok(None);
    };
    if revision.id == tried.used {
        return Ok(None);
    }
    let choice = choice_for(build, &revision, BaseReason::NewestNamed);
    let agreed = recorded.choose_instead(tried, choice).await?;
    resolve(clone, agreed, revision, repository).await.map(Some)
}

/// Chooses the base that the lowest diff was staged with, in place of any other.
pub(crate) async fn staged(
    clone: &mut dyn VcsClone,
    build: &Build,
    repository: &Repository,
    recorded: RecordedBase<'_>,
    revision: &Revision,
) -> Result<Base, WorkerError> {
    let named = lowest(build).filter(|name| *name != revision.id);
    let choice = choice(revision, named, BaseReason::Staged);
    let mut agreed = recorded.choose(choice.clone()).await?;
    if agreed != choice {
        agreed = recorded.choose_instead(&agreed, choice).await?;
    }
    resolve(clone, agreed, revision.clone(), repository).await
}

/// Finds the revision with this id; pulls if the clone does not have it. The clone must hold no changeset of a build.
async fn find_or_update(
    clone: &mut dyn VcsClone,
    id: &str,
) -> Result<Option<Revision>, WorkerError> {
    let Some(name) = RevisionName::parse(id) else {
        return Ok(None);
    };
    let name = [name];
    if let Some(found) = clone.known(&name).await?.pop() {
        return Ok(Some(found));
    }
    clone.update().await?;
    Ok(clone.known(&name).await?.pop())
}

/// The recorded base, which may be the choice of another delivery.
async fn resolve(
    clone: &mut dyn VcsClone,
    choice: BaseChoice,
    ours: Revision,
    repository: &Repository,
) -> Result<Base, WorkerError> {
    let revision = if choice.used == ours.id {
        ours
    } else {
        find_or_update(clone, &choice.used)
            .await?
            .ok_or_else(|| WorkerError::UnknownBase {
                repository: repository.settings().name.clone(),
                base: choice.used.clone(),
            })?
    };
    Ok(Base { choice, revision })
}

/// The base for a build, and the reason for it when it is not the one that the lowest patch names.
async fn find(
    clone: &mut dyn VcsClone,
    build: &Build,
    repository: &Repository,
    cx: &Context,
) -> Result<(Revision, BaseReason), WorkerError> {
    if repository.settings().use_latest_revision {
        return Ok((clone.default_revision().await?, BaseReason::Latest));
    }
    if let Some(found) = named(clone, build, repository, cx).await? {
        return Ok(found);
    }
    if repository.base_mapping().is_some()
        && let Some(base) = unmapped(build, cx)
    {
        return Err(WorkerError::NotMapped {
            repository: repository.settings().name.clone(),
            base: base.as_str().to_owned(),
        });
    }
    let newest = clone.default_revision().await?;
    if build.landed.is_empty()
        && let Some(old) = clone.newest_before(&newest, build.diff.created_at).await?
        && old.id != newest.id
    {
        return Ok((old, BaseReason::ByDate));
    }
    Ok((newest, unknown(build)))
}

/// [`newest_named`] of a build, and the reason for it. Pulls if the clone does not have the base of the lowest patch.
async fn named(
    clone: &mut dyn VcsClone,
    build: &Build,
    repository: &Repository,
    cx: &Context,
) -> Result<Option<(Revision, BaseReason)>, WorkerError> {
    let mut named = named_by(build);
    let Some(first) = named.first().cloned() else {
        return Ok(None);
    };
    let known = clone.known(&named).await?;
    if !known.iter().any(|revision| first.names(revision)) {
        map(clone, repository, cx, &mut named[..1]).await?;
        if clone.known(&named[..1]).await?.is_empty() {
            clone.update().await?;
        }
        if clone.known(&named[..1]).await?.is_empty() {
            map(clone, repository, cx, &mut named[1..]).await?;
        }
    }
    let is_mapped = named[0] != first && Some(first) == lowest_name(build);
    Ok(newest_named(clone, &named).await?.map(|revision| {
        let reason = if is_mapped && named[0].names(&revision) {
            BaseReason::Mapped
        } else {
            BaseReason::NewestNamed
        };
        (revision, reason)
    }))
}

/// Replaces the names that the clone does not know by the hashes that they are mapped to, up to [`MAPPED_NAMES`].
async fn map(
    clone: &mut dyn VcsClone,
    repository: &Repository,
    cx: &Context,
    names: &mut [RevisionName],
) -> Result<(), WorkerError> {
    let Some(mapping) = repository.base_mapping() else {
        return Ok(());
    };
    let known = clone.known(names).await?;
    let unknown = names
        .iter_mut()
        .filter(|name| !known.iter().any(|revision| name.names(revision)));
    for name in unknown.take(MAPPED_NAMES) {
        if let Some(hash) = mapping.find(cx, name).await? {
            *name = hash;
        }
    }
    Ok(())
}

/// The base of the lowest patch, if it may be mapped soon. A stack on landed revisions names a commit of its author.
fn unmapped(build: &Build, cx: &Context) -> Option<RevisionName> {
    let made = build.stack.first()?.diff.created_at;
    let until = made.checked_add(MAPPED_WITHIN).ok()?;
    lowest_name(build).filter(|_| build.landed.is_empty() && cx.clock().now() < until)
}

/// The bases that the patches of a build name, that of the lowest patch first.
fn named_by(build: &Build) -> Vec<RevisionName> {
    let mut named = Vec::new();
    for patch in &build.stack {
        if let Some(name) = patch.diff.base.as_deref().and_then(RevisionName::parse)
            && !named.contains(&name)
        {
            named.push(name);
        }
    }
    named
}

/// The newest of `named` that the clone has, if it contains the others that the clone has; else the first that it has.
async fn newest_named(
    clone: &mut dyn VcsClone,
    named: &[RevisionName],
) -> Result<Option<Revision>, WorkerError> {
    let known = clone.known(named).await?;
    let Some(newest) = known.last().cloned() else {
        return Ok(None);
    };
    if known.len() == 1 || clone.contains(&newest, &known).await? {
        return Ok(Some(newest));
    }
    Ok(named
        .iter()
        .find_map(|name| known.iter().find(|revision| name.names(revision)))
        .cloned())
}

/// The base that the lowest patch names. It can be any text.
fn lowest(build: &Build) -> Option<&str> {
    build
        .stack
        .first()
        .and_then(|patch| patch.diff.base.as_deref())
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// The base that the lowest patch names, if a revision can have that name.
fn lowest_name(build: &Build) -> Option<RevisionName> {
    lowest(build).and_then(RevisionName::parse)
}

/// The reason for which no named base was used.
fn unknown(build: &Build) -> BaseReason {
    match lowest(build) {
        None => BaseReason::Unnamed,
        Some(name)
            if (12..=40).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            BaseReason::Unknown
        }
        Some(_) => BaseReason::NotAHash,
    }
}

/// The choice of `revision`; `reason` counts unless the lowest patch names it.
fn choice_for(build: &Build, revision: &Revision, reason: BaseReason) -> BaseChoice {
    let named = lowest(build);
    let is_named = lowest_name(build).is_some_and(|name| name.names(revision));
    if is_named {
        choice(revision, None, BaseReason::Named)
    } else {
        choice(revision, named, reason)
    }
}

fn choice(revision: &Revision, named: Option<&str>, reason: BaseReason) -> BaseChoice {
    // Foreign text, which is shown later.
    let instead_of = named.map(|name| text::cut(&text::path(name.as_bytes()), 60));
    BaseChoice {
        used: revision.id.clone(),
        instead_of,
        reason,
        tried: None,
    }
}
