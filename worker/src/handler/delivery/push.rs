//! The push of a head.

use build::Ineligible;
use tracing::info;

use super::Delivery;
use crate::{
    WorkerError,
    base::Base,
    clone::slot::Ready,
    destination::{Push, PushError, PushOutcome},
    outcome::{NotPushed, patch_failure},
    refs,
    repository::Repository,
    revision::Revision,
    tree_status::TreeState,
};

impl Delivery<'_> {
    /// The end of a build whose ref has got the head of a newer build of the same diff. The gate lets it pass, since its
    /// own head may have been there. Usually it was restarted, and nothing can be published on its target.
    async fn overtaken(&self) -> NotPushed {
        let now = self.cx.clock().now();
        match self.worker.guard.check(self.build, now).await {
            Ok(over) => NotPushed::Ineligible(over.unwrap_or(Ineligible::Overtaken {
                diff: self.build.diff.id,
            })),
            Err(error) => WorkerError::from(error).into(),
        }
    }

    pub(super) async fn push(
        &self,
        repository: &Repository,
        slot: &mut Ready,
        base: &Base,
        head: &Revision,
    ) -> Result<(), NotPushed> {
        let (log, build) = (&self.worker.log, self.build);
        let target = &build.request.target;
        let name = &repository.settings().try_name;
        let replaces = match repository.refs() {
            Some(git) => refs::begin(self.cx, repository.settings(), git, build, head).await?,
            None => Some(Vec::new()),
        };
        let Some(replaces) = replaces else {
            return Err(self.overtaken().await);
        };
        let begun_before = log
            .mark_pushing(self.cx, target)
            .await
            .map_err(WorkerError::from)?;
        let holder = slot.clone.repository_of_head(&slot.dir.path());
        let push = Push {
            repository: &holder,
            base: &base.revision,
            head,
            build,
            replaces: &replaces,
            begun_before,
        };
        let refusal = match slot.destination().push(push).await {
            Ok(PushOutcome::Accepted) => {
                info!(outcome = "pushed", "pushed {} to {name}", head.id);
                return Ok(());
            }
            Ok(PushOutcome::UpToDate) => {
                info!(outcome = "pushed", "{name} has {} already", head.id);
                return Ok(());
            }
            Err(PushError::Failed(error)) if !matches!(error, WorkerError::Refused { .. }) => {
                return Err(error.into());
            }
            Err(refusal) => refusal,
        };
        log.clear_pushing(self.cx, target)
            .map_err(WorkerError::from)?;
        Err(match refusal {
            PushError::Rejected { words } => {
                patch_failure::refused_by(build, &base.choice, name, &words).into()
            }
            PushError::Failed(error) => match repository.request_tree_state().await {
                TreeState::Closed(reason) => repository.tree_closed(&reason),
                TreeState::Open => error.into(),
            },
        })
    }
}
