//! The staging area: the change of the lowest diff, as its author's client pushed it beside the diff.
//!
//! It is used when the patch on Phabricator lacks the content of a binary file, and when the stack does not apply. The
//! change is read and checked as any patch is, and applied on the base that was staged with it: there it makes the very
//! files of the author. The upper patches are those of Phabricator, since their parents are commits of ours.
//!
//! A staging area fails no build: without a change that can be used, the fault of the patches stands.

use std::path::Path;

use build::{BaseReason, BuildRequest, PatchContent, PatchFailure, StagedCommit};
use tracing::{debug, info, warn};

use super::Delivery;
use crate::{
    ProcessorTime,
    address::Address,
    base::{self, Base},
    handler::patches::Patches,
    outcome::NotPushed,
    repository::Repository,
    revision::Revision,
    vcs::{Staged, StagedDiff, VcsClone},
};

impl Delivery<'_> {
    /// Applies the stack on its base; returns the base and the head.
    pub(super) async fn apply(
        &self,
        repository: &Repository,
        clone: &mut dyn VcsClone,
        directory: &Path,
        patches: &Patches,
        time: &mut ProcessorTime,
    ) -> Result<(Base, Revision), NotPushed> {
        let applied = self.apply_any(repository, clone, directory, patches, time);
        let (base, head) = applied.await?;
        let patches = self.build.stack.len();
        let text = format!(
            "applied a stack of {patches} patches on {:.12} as {}",
            base.choice.used,
            head.short()
        );
        // A deferred build is applied again in each delivery: log it once.
        if self.record.base.is_none() {
            info!(state = "pushing", "{text}");
        } else {
            debug!(state = "pushing", "{text}");
        }
        Ok((base, head))
    }

    async fn apply_any(
        &self,
        repository: &Repository,
        clone: &mut dyn VcsClone,
        directory: &Path,
        patches: &Patches,
        time: &mut ProcessorTime,
    ) -> Result<(Base, Revision), NotPushed> {
        if let Some(fault) = &patches.fault {
            let applied = self.apply_staged(repository, clone, patches, time).await;
            return applied.map_err(|failed| failed.or_fault(fault));
        }
        // What an earlier delivery has pushed was made from the staged change.
        let recorded = self.record.base.as_ref();
        if recorded.is_some_and(|base| base.reason == BaseReason::Staged)
            && let Some(staged) = self
                .stage(repository, clone, directory, patches.contents.clone())
                .await?
        {
            return self.apply_staged(repository, clone, &staged, time).await;
        }
        let submitted = self.apply_submitted(repository, clone, patches, time);
        let failure = match submitted.await {
            Err(NotPushed::Patch(failure)) if area(repository).is_some() => failure,
            applied => return applied,
        };
        clone.discard().await?;
        let staged = self
            .stage(repository, clone, directory, patches.contents.clone())
            .await?;
        let Some(staged) = staged else {
            return Err(NotPushed::Patch(failure));
        };
        let applied = self.apply_staged(repository, clone, &staged, time).await;
        applied.map_err(|failed| failed.or_fault(&failure))
    }

    /// Applies the stack with the staged change on its base.
    async fn apply_staged(
        &self,
        repository: &Repository,
        clone: &mut dyn VcsClone,
        patches: &Patches,
        time: &mut ProcessorTime,
    ) -> Result<(Base, Revision), NotPushed> {
        let Some(staged_on) = &patches.staged_on else {
            return self.apply_submitted(repository, clone, patches, time).await;
        };
        let recorded = self.recorded_base();
        let base = base::staged(clone, self.build, repository, recorded, staged_on).await?;
        let head = self
            .apply_on(repository, clone, &base, patches, time)
            .await?;
        Ok((base, head))
    }

    /// The patches with the staged change of the lowest one; `None` without one that can be used.
    pub(super) async fn stage(
        &self,
        repository: &Repository,
        clone: &mut dyn VcsClone,
        directory: &Path,
        mut contents: Vec<PatchContent>,
    ) -> Result<Option<Patches>, NotPushed> {
        let settings = repository.settings();
        let place = contents.len();
        let (Some(area), Some(lowest), Some(content)) = (
            area(repository),
            self.build.stack.first(),
            contents.first_mut(),
        ) else {
            return Ok(None);
        };
        let diff_id = lowest.diff.id;
        let unusable = |reason: &str| {
            let repository = settings.name.as_str();
            warn!(
                repository,
                diff = diff_id,
                "cannot use the staged diff {diff_id}; the fault of the patches stands: {reason}"
            );
        };
        if let Some(reason) = contradiction(area, &self.build.request) {
            unusable(reason);
            return Ok(None);
        }
        let wanted = StagedDiff {
            diff_id,
            directory,
            place,
        };
        let base = match clone.staged(&wanted).await? {
            Staged::Found { base, patch } => {
                content.file = patch;
                base
            }
            Staged::Missing => return Ok(None),
            Staged::Unusable(reason) => {
                unusable(&reason);
                return Ok(None);
            }
        };
        let patches = match self.read(repository, contents).await? {
            Ok(patches) => patches,
            Err(unfit) => match unfit.into_not_pushed(self.build) {
                ours @ NotPushed::Ours(_) => return Err(ours),
                _ => {
                    unusable("its change is refused, as such a patch would be");
                    return Ok(None);
                }
            },
        };
        if self.skipped(&patches).is_some() {
            unusable("it changes a file of `skippable_files`");
            return Ok(None);
        }
        info!("using the staged diff {diff_id} on {:.12}", base.id);
        Ok(Some(Patches {
            staged_on: Some(base),
            ..patches
        }))
    }
}

