//! The steps of a build, from top to bottom: validate → clone → base → apply → gate → [push]. The [settlement] follows. [staging]
//! has what a staging area adds, and [lando] what replaces the push there.

mod lando;
mod push;
mod settlement;
mod staging;

use std::path::Path;

use build::{
    BaseChoice, BaseReason, Build, BuildRecord, Ineligible, PatchContent, PatchSourceError,
    PushGuardError, eligibility,
};
use bus::{Context, Retry, Retryable};
use jiff::Timestamp;
use tracing::info;

use super::{
    BuildHandler,
    patches::{Patches, Unfit},
};
use crate::{
    ProcessorTime, RepositorySettings, VcsSettings, WorkerError,
    base::{self, Base, RecordedBase},
    clone::slot::Ready,
    jobs_url,
    outcome::{NotPushed, patch_failure},
    patch::{ParsedPatch, path_tree::PathFilter, stack_size},
    processor_time,
    repository::Repository,
    revision::Revision,
    tree_status::TreeState,
    try_config,
    vcs::{ApplyError, Stack, StackPatch, VcsClone},
};

/// A head that is at its destination.
#[derive(Debug)]
pub(super) struct PushedHead {
    head: Revision,
    /// The ref that it was pushed to, with Git.
    reference: Option<String>,
    /// The page with its jobs.
    jobs_url: Option<String>,
    /// The page of the job that pushed it, at Lando.
    job_url: Option<String>,
    base: BaseChoice,
}

/// One delivery of a build.
pub(super) struct Delivery<'a> {
    pub(super) worker: &'a BuildHandler,
    pub(super) cx: &'a Context,
    pub(super) build: &'a Build,
    /// The record of the build, with the results of earlier deliveries.
    pub(super) record: &'a BuildRecord,
    pub(super) started: Timestamp,
}

