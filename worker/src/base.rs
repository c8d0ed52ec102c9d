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

use build::{BaseChoice, BaseReason, Build, BuildLog, Phid};
use bus::Context;

use crate::{
    RepositorySettings, WorkerError,
    revision::{Revision, RevisionName},
    text,
    vcs::VcsClone,
};

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
    settings: &RepositorySettings,
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
    let (revision, reason) = find(clone, build, settings).await?;
    let choice = choice_for(build, &revision, reason);
    let agreed = match recorded.before {
        None => recorded.choose(choice).await?,
        Some(gone) => recorded.choose_instead(gone, choice).await?,
    };
    resolve(clone, agreed, revision, settings).await
}

/// Chooses the newest changeset for a stack that does not apply on `tried`, which was chosen by date. Returns `None`
/// when `tried` is the newest. The clone must hold no changeset of a build.
pub(crate) async fn newest_instead(
    clone: &mut dyn VcsClone,
    build: &Build,
    settings: &RepositorySettings,
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
    resolve(clone, agreed, revision, settings).await.map(Some)
}

/// Chooses among the named bases again, after a pull, for a stack that does not apply on `tried`. Returns `None` when the
/// choice stays. The clone must hold no changeset of a build.
///
/// An upper patch can name a changeset of the source that the clone does not have yet. The worker does not pull for that
/// beforehand: most upper patches name the changeset of the patch below, which no source has.
pub(crate) async fn named_instead(
    clone: &mut dyn VcsClone,
    build: &Build,
    settings: &RepositorySettings,
    recorded: RecordedBase<'_>,
    tried: &BaseChoice,
) -> Result<Option<Base>, WorkerError> {
    let named = named_by(build);
    if clone.known(&named).await?.len() == named.len() {
        return Ok(None);
    }
    clone.update().await?;
    let Some(revision) = newest_named(clone, &named).await? else {
        return Ok(None);
    };
    if revision.id == tried.used {
        return Ok(None);
    }
    let choice = choice_for(build, &revision, BaseReason::NewestNamed);
    let agreed = recorded.choose_instead(tried, choice).await?;
    resolve(clone, agreed, revision, settings).await.map(Some)
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
    settings: &RepositorySettings,
) -> Result<Base, WorkerError> {
    let revision = if choice.used == ours.id {
        ours
    } else {
        find_or_update(clone, &choice.used)
            .await?
            .ok_or_else(|| WorkerError::UnknownBase {
                repository: settings.name.clone(),
                base: choice.used.clone(),
            })?
    };
    Ok(Base { choice, revision })
}

/// The base for a build, and the reason for it when it is not the one that the lowest patch names.
async fn find(
    clone: &mut dyn VcsClone,
    build: &Build,
    settings: &RepositorySettings,
) -> Result<(Revision, BaseReason), WorkerError> {
    if settings.use_latest_revision {
        return Ok((clone.default_revision().await?, BaseReason::Latest));
    }
    if let Some(revision) = named(clone, build).await? {
        return Ok((revision, BaseReason::NewestNamed));
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

/// [`newest_named`] of a build. Pulls if the clone does not have the base of the lowest patch.
async fn named(clone: &mut dyn VcsClone, build: &Build) -> Result<Option<Revision>, WorkerError> {
    let named = named_by(build);
    let Some(first) = named.first() else {
        return Ok(None);
    };
    let known = clone.known(&named).await?;
    if !known.iter().any(|revision| first.names(revision)) {
        clone.update().await?;
    }
    newest_named(clone, &named).await
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
    let is_named = named
        .and_then(RevisionName::parse)
        .is_some_and(|name| name.names(revision));
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