impl NotPushed {
    /// The fault of the patches on Phabricator in place of one of the staged change, which their author has not seen.
    fn or_fault(self, fault: &PatchFailure) -> Self {
        match self {
            Self::Patch(_) => fault.clone().into(),
            other => other,
        }
    }
}

/// The address of the staging area.
fn area(repository: &Repository) -> Option<&str> {
    repository.settings().vcs.git()?.staging.as_deref()
}

/// The reason for which a request means another commit than the one that we look up. Only what is configured is used.
fn contradiction(area: &str, request: &BuildRequest) -> Option<&'static str> {
    let StagedCommit { url, reference } = request.staged.as_ref()?;
    if url.as_deref().is_some_and(|url| plain(url) != plain(area)) {
        return Some("its build plan names another staging area than `staging`");
    }
    let expected = format!("refs/tags/phabricator/diff/{}", request.diff_id);
    let is_other = |reference: &str| reference != expected;
    reference
        .as_deref()
        .is_some_and(is_other)
        .then_some("its build plan names another ref than that of its diff")
}

/// An address without credentials and without the ends that make no difference.
fn plain(url: &str) -> String {
    let plain = Address::parse(url).plain;
    let plain = plain.trim_end_matches('/');
    plain.strip_suffix(".git").unwrap_or(plain).to_owned()
}

#[cfg(test)]
mod tests {
    use build::Phid;
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn request_that_means_another_commit_is_a_contradiction() {
        let phid = |text| Phid::parse(text).expect("a PHID");
        let fits = |url: Option<&str>, reference: Option<&str>| {
            let request = BuildRequest {
                target: phid("PHID-HMBT-1"),
                diff_id: 7,
                repository: phid("PHID-REPO-1"),
                revision_id: 1,
                accepted_at: Timestamp::UNIX_EPOCH,
                staged: Some(StagedCommit {
                    url: url.map(str::to_owned),
                    reference: reference.map(str::to_owned),
                }),
            };
            let area = "https://bot:secret@git.example.org/staging.git";
            contradiction(area, &request).is_none()
        };
        let tag = Some("refs/tags/phabricator/diff/7");
        let table = [
            (None, None, true),
            (Some("https://git.example.org/staging.git"), tag, true),
            (Some("https://ada:x@git.example.org/staging/"), tag, true),
            (Some("https://git.example.org/staging2"), tag, false),
            (Some("https://evil.example.org/staging.git"), None, false),
            (Some("--upload-pack=x"), None, false),
            (None, Some("refs/tags/phabricator/diff/70"), false),
            (None, Some("refs/tags/phabricator/diff/7 "), false),
            (None, Some("refs/heads/main"), false),
        ];
        for (url, reference, expected) in table {
            assert_eq!(fits(url, reference), expected, "{url:?} {reference:?}");
        }
    }
}
