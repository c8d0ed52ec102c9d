//! The revisions that are closed.

use std::collections::BTreeSet;

use async_trait::async_trait;
use build::{ClosedRevisions, RevisionsError};

use crate::{
    Conduit,
    api::{PAGE, RevisionInfo},
};

#[async_trait]
impl ClosedRevisions for Conduit {
    async fn closed(&self, revisions: &BTreeSet<u64>) -> Result<BTreeSet<u64>, RevisionsError> {
        let numbers: Vec<u64> = revisions.iter().copied().collect();
        let mut closed = BTreeSet::new();
        for some in numbers.chunks(PAGE) {
            let found = self
                .revisions_by_id(some)
                .await
                .map_err(|error| RevisionsError(error.into()))?;
            let ended = |one: &&RevisionInfo| one.landed() || one.abandoned();
            closed.extend(found.iter().filter(ended).map(|one| one.id));
        }
        Ok(closed)
    }
}
