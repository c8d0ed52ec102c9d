//! Collects from Phabricator the facts that decide on a build's eligibility.

use async_trait::async_trait;
use build::{
    Build, BuildRequest, Ineligible, NotPublic, Phid, PushGuard, PushGuardError,
    eligibility::{DiffFacts, Facts, Rules, Stage},
};
use futures::future::try_join;
use jiff::Timestamp;

use crate::{
    Conduit, ConduitError, NameResolver,
    api::{DiffInfo, RevisionInfo, TargetEnd},
};

/// Checks eligibility: loads the [`Facts`] from Phabricator, and applies the [`Rules`] to them.
#[derive(Clone)]
pub struct Eligibility {
    conduit: Conduit,
    resolver: NameResolver,
    rules: Rules,
}

/// The revision and diff of an eligible build.
pub(crate) struct Eligible {
    pub(crate) revision: RevisionInfo,
    pub(crate) diff: DiffInfo,
}

impl Eligibility {
    /// `resolver` knows the skipped authors and the private projects.
    pub fn new(conduit: Conduit, resolver: NameResolver, rules: Rules) -> Self {
        Self {
            conduit,
            resolver,
            rules,
        }
    }

    pub(crate) fn conduit(&self) -> &Conduit {
        &self.conduit
    }

    pub(crate) fn resolver(&self) -> &NameResolver {
        &self.resolver
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Checks a build before its stack is loaded.
    pub(crate) async fn on_load(
        &self,
        request: &BuildRequest,
        now: Timestamp,
    ) -> Result<Result<Eligible, Ineligible>, ConduitError> {
        let Some(found) = self.conduit.revision(request.revision_id).await? else {
            return Ok(Err(Ineligible::Private(NotPublic::Revision)));
        };
        let Some(revision) = self.resolver.privacy().public(vec![found]).pop() else {
            return Ok(Err(Ineligible::Private(NotPublic::Restricted)));
        };
        let (target, diff) =
            try_join(self.target(request), self.conduit.diff(request.diff_id)).await?;
        let of_diff = diff.as_ref().map(|diff| DiffFacts {
            is_of_revision: diff.fields.revision.as_ref() == Some(&revision.phid),
            created_at: diff.fields.created_at,
        });
        let facts = Facts {
            newest_diff: self
                .newest_diff(&revision, diff.as_ref().map(|diff| &diff.phid))
                .await?,
            ..self.facts(request, &revision, target, of_diff)
        };
        Ok(match (self.rules.decide(Stage::Load, &facts, now), diff) {
            (None, Some(diff)) => Ok(Eligible { revision, diff }),
            (Some(ineligible), _) => Err(ineligible),
            (None, None) => Err(Ineligible::Private(NotPublic::Revision)),
        })
    }

    /// Checks a build before its push. `None` when the head may be pushed.
    async fn on_push(
        &self,
        build: &Build,
        now: Timestamp,
    ) -> Result<Option<Ineligible>, ConduitError> {
        let request = &build.request;
        let stack = build.stack.iter().map(|patch| patch.revision_id);
        let mut ids: Vec<u64> = stack.chain([request.revision_id]).collect();
        ids.sort_unstable();
        ids.dedup();
        let (found, target) =
            try_join(self.conduit.revisions_by_id(&ids), self.target(request)).await?;
        let public = self.resolver.privacy().public(found);
        let Some(revision) = public
            .iter()
            .find(|revision| revision.id == request.revision_id)
        else {
            return Ok(Some(Ineligible::Private(NotPublic::Revision)));
        };
        let diff = DiffFacts {
            is_of_revision: true,
            created_at: build.diff.created_at,
        };
        let facts = Facts {
            newest_diff: self.newest_diff(revision, Some(&build.diff.phid)).await?,
            parent_is_hidden: public.len() < ids.len(),
            ..self.facts(request, revision, target, Some(diff))
        };
        Ok(self.rules.decide(Stage::Push, &facts, now))
    }

    fn facts<'a>(
        &self,
        request: &'a BuildRequest,
        revision: &RevisionInfo,
        target: Option<Ineligible>,
        diff: Option<DiffFacts>,
    ) -> Facts<'a> {
        Facts {
            request,
            target,
            diff,
            repository: revision.fields.repository.clone(),
            author_is_skipped: self.resolver.skips(&revision.fields.author),
            landed: revision.landed(),
            abandoned: revision.abandoned(),
            newest_diff: None,
            parent_is_hidden: false,
        }
    }

    /// The reason for which nothing can be published on the target.
    async fn target(&self, request: &BuildRequest) -> Result<Option<Ineligible>, ConduitError> {
        let ended = self.conduit.end_of_target(&request.target).await?;
        Ok(ended.map(|end| match end {
            TargetEnd::Ended(status) => Ineligible::EndedElsewhere {
                status: status.name(),
            },
            TargetEnd::Restarted => Ineligible::Restarted,
        }))
    }

    /// The number of the revision's newest diff; `None` when that is `ours`.
    async fn newest_diff(
        &self,
        revision: &RevisionInfo,
        ours: Option<&Phid>,
    ) -> Result<Option<u64>, ConduitError> {
        let newest = &revision.fields.diff;
        if ours == Some(newest) {
            return Ok(None);
        }
        let found = self.conduit.diffs(std::slice::from_ref(newest)).await?;
        Ok(found.first().map(|newest| newest.id))
    }
}

#[async_trait]
impl PushGuard for Eligibility {
    async fn check(
        &self,
        build: &Build,
        now: Timestamp,
    ) -> Result<Option<Ineligible>, PushGuardError> {
        self.on_push(build, now)
            .await
            .map_err(|error| match error.is_outage() {
                true => PushGuardError::Away(error.into()),
                false => PushGuardError::Unclear(error.into()),
            })
    }
}
