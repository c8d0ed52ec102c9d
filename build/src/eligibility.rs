//! Eligibility: the decision that a build is (still) to be built, with one text for each reason against it.
//!
//! A worker checks it when it loads the stack, while the build waits for its clone or for a closed tree, and right before
//! the push: hours may lie in between.
//! The caller collects the [`Facts`]; [`Rules::decide`] decides.

use std::{collections::BTreeMap, error::Error, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use thiserror::Error;

use super::{
    Build, BuildRequest, BuildUpdate, InfraFailure, NotPublic, PatchFailure, Phid, SkipReason,
    VersionControl,
};

/// The step at which eligibility is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the stack is loaded.
    Load,
    /// Right before the head is pushed, and while a build waits for that.
    Push,
}

/// The reason for which a build is not to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ineligible {
    /// Its revision is not public. At [`Stage::Load`] it may become public later.
    Private(NotPublic),
    /// A parent of `child`, a revision of the stack of `revision`, is not public.
    HiddenParent {
        /// The number of the revision to build.
        revision: u64,
        /// The number of the revision whose parent is not public.
        child: u64,
    },
    /// The request names objects that do not belong together: its build plan passes wrong variables, or another sender than
    /// Harbormaster sent it. The author cannot mend this.
    Contradiction(String),
    /// Its target has ended in Harbormaster, with this status.
    EndedElsewhere {
        /// The name of the status, such as `aborted`.
        status: &'static str,
    },
    /// Its build was restarted in Harbormaster: the newer target is a build of its own.
    Restarted,
    /// Revisions of its author are not built.
    Author,
    /// Patches for its repository are not built.
    Repository(Phid),
    /// Its stack changes this file, one of the configured `skippable_files`.
    File(String),
    /// Its revision has landed.
    Landed {
        /// The number of the revision.
        revision: u64,
    },
    /// Its author has abandoned the revision.
    Abandoned {
        /// The number of the revision.
        revision: u64,
    },
    /// There is a newer diff.
    Superseded {
        /// The number of the diff to build.
        diff: u64,
        /// The number of the newer one.
        newer: u64,
    },
    /// A newer build of its diff was pushed to the same ref.
    Overtaken {
        /// The number of the diff.
        diff: u64,
    },
    /// Its diff is too old.
    Expired {
        /// The number of the diff.
        diff: u64,
        /// The age of the diff.
        age: Duration,
        /// The greatest age at which a diff is built.
        allowed: Duration,
    },
}

impl Ineligible {
    /// The update that ends the build of a repository with this version control.
    pub fn update(&self, vcs: VersionControl) -> BuildUpdate {
        let (reason, text) = match self {
            Self::Private(_) => return BuildUpdate::Private,
            Self::HiddenParent { revision, child } => {
                return BuildUpdate::PatchFailed(hidden_parent(vcs, *revision, *child));
            }
            Self::Contradiction(what) => {
                return BuildUpdate::InfraFailed(InfraFailure {
                    summary: format!("The build request contradicts itself: {what}."),
                    details: String::new(),
                    attempts: 0,
                    seconds: 0.0,
                });
            }
            Self::EndedElsewhere { status } => (
                SkipReason::EndedElsewhere,
                format!("The build target is {status} in Harbormaster."),
            ),
            Self::Restarted => (
                SkipReason::EndedElsewhere,
                "The build was restarted in Harbormaster.".to_owned(),
            ),
            Self::Author => (
                SkipReason::Author,
                "Revisions of this author are not built.".to_owned(),
            ),
            Self::Repository(phid) => (
                SkipReason::Repository,
                format!("Unsupported repository: patches for {phid} are not built."),
            ),
            Self::File(path) => (
                SkipReason::File,
                format!(
                    "The stack changes `{path}`, and stacks that change this file are not built."
                ),
            ),
            Self::Landed { revision } => (
                SkipReason::Landed,
                format!("D{revision} has landed, there is no patch left to build."),
            ),
            Self::Abandoned { revision } => (
                SkipReason::Abandoned,
                format!("D{revision} was abandoned, its patch is not built."),
            ),
            Self::Superseded { diff, newer } => (
                SkipReason::Superseded,
                format!(
                    "Superseded: diff {diff} was replaced by the newer diff {newer}, and only the newest is built."
                ),
            ),
            Self::Overtaken { diff } => (
                SkipReason::Superseded,
                format!("Superseded: a newer build of diff {diff} was pushed, and its head stays."),
            ),
            Self::Expired { diff, age, allowed } => (
                SkipReason::Expired,
                format!(
                    "Expired: diff {diff} was made {} hours ago, and diffs older than {} hours are not built. \
                     Submit it again to have it built.",
                    age.as_secs() / 3600,
                    allowed.as_secs() / 3600
                ),
            ),
        };
        BuildUpdate::skipped(reason, text)
    }
}

