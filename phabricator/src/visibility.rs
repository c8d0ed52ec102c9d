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
