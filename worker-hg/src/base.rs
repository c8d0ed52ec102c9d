//! What a stack is put on.

use phabricator::model::{BaseChoice, BaseReason, Build};

use crate::{
    HgError, RepositorySettings,
    bases::Bases,
    clone::{Changeset, HgClone, is_hash},
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
    bases: &Bases,
    now: jiff::Timestamp,
) -> Result<Base, HgError> {
    let target = &build.request.target;
    if let Some(choice) = bases.find(target)
        && let Some(changeset) = find_or_pull(clone, &choice.used).await?
    {
        return Ok(Base { choice, changeset });
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
    bases.store(target, &choice, now)?;
    Ok(Base { choice, changeset })
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
