//! What a build has on the bus beside its message: its record, and the question whether it is still wanted.

use build::{BaseChoice, Build, BuildRecord, Ineligible, Journal, PushGuard};
use bus::Context;

use crate::HgError;

/// The paperwork of one delivery of a build.
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) cx: &'a Context,
    pub(crate) journal: &'a Journal,
    pub(crate) guard: &'a dyn PushGuard,
    /// What earlier deliveries did.
    pub(crate) record: &'a BuildRecord,
}

/// Why a build is not to be pushed any more.
#[derive(Debug)]
pub(crate) enum Unwanted {
    /// It is not to be built any more.
    Over(Ineligible),
    /// Somebody has decided how it ends, and sees to its answer.
    Decided,
}

impl Desk<'_> {
    /// Whether the build is not to be pushed any more.
    pub(crate) async fn look_again(&self, build: &Build) -> Result<Option<Unwanted>, HgError> {
        let now = self.cx.clock().now();
        let (found, record) = futures::join!(
            self.guard.check(build, now),
            self.journal.read(self.cx, &build.request.target)
        );
        let record = record?;
        if record.end.is_some() {
            return Ok(Some(Unwanted::Decided));
        }
        // Once its head may be on Try, a build is finished: else a head would be there that nobody was told of. Another
        // delivery may have begun to push since this one did.
        let over =
            found?.filter(|found| !record.pushing || matches!(found, Ineligible::Private(_)));
        Ok(over.map(Unwanted::Over))
    }

    /// The head is about to be pushed.
    pub(crate) async fn pushes(&self, build: &Build) -> Result<(), HgError> {
        Ok(self.journal.pushes(self.cx, &build.request.target).await?)
    }

    /// It was refused.
    pub(crate) fn pushed_nothing(&self, build: &Build) -> Result<(), HgError> {
        Ok(self
            .journal
            .pushed_nothing(self.cx, &build.request.target)?)
    }

    /// Writes down another base than the one that was tried, unless another delivery did so: returns the one that stands.
    pub(crate) async fn choose_instead(
        &self,
        build: &Build,
        tried: &BaseChoice,
        choice: BaseChoice,
    ) -> Result<BaseChoice, HgError> {
        Ok(self
            .journal
            .based_instead(self.cx, &build.request.target, tried, &choice)
            .await?)
    }

    /// Writes down the base, unless another delivery did so: returns the one that stands.
    pub(crate) async fn choose(
        &self,
        build: &Build,
        choice: BaseChoice,
    ) -> Result<BaseChoice, HgError> {
        Ok(self
            .journal
            .based(self.cx, &build.request.target, &choice)
            .await?)
    }
}
