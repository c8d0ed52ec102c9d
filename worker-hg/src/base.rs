//! What a stack is put on.
//!
//! # Why the choice is written down
//!
//! A build's changesets are a function of its base, its stack and its target. A build can be delivered again after its
//! push: the worker died before it could say that it was done. Then the same changesets must come out, here or on another
//! machine, so that the second push finds "no changes" instead of making a second head, which would run all jobs twice.
//!
//! The stack and the target are in the message. The base often is not: when the stack names one that is not known here,
//! the build is put on the newest changeset, which is another one a minute later. Even a base that is named is no sure
//! thing, since it may be unknown at first and known after the next pull. So the choice is written into the build's record
//! before the first changeset is made, and a delivery that finds one there keeps to it; of two at once the first holds.

use phabricator::model::{BaseChoice, BaseReason, Build};

use crate::{
    HgError, RepositorySettings,
    clone::{Changeset, HgClone, is_hash},
    desk::Desk,
    text,
};

/// A base that was chosen.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) choice: BaseChoice,
    pub(crate) changeset: Changeset,
}

/// Chooses the base of a build, and writes the choice down before anything is built on it.
pub(crate) async fn choose(
    clone: &mut HgClone,
    build: &Build,
    settings: &RepositorySettings,
    desk: Desk<'_>,
) -> Result<Base, HgError> {
    if let Some(choice) = &desk.record.base
        && let Some(changeset) = find_or_pull(clone, &choice.used).await?
    {
        return Ok(Base { choice: choice.clone(), changeset });
    }
    let named = build.stack.first().and_then(|patch| patch.diff.base.as_deref()).filter(|name| !name.trim().is_empty());
    let (found, otherwise) = match named {
        Some(hash) if is_hash(hash) && !settings.use_latest_revision => {
            (find_or_pull(clone, hash).await?, BaseReason::Unknown)
        }
        _ => {
            clone.pull().await?;
            let reason = match named {
                _ if settings.use_latest_revision => BaseReason::Latest,
                Some(_) => BaseReason::NotAHash,
                None => BaseReason::Unnamed,
            };
            (None, reason)
        }
    };
    let changeset = match found {
        Some(changeset) => changeset,
        None => clone.resolve(&settings.default_revision).await?,
    };
    let choice = if named == Some(&changeset.node) {
        BaseChoice { used: changeset.node.clone(), instead_of: None, reason: BaseReason::Named }
    } else {
        // Anything may stand there, and it is going to be shown.
        let instead_of = named.map(|name| text::cut(&text::path(name.as_bytes()), 60));
        BaseChoice { used: changeset.node.clone(), instead_of, reason: otherwise }
    };
    let stands = desk.choose(build, choice).await?;
    if stands.used != changeset.node
        && let Some(changeset) = find_or_pull(clone, &stands.used).await?
    {
        return Ok(Base { choice: stands, changeset });
    }
    Ok(Base { choice: stands, changeset })
}

async fn find_or_pull(clone: &mut HgClone, hash: &str) -> Result<Option<Changeset>, HgError> {
    match clone.find(hash).await? {
        None => {
            clone.pull().await?;
            clone.find(hash).await
        }
        found => Ok(found),
    }
}
