//! The pruner of old refs, and its view of Phabricator.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use build::{Build, ClosedRevisions, RevisionsError, Source};
use bus::{Field, Producer};
use parking_lot::Mutex;
use worker::{PruneOptions, Pruned, RefAction, RefPruner, RefReport};
use worlds::{Side as _, build_log};

use super::World;

/// The closed revisions.
#[derive(Default)]
pub struct Closed {
    pub revisions: Mutex<BTreeSet<u64>>,
    pub away: AtomicBool,
}

#[async_trait]
impl ClosedRevisions for Closed {
    async fn closed(&self, revisions: &BTreeSet<u64>) -> Result<BTreeSet<u64>, RevisionsError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(RevisionsError("phabricator is away".into()));
        }
        Ok(revisions & &*self.revisions.lock())
    }
}

impl World {
    pub fn pruner(&self, closed: &Arc<Closed>) -> RefPruner {
        RefPruner::new(
            self.settings.clone(),
            |_| self.side.backend(),
            build_log(),
            Arc::clone(closed) as _,
            self.bus.clone(),
            self.clock.clone(),
            "refs",
        )
    }

    /// A round of the pruner: the refs that are due, and the failures.
    pub async fn prune(&self, closed: &Arc<Closed>, options: PruneOptions<'_>) -> Pruned {
        self.pruner(closed).prune(options).await
    }

    /// The actions of a round that must have no failure.
    pub async fn pruned(&self, closed: &Arc<Closed>) -> Vec<RefAction> {
        let Pruned { refs, failures } = self.prune(closed, PruneOptions::default()).await;
        assert!(failures.is_empty(), "{failures:?}");
        refs.iter().map(|one| one.action).collect()
    }

    pub async fn listed_refs(&self) -> Vec<RefReport> {
        RefPruner::list(&self.bus, &self.settings, None)
            .await
            .unwrap()
    }

    /// Opens the record of a build, as its acceptance does.
    pub async fn accept(&self, build: &Build) {
        let producer = Producer::new(self.bus.clone(), self.clock.clone());
        let log = build_log();
        let accepted = log.accept(&producer, &build.request, Source::Harbormaster);
        assert_eq!(accepted.await.unwrap().inserted, 1);
    }

    /// Records that the answer of a build was published.
    pub async fn publish(&self, build: &Build) {
        let (store, id) = (build_log().store(), build.request.target.as_str());
        let at = self.clock.as_ref();
        let update = store
            .set(id, Field::new("published_at"), &runtime::Clock::now(at))
            .unwrap();
        self.bus.push_with(Vec::new(), vec![update]).await.unwrap();
    }
}