/// The answer to the author of `revision` when a parent of `child` is not public. It does not name the parent.
fn hidden_parent(vcs: VersionControl, revision: u64, child: u64) -> PatchFailure {
    PatchFailure {
        vcs,
        summary: format!(
            "The stack of D{revision} cannot be loaded: a parent of D{child} was deleted or is not public."
        ),
        details: String::new(),
        advice: "Remove that parent in Phabricator, or make it public, and submit again."
            .to_owned(),
        commands: String::new(),
        base: None,
        seconds: 0.0,
    }
}

/// The configured rules of eligibility.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The greatest age at which a diff is built.
    pub expiry: Duration,
    /// Repositories that are built.
    pub repositories: BTreeMap<Phid, VersionControl>,
}

/// The facts about a build whose revision is public.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The request of the build.
    pub request: &'a BuildRequest,
    /// The reason for which nothing can be published on its target.
    pub target: Option<Ineligible>,
    /// The diff to build; `None` when Phabricator does not show it.
    pub diff: Option<DiffFacts>,
    /// The repository of its revision.
    pub repository: Option<Phid>,
    /// Whether revisions of its author are skipped.
    pub author_is_skipped: bool,
    /// Whether its revision has landed.
    pub landed: bool,
    /// Whether its revision was abandoned.
    pub abandoned: bool,
    /// The number of the revision's newest diff, if that is not the one to build.
    pub newest_diff: Option<u64>,
    /// Whether a revision that the stack was loaded with is not public any more.
    pub parent_is_hidden: bool,
}

/// The facts about a diff.
#[derive(Debug, Clone, Copy)]
pub struct DiffFacts {
    /// Whether it belongs to the build's revision.
    pub is_of_revision: bool,
    /// The time of its creation, by Phabricator's clock.
    pub created_at: Timestamp,
}

impl Rules {
    /// The version control of a repository. One that is not built has the default.
    pub fn vcs(&self, repository: &Phid) -> VersionControl {
        self.repositories
            .get(repository)
            .copied()
            .unwrap_or_default()
    }

    /// The reason against a build whose revision is public; `None` when it is to be built. The first reason counts.
    pub fn decide(&self, stage: Stage, facts: &Facts<'_>, now: Timestamp) -> Option<Ineligible> {
        let request = facts.request;
        let (revision, diff) = (request.revision_id, request.diff_id);
        if let Some(ended) = &facts.target {
            return Some(ended.clone());
        }
        if stage == Stage::Push && facts.parent_is_hidden {
            return Some(Ineligible::HiddenParent {
                revision,
                child: revision,
            });
        }
        let Some(found) = facts.diff else {
            return Some(Ineligible::Contradiction(format!(
                "there is no diff {diff}"
            )));
        };
        if !found.is_of_revision {
            return Some(Ineligible::Contradiction(format!(
                "diff {diff} is not one of D{revision}"
            )));
        }
        if facts.repository.as_ref() != Some(&request.repository) {
            return Some(Ineligible::Contradiction(format!(
                "D{revision} is not for {}",
                request.repository
            )));
        }
        if facts.author_is_skipped {
            return Some(Ineligible::Author);
        }
        if !self.repositories.contains_key(&request.repository) {
            return Some(Ineligible::Repository(request.repository.clone()));
        }
        if facts.landed {
            return Some(Ineligible::Landed { revision });
        }
        if facts.abandoned {
            return Some(Ineligible::Abandoned { revision });
        }
        // Only a newer diff supersedes: the revision was read earlier, and may still name an older diff as its newest.
        if let Some(newer) = facts.newest_diff.filter(|newest| *newest > diff) {
            return Some(Ineligible::Superseded { diff, newer });
        }
        expired(diff, found.created_at, self.expiry, now)
    }
}

/// [`Ineligible::Expired`] when `diff`, created at `created_at`, is older than `allowed`. A diff from the future has no
/// age.
pub fn expired(
    diff: u64,
    created_at: Timestamp,
    allowed: Duration,
    now: Timestamp,
) -> Option<Ineligible> {
    let age = Duration::try_from(now.duration_since(created_at)).unwrap_or(Duration::ZERO);
    (age > allowed).then_some(Ineligible::Expired { diff, age, allowed })
}

/// Checks eligibility right before a push: the build may have waited since its stack was loaded.
#[async_trait]
pub trait PushGuard: Send + Sync + 'static {
    /// The reason against the push; `None` when the head may be pushed.
    async fn check(
        &self,
        build: &Build,
        now: Timestamp,
    ) -> Result<Option<Ineligible>, PushGuardError>;
}

/// The check failed. Nothing may be pushed until it succeeds: the revision may have become private.
#[derive(Debug, Error)]
pub enum PushGuardError {
    /// The peer is down, for all builds.
    #[error("cannot check whether the build is still eligible")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    /// The response about this build cannot be read.
    #[error("cannot read whether the build is still eligible")]
    Unclear(#[source] Box<dyn Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BuildOutcome;

    const HOUR: Duration = Duration::from_secs(3600);

    fn phid(text: &str) -> Phid {
        Phid::parse(text).expect("a PHID")
    }

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().expect("a time")
    }

