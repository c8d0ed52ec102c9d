//! What a stack is put on.
//!
//! # Why the choice is written down
//!
//! A build's changesets are a function of its base, its stack and its target. A build can be delivered again after its
//! push: the worker died before it could say that it was done. Then the same changesets must come out, here or on another
//! machine, so that the second push finds "no changes" instead of making a second head, which would run all jobs twice.
//!
//! The stack and the target are in the message. The base often is not: when the stack names one that is not known here,
//! the build is put on the newest revision, which is another one a minute later. Even a base that is named is no sure
//! thing, since it may be unknown at first and known after the next pull. So the choice is written into the build's record
//! before the first changeset is made, and a delivery that finds one there keeps to it; of two at once the first holds.
//!
//! # Which one
//!
//! What was tested should be what the author saw. So the stack goes on the base that it names, when it is known here. Of
//! several, since each patch names one, the newest that contains the others: an upper patch was made on what the lower
//! ones were moved to. Most upper patches name the changeset of the patch below, which only their author has. When none is
//! known, the newest changeset that was there when the diff was made is the best guess; where that does not fit, the
//! newest one, as a rebase would do. A stack on revisions that have landed goes there at once: they may have landed since.

use build::{BaseChoice, BaseReason, Build, BuildLog, Phid};
use bus::Context;

use crate::{
    RepositorySettings, WorkerError, text,
    vcs::{Revision, RevisionName, VcsClone},
};

/// A base that was chosen.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) choice: BaseChoice,
    pub(crate) revision: Revision,
}

/// The base in the record of a build.
#[derive(Clone, Copy)]
pub(crate) struct RecordedBase<'a> {
    pub(crate) cx: &'a Context,
    pub(crate) log: &'a BuildLog,
    pub(crate) target: &'a Phid,
    /// What an earlier delivery chose.
    pub(crate) before: Option<&'a BaseChoice>,
}

impl RecordedBase<'_> {
    /// Records the base, unless another delivery did so: returns the one that stands.
    async fn choose(self, choice: BaseChoice) -> Result<BaseChoice, WorkerError> {
        Ok(self.log.choose_base(self.cx, self.target, &choice).await?)
    }

    /// Records another base than the one that was tried, unless another delivery did so: returns the one that stands.
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

/// Chooses the base of a build, and writes the choice down before anything is built on it.
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
    let named = lowest(build);
    let is_named = named
        .and_then(RevisionName::parse)
        .is_some_and(|hash| hash.names(&revision));
    let choice = if is_named {
        choice(&revision, None, BaseReason::Named)
    } else {
        choice(&revision, named, reason)
    };
    let stands = recorded.choose(choice).await?;
    standing(clone, stands, revision).await
}

/// The newest changeset as another base, for a stack that does not apply on the one that was chosen by its date and that
/// was `tried`. `None` when there is no other. There must be nothing of ours in the clone.
pub(crate) async fn newest_instead(
    clone: &mut dyn VcsClone,
    build: &Build,
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
    let stands = recorded.choose_instead(tried, choice).await?;
    Ok(Some(standing(clone, stands, revision).await?))
}

/// The revision with this id, which may have to be taken over from the source. There must be nothing of ours in the
/// clone.
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

/// The base that stands in the record, which may be the choice of another delivery.
async fn standing(
    clone: &mut dyn VcsClone,
    stands: BaseChoice,
    ours: Revision,
) -> Result<Base, WorkerError> {
    if stands.used != ours.id
        && let Some(revision) = find_or_update(clone, &stands.used).await?
    {
        return Ok(Base {
            choice: stands,
            revision,
        });
    }
    Ok(Base {
        choice: stands,
        revision: ours,
    })
}

/// The base for a build, and why, if it is not the one that the lowest patch names.
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

/// Of the bases that the patches name, the newest known one that contains the others; when they lie on different lines,
/// the one of the lowest patch.
async fn named(clone: &mut dyn VcsClone, build: &Build) -> Result<Option<Revision>, WorkerError> {
    let mut hashes: Vec<RevisionName> = Vec::new();
    for hash in build
        .stack
        .iter()
        .filter_map(|patch| RevisionName::parse(patch.diff.base.as_deref()?))
    {
        if !hashes.contains(&hash) {
            hashes.push(hash);
        }
    }
    let Some(first) = hashes.first().cloned() else {
        return Ok(None);
    };
    let mut known = clone.known(&hashes).await?;
    if !known.iter().any(|revision| first.names(revision)) {
        clone.update().await?;
        known = clone.known(&hashes).await?;
    }
    let Some(newest) = known.last().cloned() else {
        return Ok(None);
    };
    if known.len() == 1 || clone.contains(&newest, &known).await? {
        return Ok(Some(newest));
    }
    Ok(hashes
        .iter()
        .find_map(|hash| known.iter().find(|revision| hash.names(revision)))
        .cloned())
}

/// What the lowest patch names as its base. Anything may stand there.
fn lowest(build: &Build) -> Option<&str> {
    build
        .stack
        .first()
        .and_then(|patch| patch.diff.base.as_deref())
        .map(str::trim)
        .filter(|name| !name.is_empty())
}

/// Why no base that is named was used.
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

fn choice(revision: &Revision, named: Option<&str>, reason: BaseReason) -> BaseChoice {
    // Anything may stand there, and it is going to be shown.
    let instead_of = named.map(|name| text::cut(&text::path(name.as_bytes()), 60));
    BaseChoice {
        used: revision.id.clone(),
        instead_of,
        reason,
        tried: None,
    }
}
