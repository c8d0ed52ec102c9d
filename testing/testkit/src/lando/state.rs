//! What the fake holds.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use runtime::Clock;
use serde_json::{Value, json};

use super::mail::MailedPatch;

/// The status of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits for its turn.
    Submitted,
    /// A worker of Lando has it.
    InProgress,
    /// It is tried again later.
    Deferred,
    /// Its head was pushed.
    Landed,
    /// It ended without a push.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl JobStatus {
    fn name(self) -> &'static str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::InProgress => "IN_PROGRESS",
            Self::Deferred => "DEFERRED",
            Self::Landed => "LANDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// A landing job.
#[derive(Debug, Clone)]
pub struct LandingJob {
    /// Its number.
    pub id: u64,
    /// The name of its repository.
    pub repository: String,
    /// The mail address of its user.
    pub requester: String,
    /// The commit that it is for, in the version control of the repository.
    pub target_commit: String,
    /// The patches, in order.
    pub patches: Vec<MailedPatch>,
    /// Its status.
    pub status: JobStatus,
    /// Its head, once it has landed.
    pub commit_id: String,
    /// The reason why it failed, or is deferred.
    pub error: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

pub(super) struct User {
    pub(super) mail: String,
    pub(super) may_push: bool,
}

/// A repository that takes patches.
pub(super) struct TryRepository {
    /// `hg` or `git`.
    pub(super) scm: &'static str,
    /// The repository whose commits are mapped for it.
    pub(super) mapping: String,
}

pub(super) struct State {
    pub(super) clock: Arc<dyn Clock>,
    /// Repository, Git hash, Mercurial hash.
    pub(super) commits: Vec<[String; 3]>,
    /// By their tokens.
    pub(super) users: BTreeMap<String, User>,
    pub(super) repositories: BTreeMap<String, TryRepository>,
    pub(super) jobs: BTreeMap<u64, LandingJob>,
    pub(super) next_id: u64,
    /// What the pre-submission checks find.
    pub(super) check_errors: Vec<String>,
}

impl State {
    /// The commits of a repository whose hash in `scm` begins with `hash`.
    pub(super) fn mapped(&self, repository: &str, scm: &str, hash: &str) -> Vec<&[String; 3]> {
        let column = if scm == "git" { 1 } else { 2 };
        let commits = self.commits.iter();
        commits
            .filter(|commit| commit[0] == repository && commit[column].starts_with(hash))
            .collect()
    }

    pub(super) fn submit(
        &mut self,
        repository: &str,
        requester: &str,
        target_commit: String,
        patches: Vec<MailedPatch>,
    ) -> u64 {
        let (id, now) = (self.next_id, self.clock.now());
        self.next_id += 1;
        let job = LandingJob {
            id,
            repository: repository.to_owned(),
            requester: requester.to_owned(),
            target_commit,
            patches,
            status: JobStatus::Submitted,
            commit_id: String::new(),
            error: String::new(),
            created_at: now,
            updated_at: now,
        };
        self.jobs.insert(id, job);
        id
    }

    pub(super) fn change(&mut self, id: u64, change: impl FnOnce(&mut LandingJob)) {
        let now = self.clock.now();
        assert!(self.jobs.contains_key(&id), "there is no job {id}");
        if let Some(job) = self.jobs.get_mut(&id) {
            change(job);
            job.updated_at = now;
        }
    }
}

impl LandingJob {
    pub(super) fn json(&self) -> Value {
        json!({
            "commit_id": self.commit_id,
            "created_at": self.created_at.to_string(),
            "error": self.error,
            "id": self.id,
            "requester": self.requester,
            "status": self.status.name(),
            "updated_at": self.updated_at.to_string(),
            "repository": self.repository,
        })
    }
}