    fn request() -> BuildRequest {
        BuildRequest {
            target: phid("PHID-HMBT-a"),
            diff_id: 3,
            repository: phid("PHID-REPO-a"),
            revision_id: 2,
            accepted_at: now(),
            staged: None,
        }
    }

    fn rules() -> Rules {
        Rules {
            expiry: 24 * HOUR,
            repositories: [phid("PHID-REPO-a"), phid("PHID-REPO-b")]
                .map(|phid| (phid, VersionControl::Mercurial))
                .into(),
        }
    }

    fn good(request: &BuildRequest) -> Facts<'_> {
        Facts {
            request,
            target: None,
            diff: Some(DiffFacts {
                is_of_revision: true,
                created_at: now() - HOUR,
            }),
            repository: Some(request.repository.clone()),
            author_is_skipped: false,
            landed: false,
            abandoned: false,
            newest_diff: None,
            parent_is_hidden: false,
        }
    }

    fn decided(
        stage: Stage,
        change: impl FnOnce(&mut Facts<'_>),
    ) -> Option<(BuildOutcome, Ineligible)> {
        let request = request();
        let mut facts = good(&request);
        change(&mut facts);
        let found = rules().decide(stage, &facts, now())?;
        Some((found.update(VersionControl::Mercurial).outcome()?, found))
    }

    type Case = (&'static str, fn(&mut Facts<'_>), BuildOutcome);

    /// In the order in which they are checked.
    const REASONS: [Case; 9] = [
        (
            "ended elsewhere",
            |facts| facts.target = Some(Ineligible::Restarted),
            BuildOutcome::Skipped(SkipReason::EndedElsewhere),
        ),
        (
            "no diff",
            |facts| facts.diff = None,
            BuildOutcome::InfraFailed,
        ),
        (
            "another repository",
            |facts| facts.repository = None,
            BuildOutcome::InfraFailed,
        ),
        (
            "skipped author",
            |facts| facts.author_is_skipped = true,
            BuildOutcome::Skipped(SkipReason::Author),
        ),
        (
            "landed",
            |facts| facts.landed = true,
            BuildOutcome::Skipped(SkipReason::Landed),
        ),
        (
            "abandoned",
            |facts| facts.abandoned = true,
            BuildOutcome::Skipped(SkipReason::Abandoned),
        ),
        (
            "newer diff",
            |facts| facts.newest_diff = Some(4),
            BuildOutcome::Skipped(SkipReason::Superseded),
        ),
        (
            "too old",
            |facts| {
                facts.diff = Some(DiffFacts {
                    is_of_revision: true,
                    created_at: now() - 25 * HOUR,
                });
            },
            BuildOutcome::Skipped(SkipReason::Expired),
        ),
        (
            "older diff is the newest that is known",
            |facts| {
                facts.newest_diff = Some(4);
                facts.landed = true;
            },
            BuildOutcome::Skipped(SkipReason::Landed),
        ),
    ];

    #[test]
    fn each_reason_ends_a_build_at_both_stages() {
        for stage in [Stage::Load, Stage::Push] {
            assert_eq!(decided(stage, |_| {}), None);
            for (case, change, expected) in REASONS {
                let found = decided(stage, change).map(|(state, _)| state);
                assert_eq!(found, Some(expected), "{case} at {stage:?}");
            }
        }
    }

    #[test]
    fn hidden_parent_counts_once_the_stack_is_loaded() {
        let hide = |facts: &mut Facts<'_>| facts.parent_is_hidden = true;
        assert_eq!(decided(Stage::Load, hide), None);
        let (state, _) = decided(Stage::Push, hide).expect("an end");
        assert_eq!(state, BuildOutcome::PatchFailed);
    }

    #[test]
    fn age_is_compared_with_the_limit_to_the_second() {
        let at = |age: Duration| expired(3, now() - age, 24 * HOUR, now());
        assert_eq!(at(24 * HOUR), None);
        let found = at(25 * HOUR).expect("expired").update(VersionControl::Git);
        let text = "Expired: diff 3 was made 25 hours ago, and diffs older than 24 hours are not built. \
                    Submit it again to have it built.";
        assert_eq!(found, BuildUpdate::skipped(SkipReason::Expired, text));
        assert_eq!(
            expired(3, now() + HOUR, 24 * HOUR, now()),
            None,
            "a clock may be ahead"
        );
    }

    #[test]
    fn unconfigured_repository_is_not_built() {
        let mut request = request();
        request.repository = phid("PHID-REPO-c");
        let found = rules().decide(Stage::Load, &good(&request), now());
        assert_eq!(found, Some(Ineligible::Repository(phid("PHID-REPO-c"))));
    }

    #[test]
    fn older_diff_as_the_newest_one_supersedes_nothing() {
        assert_eq!(
            decided(Stage::Load, |facts| facts.newest_diff = Some(2)),
            None
        );
    }
}
