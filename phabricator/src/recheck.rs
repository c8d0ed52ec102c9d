//! Whether a build is still wanted: before its stack is loaded, and right before it is pushed.

use async_trait::async_trait;

use build::{Build, NeutralReason, Phid, Recheck, Report, Unsure};
use futures::future::try_join;

use crate::{
    Conduit, ConduitError, Directory,
    api::{RevisionInfo, TargetEnd},
    stack::Refusal,
};

/// Asks Phabricator right before a push. The answer was right when the stack was loaded; since then the build has waited
/// for its turn, for a clone, or for a tree to open.
pub struct LastLook {
    conduit: Conduit,
    directory: Directory,
}

impl LastLook {
    /// Asks `conduit`; `directory` says what is private.
    pub fn new(conduit: Conduit, directory: Directory) -> Self {
        Self { conduit, directory }
    }

    async fn look(&self, build: &Build) -> Result<Option<Report>, ConduitError> {
        let ids: Vec<u64> = build.stack.iter().map(|patch| patch.revision_id).collect();
        let (found, ended) = try_join(
            self.conduit.revisions_by_id(&ids),
            ended_elsewhere(&self.conduit, &build.request.target),
        )
        .await?;
        let public = self.directory.privacy().public(found);
        let Some(revision) = public
            .iter()
            .find(|revision| revision.id == build.request.revision_id)
        else {
            return Ok(Some(Report::Withheld));
        };
        if ended.is_some() {
            return Ok(ended);
        }
        if ids
            .iter()
            .any(|id| public.iter().all(|revision| revision.id != *id))
        {
            return Ok(Some(
                Refusal::HiddenParent(revision.id).report(revision.id, 0.0),
            ));
        }
        overtaken(&self.conduit, revision, &build.diff.phid, build.diff.id).await
    }
}

#[async_trait]
impl Recheck for LastLook {
    async fn recheck(&self, build: &Build) -> Result<Option<Report>, Unsure> {
        self.look(build).await.map_err(|error| Unsure(error.into()))
    }
}

/// The end of a build whose target can get no answer: Harbormaster aborted it, somebody ended it by hand, or a restart
/// gave its build a newer target, which is a build of its own.
pub(crate) async fn ended_elsewhere(
    conduit: &Conduit,
    target: &Phid,
) -> Result<Option<Report>, ConduitError> {
    let ended = conduit.end_of_target(target).await?;
    Ok(ended.map(|end| {
        let text = match end {
            TargetEnd::Ended(status) => {
                format!("The build target is {} in Harbormaster.", status.name())
            }
            TargetEnd::Restarted => "The build was restarted in Harbormaster.".to_owned(),
        };
        Report::neutral(NeutralReason::EndedElsewhere, text)
    }))
}

/// The end of a build that came too late: its revision has landed, was abandoned, or has a newer diff.
pub(crate) async fn overtaken(
    conduit: &Conduit,
    revision: &RevisionInfo,
    diff: &Phid,
    diff_id: u64,
) -> Result<Option<Report>, ConduitError> {
    if revision.landed() {
        let text = format!(
            "D{} has landed, there is no patch left to build.",
            revision.id
        );
        return Ok(Some(Report::neutral(NeutralReason::Landed, text)));
    }
    if revision.abandoned() {
        let text = format!("D{} was abandoned, its patch is not built.", revision.id);
        return Ok(Some(Report::neutral(NeutralReason::Abandoned, text)));
    }
    if revision.fields.diff == *diff {
        return Ok(None);
    }
    let newest = conduit
        .diffs(std::slice::from_ref(&revision.fields.diff))
        .await?
        .pop();
    // The revision was read first, so its newest diff may by now be ours.
    Ok(newest.filter(|newest| newest.id > diff_id).map(|newest| {
        let text = format!(
            "Superseded: diff {diff_id} was replaced by the newer diff {}, and only the newest is built.",
            newest.id
        );
        Report::neutral(NeutralReason::Superseded, text)
    }))
}
