//! What a stack is put on.

use phabricator::model::{BaseChoice, Build};

use crate::{
    HgError, RepositorySettings,
    bases::Bases,
    clone::{Changeset, HgClone, is_hash},
    text,
};

/// Chooses the base of a build, and writes the choice down before anything is built on it.
pub(crate) async fn choose(
    clone: &mut HgClone,
    build: &Build,
    settings: &RepositorySettings,
    bases: &Bases,
    now: jiff::Timestamp,
) -> Result<(BaseChoice, Changeset), HgError> {
    let target = &build.request.target;
    if let Some(choice) = bases.find(target)
        && let Some(changeset) = find_or_pull(clone, &choice.used).await?
    {
        return Ok((choice, changeset));
    }
    let named = build.stack.first().and_then(|patch| patch.diff.base.as_deref());
    let (wanted, changeset) = match named.filter(|hash| is_hash(hash) && !settings.use_latest_revision) {
        Some(hash) => (true, find_or_pull(clone, hash).await?),
        None => {
            clone.pull().await?;
            (false, None)
        }
    };
    let found = wanted && changeset.is_some();
    let changeset = match changeset {
        Some(changeset) => changeset,
        None => clone.resolve(&settings.default_revision).await?,
    };
    let differs = named.filter(|name| !found && *name != changeset.node);
    // Anything may stand there, and it is going to be shown.
    let instead_of = differs.map(|name| text::cut(&text::path(name.as_bytes()), 60));
    let choice = BaseChoice { used: changeset.node.clone(), instead_of };
    bases.store(target, &choice, now)?;
    Ok((choice, changeset))
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
