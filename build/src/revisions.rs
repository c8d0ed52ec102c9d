//! The states of revisions, for work on what builds have left.

use std::{collections::BTreeSet, error::Error};

use async_trait::async_trait;
use thiserror::Error;

/// A source of the states of revisions.
#[async_trait]
pub trait ClosedRevisions: Send + Sync + 'static {
    /// Those of `revisions` that have landed or were abandoned. A revision that is not visible to us is not among them.
    async fn closed(&self, revisions: &BTreeSet<u64>) -> Result<BTreeSet<u64>, RevisionsError>;
}

/// The source does not respond, or its response cannot be read.
#[derive(Debug, Error)]
#[error("cannot request the states of revisions")]
pub struct RevisionsError(#[source] pub Box<dyn Error + Send + Sync>);