impl Delivery<'_> {
    /// Pushes the head of the build. Dropping the future kills and reaps its child processes. The next build discards
    /// what they left in the clone.
    pub(super) async fn run(&self) -> Result<PushedHead, NotPushed> {
        if let Some(landed) = self.landed().await? {
            return Ok(landed);
        }
        let repository = self.validate().await?;
        self.wait_for_tree_and_author(repository).await?;
        self.on_clone(repository).await
    }

    // ---- validate

    /// Checks all that needs neither a clone nor Phabricator; returns the repository of the build.
    async fn validate(&self) -> Result<&Repository, NotPushed> {
        let Build {
            request,
            diff,
            stack,
            ..
        } = self.build;
        let settings = &self.worker.settings;
        let Some(repository) = self.worker.repositories.get(&request.repository) else {
            let unsupported = Ineligible::Repository(request.repository.clone());
            return self.refuse(NotPushed::Ineligible(unsupported)).await;
        };
        if stack.is_empty() {
            let revision = request.revision_id;
            let landed = Ineligible::Landed { revision };
            return self.refuse(NotPushed::Ineligible(landed)).await;
        }
        let allowed = settings.build_expiry;
        if let Some(expired) = eligibility::expired(diff.id, diff.created_at, allowed, self.started)
            && (!self.record.pushing || !repository.is_ready().await)
        {
            return self.refuse(NotPushed::Ineligible(expired)).await;
        }
        let longest = settings.limits.patches;
        if stack.len() > longest {
            let failure = patch_failure::too_long(self.build, longest);
            return self.refuse(failure.into()).await;
        }
        Ok(repository)
    }

    async fn wait_for_tree_and_author(&self, repository: &Repository) -> Result<(), NotPushed> {
        // An earlier delivery has chosen the base, and usually applied the stack too. While the tree is closed, no
        // other step is worth a clone.
        if self.record.base.is_some()
            && let TreeState::Closed(reason) = repository.tree_state().await
        {
            return self.wait(repository.tree_closed(&reason)).await;
        }
        // A build that has begun to push is finished, however much time its author has used.
        let allowed = self.worker.settings.limits.author_time;
        let author = &self.build.revision.author;
        if !self.record.pushing
            && let Some(after) = processor_time::exceeded(self.cx, author, allowed).await?
        {
            let reason = format!(
                "builds of this author have used {} s of processor time within ten minutes (`max_author_time`): builds \
                 of other authors go first",
                allowed.as_secs()
            );
            return self.wait(NotPushed::Defer { after, reason }).await;
        }
        Ok(())
    }

    // ---- clone

    /// Takes a clone, and pushes the head from it. The clone is tidied up in the background: the author does not wait
    /// for that.
    async fn on_clone(&self, repository: &Repository) -> Result<PushedHead, NotPushed> {
        let mut slot = match repository.take_clone().await {
            Ok(slot) => slot,
            Err(not_ready) => return self.wait(not_ready).await,
        };
        let pushed = self.push_from(repository, &mut slot).await;
        let clock = self.cx.clock().as_ref();
        match repository.give_back(slot, pushed, clock).await {
            Err(full @ NotPushed::Ours(WorkerError::DiskFull { .. })) => self.wait(full).await,
            pushed => pushed,
        }
    }

    async fn push_from(
        &self,
        repository: &Repository,
        slot: &mut Ready,
    ) -> Result<PushedHead, NotPushed> {
        let settings = repository.settings();
        slot.clone
            .discard()
            .await
            .map_err(|error| repository.classify_damage(error))?;
        let directory = slot.dir.make_patches()?;
        let patches = self
            .load(repository, slot.clone.as_mut(), directory.path())
            .await?;
        if repository.lando().is_none() {
            slot.destination().prepare();
        }
        let mut time = ProcessorTime::new(&self.worker.settings.limits);
        let (applied, tree, gate) = futures::join!(
            self.apply(
                repository,
                slot.clone.as_mut(),
                directory.path(),
                &patches,
                &mut time
            ),
            repository.tree_state(),
            self.gate()
        );
        drop(directory);
        let author = &self.build.revision.author;
        let recorded = processor_time::record(self.cx, author, time.used()).await;
        // Our own failures come first, since the clone may be damaged. Then comes the gate, since a patch failure shows
        // names of files that may be private by now.
        let applied = match applied {
            Err(NotPushed::Ours(error)) => {
                // A build that would wait ends at once if it is not eligible any more.
                if matches!(error.retry(), Retry::Defer(_)) {
                    gate?;
                }
                return Err(error.into());
            }
            applied => applied,
        };
        recorded?;
        gate?;
        // A patch that does not apply fails even while the tree is closed.
        let (base, head) = applied?;
        if let TreeState::Closed(reason) = tree {
            info!(
                state = "deferred",
                "deferring the build: {} is closed: {reason}", settings.try_name
            );
            return Err(repository.tree_closed(&reason));
        }
        if let Some(lando) = repository.lando() {
            return self.submit(lando, slot, base, &head).await;
        }
        self.push(repository, slot, &base, &head).await?;
        let reference = repository.refs().map(|git| git.reference(self.build));
        Ok(PushedHead {
            jobs_url: self.jobs_url(settings, &head, reference.as_deref()),
            reference,
            job_url: None,
            head,
            base: base.choice,
        })
    }

    /// The page with the jobs of a head.
    fn jobs_url(
        &self,
        repository: &RepositorySettings,
        head: &Revision,
        reference: Option<&str>,
    ) -> Option<String> {
        match (&repository.jobs_url, &repository.vcs) {
            (Some(template), _) => Some(jobs_url::of(template, self.build, &head.id, reference)),
            (None, VcsSettings::Git(_)) if repository.lando.is_none() => None,
            (None, _) => {
                let treeherder = self.worker.settings.treeherder_url.trim_end_matches('/');
                let (name, head) = (&repository.try_name, &head.id);
                Some(format!("{treeherder}/#/jobs?repo={name}&revision={head}"))
            }
        }
    }

    /// Loads the patches into `directory` and parses them. Refuses patches that must not reach the version control.
    async fn load(
        &self,
        repository: &Repository,
        clone: &mut dyn VcsClone,
        directory: &Path,
    ) -> Result<Patches, NotPushed> {
        let contents = match self.worker.patches.load(self.build, directory).await {
            Ok(contents) if contents.len() == self.build.stack.len() => contents,
            Ok(contents) => {
                let (found, wanted) = (contents.len(), self.build.stack.len());
                let unclear = format!("{found} of {wanted} patches were found").into();
                return Err(WorkerError::from(PatchSourceError::Unclear(unclear)).into());
            }
            Err(PatchSourceError::Refused(failure)) => {
                return self.refuse(NotPushed::Patch(failure)).await;
            }
            Err(full @ PatchSourceError::Disk(_)) => return Err(WorkerError::from(full).into()),
            Err(away) => return self.wait(WorkerError::from(away).into()).await,
        };
        let submitted = contents.clone();
        let patches = match self.read(repository, contents).await? {
            Ok(patches) => patches,
            Err(unfit) => {
                let staged = match unfit.is_for_staging() {
                    true => self.stage(repository, clone, directory, submitted).await?,
                    false => None,
                };
                match (staged, unfit.into_not_pushed(self.build)) {
                    (Some(patches), NotPushed::Patch(fault)) => Patches {
                        fault: Some(fault),
                        ..patches
                    },
                    (_, ours @ NotPushed::Ours(_)) => return Err(ours),
                    (_, refused) => return self.refuse(refused).await,
                }
            }
        };
        if let Some(skipped) = self.skipped(&patches) {
            return self.refuse(NotPushed::Ineligible(skipped)).await;
        }
        Ok(patches)
    }

    /// Reads patches on a thread that may block: large ones take a while.
    async fn read(
        &self,
        repository: &Repository,
        contents: Vec<PatchContent>,
    ) -> Result<Result<Patches, Unfit>, WorkerError> {
        let limits = self.worker.settings.limits.clone();
        let rules = repository.vcs().rules(repository.settings());
        let reading = tokio::task::spawn_blocking(move || Patches::read(contents, &limits, rules));
        reading
            .await
            .map_err(|error| WorkerError::io("read the patches")(error.into()))
    }

    /// The reason to skip the build, if its patches change one of the files for that.
    fn skipped(&self, patches: &Patches) -> Option<Ineligible> {
        let path = patches
            .parsed
            .iter()
            .flat_map(ParsedPatch::touched)
            .find_map(|path| self.worker.skippable(path))?;
        Some(Ineligible::File(path.to_owned()))
    }

    // ---- base, apply

    /// The access to the base in the record of the build.
    fn recorded_base(&self) -> RecordedBase<'_> {
        RecordedBase {
            cx: self.cx,
            log: &self.worker.log,
            target: &self.build.request.target,
            before: self.record.base.as_ref(),
        }
    }

    /// Applies the patches as they were submitted; returns the base and the head.
    async fn apply_submitted(
        &self,
        repository: &Repository,
        clone: &mut dyn VcsClone,
        patches: &Patches,
        time: &mut ProcessorTime,
    ) -> Result<(Base, Revision), NotPushed> {
        let build = self.build;
        let recorded = self.recorded_base();
        let mut base = base::choose(clone, build, repository, recorded).await?;
        let head = match self.apply_on(repository, clone, &base, patches, time).await {
            Err(NotPushed::Patch(failure)) => {
                clone.discard().await?;
                let tried = &base.choice;
                let another = match tried.reason {
                    BaseReason::ByDate => {
                        base::newest_instead(clone, build, repository, recorded, tried).await?
                    }
                    BaseReason::Named | BaseReason::Mapped | BaseReason::NewestNamed => {
                        base::named_instead(clone, build, repository, recorded, tried).await?
                    }
                    _ => None,
                };
                base = another.ok_or(NotPushed::Patch(failure))?;
                self.apply_on(repository, clone, &base, patches, time)
                    .await?
            }
            applied => applied?,
        };
        Ok((base, head))
    }

    /// Makes the checks that need the base, and commits the stack on it; returns the head.
    async fn apply_on(
        &self,
        repository: &Repository,
        clone: &mut dyn VcsClone,
        base: &Base,
        Patches {
            contents, parsed, ..
        }: &Patches,
        time: &mut ProcessorTime,
    ) -> Result<Revision, NotPushed> {
        let mode = &repository.settings().mode;
        let (build, limits) = (self.build, &self.worker.settings.limits);
        let filter = PathFilter::new(parsed, mode.path());
        let mut tree = clone.tree(&base.revision, filter).await?;
        for (patch, parsed) in build.stack.iter().zip(parsed) {
            tree.apply(parsed)
                .map_err(|conflict| patch_failure::conflicts(build, patch, &conflict))?;
        }
        let sized: Vec<&[u8]> = stack_size::sized(parsed)
            .into_iter()
            .filter(|path| tree.was_there(path))
            .collect();
        let sizes = clone.sizes(&base.revision, &sized).await?;
        let before = stack_size::check(parsed, &sizes, limits.stack_bytes)
            .map_err(|too_large| patch_failure::makes_too_much(build, &too_large))?;
        let patches = build.stack.iter().zip(contents).zip(parsed).zip(&before);
        let stack = Stack {
            patches: patches
                .map(|(((patch, content), parsed), sizes)| StackPatch {
                    patch,
                    url: build.revision.url_of(patch.revision_id),
                    content,
                    parsed,
                    sizes,
                })
                .collect(),
            last: try_config::last_commit(mode, build, tree.has_last())?,
            default_author: &self.worker.settings.default_author,
        };
        match clone.apply(&base.revision, &stack, time).await {
            Ok(head) => Ok(head),
            Err(ApplyError::Failed(error)) => Err(error.into()),
            Err(ApplyError::Rejected(rejection)) => {
                let commands = repository.vcs().rebase_commands(build, &base.choice);
                let rejected =
                    patch_failure::rejected(build, &base.choice, limits, commands, rejection);
                Err(rejected.into())
            }
        }
    }

    // ---- gate

    /// Fails when the build must not be pushed any more.
    async fn gate(&self) -> Result<(), NotPushed> {
        let now = self.cx.clock().now();
        let (found, record) = futures::join!(
            self.worker.guard.check(self.build, now),
            self.worker.log.read(self.cx, &self.build.request.target)
        );
        let record = record.map_err(WorkerError::from)?;
        if record.end.is_some() {
            return Err(NotPushed::Decided);
        }
        // A build whose head may be on Try is finished, unless it is private: else its author would not learn of the
        // head. The record is read again, since another delivery may have begun to push meanwhile.
        match found.map_err(WorkerError::from)? {
            Some(over) if !record.pushing || matches!(over, Ineligible::Private(_)) => {
                Err(NotPushed::Ineligible(over))
            }
            _ => Ok(()),
        }
    }

    /// Returns `failure`, for which the build waits. A build that is not eligible any more ends at once: its author
    /// need not wait.
    async fn wait<T>(&self, failure: NotPushed) -> Result<T, NotPushed> {
        self.gate().await?;
        Err(failure)
    }

    /// Returns `failure`, unless the gate has a stronger reason. For a build that is private by now, even the name of a
    /// file is too much. Each other reason of the gate counts before a failure of the patch.
    async fn refuse<T>(&self, failure: NotPushed) -> Result<T, NotPushed> {
        Err(match self.gate().await {
            Ok(()) => failure,
            Err(NotPushed::Ineligible(over))
                if !matches!(over, Ineligible::Private(_))
                    && !matches!(failure, NotPushed::Patch(_)) =>
            {
                failure
            }
            // No build waits longer than its expiry, even if Phabricator gives no clear answer about it. The update
            // holds only numbers of the build and the reason of its wait.
            Err(NotPushed::Ours(WorkerError::PushGuard(PushGuardError::Unclear(_))))
                if matches!(failure, NotPushed::Ineligible(Ineligible::Expired { .. })) =>
            {
                failure
            }
            Err(stronger) => stronger,
        })
    }
}
