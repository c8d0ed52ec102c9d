//! Which revisions may be spoken of.

use crate::{Conduit, ConduitError, api::RevisionInfo};

/// The slug of the project whose revisions are private, whatever their policy says.
const SECURE_SLUG: &str = "secure-revision";

/// Those of `revisions` that are not secure.
///
/// The slug is looked up each time a revision has projects at all: a remembered answer could be older than the
/// project. Without such a project nothing is secure.
pub(crate) async fn public(
    conduit: &Conduit,
    mut revisions: Vec<RevisionInfo>,
) -> Result<Vec<RevisionInfo>, ConduitError> {
    if revisions.iter().any(|revision| !revision.projects().is_empty())
        && let Some(secure) = conduit.project(SECURE_SLUG).await?
    {
        revisions.retain(|revision| !revision.projects().contains(&secure));
    }
    Ok(revisions)
}

impl Conduit {
    /// Whether our user sees the project whose revisions are private. If not, every revision that it sees counts as
    /// public: right for a Phabricator that has no such project, and a leak where our user may only not see it.
    pub async fn sees_secure_project(&self) -> Result<bool, ConduitError> {
        Ok(self.project(SECURE_SLUG).await?.is_some())
    }
}
