//! What the fake Phabricator holds.

use std::sync::Arc;

use bus::Clock;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::model::Phid;

pub(super) struct State {
    pub(super) clock: Arc<dyn Clock>,
    /// Where it is served, without a slash at the end.
    pub(super) url: String,
    pub(super) users: Vec<User>,
    pub(super) projects: Vec<Project>,
    pub(super) repositories: Vec<Repository>,
    pub(super) revisions: Vec<Revision>,
    pub(super) diffs: Vec<Diff>,
    /// Child and parent, oldest first.
    pub(super) parents: Vec<(Phid, Phid)>,
    pub(super) targets: Vec<Target>,
    serial: u64,
}

pub(super) struct User {
    pub(super) id: u64,
    pub(super) phid: Phid,
    pub(super) username: String,
    pub(super) real_name: String,
    pub(super) created_at: Timestamp,
}

pub(super) struct Project {
    pub(super) id: u64,
    pub(super) phid: Phid,
    pub(super) slug: String,
    pub(super) created_at: Timestamp,
}

pub(super) struct Repository {
    pub(super) id: u64,
    pub(super) phid: Phid,
    pub(super) short_name: String,
    pub(super) created_at: Timestamp,
}

pub(super) struct Revision {
    pub(super) id: u64,
    pub(super) phid: Phid,
    pub(super) title: String,
    pub(super) author: Phid,
    pub(super) repository: Phid,
    pub(super) status: RevisionStatus,
    pub(super) projects: Vec<Phid>,
    pub(super) reviewers: Vec<Phid>,
    pub(super) visible: bool,
    pub(super) newest_diff: Phid,
    pub(super) created_at: Timestamp,
}

/// Where a revision is in its review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionStatus {
    /// Waits for its first build.
    Draft,
    /// Waits for its reviewers.
    NeedsReview,
    /// Accepted.
    Accepted,
    /// Landed.
    Published,
    /// Given up.
    Abandoned,
}

pub(super) struct Diff {
    pub(super) id: u64,
    pub(super) phid: Phid,
    pub(super) revision: Phid,
    pub(super) author: Phid,
    pub(super) repository: Phid,
    pub(super) base: Option<String>,
    /// `"Name" <mail>` and message.
    pub(super) commit: Option<(String, String)>,
    pub(super) patch: String,
    pub(super) created_at: Timestamp,
}

/// A build target: what one build of one diff waits on.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its number.
    pub id: u64,
    /// Its PHID.
    pub phid: Phid,
    /// The number of the diff that is built.
    pub diff_id: u64,
    /// How far it is.
    pub status: TargetStatus,
    /// The types of the messages it got, as they came.
    pub messages: Vec<String>,
    /// The unit results it got. They are appended, whatever the status.
    pub units: Vec<Map<String, Value>>,
    /// Its artifacts.
    pub artifacts: Vec<Artifact>,
    pub(super) started_at: Timestamp,
    pub(super) completed_at: Option<Timestamp>,
}

/// How far a build target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetStatus {
    /// Its request is on the way; messages are kept.
    Building,
    /// Its request was accepted; it waits for a message.
    Waiting,
    /// Ended well.
    Passed,
    /// Ended badly.
    Failed,
}

/// Something that is shown on a build target.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Its key, unique on its target.
    pub key: String,
    /// What it says.
    pub data: Value,
}

impl State {
    pub(super) fn new(clock: Arc<dyn Clock>, url: String) -> Self {
        Self {
            clock,
            url,
            users: Vec::new(),
            projects: Vec::new(),
            repositories: Vec::new(),
            revisions: Vec::new(),
            diffs: Vec::new(),
            parents: Vec::new(),
            targets: Vec::new(),
            serial: 0,
        }
    }

    /// A new PHID of four letters of type.
    #[expect(clippy::expect_used, reason = "its form is fixed")]
    pub(super) fn new_phid(&mut self, kind: &str) -> Phid {
        self.serial += 1;
        Phid::parse(&format!("PHID-{kind}-{:020}", self.serial)).expect("a PHID")
    }

    pub(super) fn revision(&self, phid: &Phid) -> Option<&Revision> {
        self.revisions.iter().find(|revision| revision.phid == *phid)
    }

    /// A diff is seen by whoever sees its revision.
    pub(super) fn sees_diff(&self, diff: &Diff) -> bool {
        self.revision(&diff.revision).is_some_and(|revision| revision.visible)
    }

    /// A target is seen by whoever sees its diff.
    pub(super) fn sees_target(&self, target: &Target) -> bool {
        self.diffs.iter().any(|diff| diff.id == target.diff_id && self.sees_diff(diff))
    }
}

impl Target {
    /// The first message that ends it does; while its request is on the way, nothing ends it yet.
    pub(super) fn act(&mut self, now: Timestamp) {
        if self.status != TargetStatus::Waiting {
            return;
        }
        let end = self.messages.iter().find_map(|kind| match kind.as_str() {
            "pass" => Some(TargetStatus::Passed),
            "fail" => Some(TargetStatus::Failed),
            _ => None,
        });
        if let Some(end) = end {
            self.status = end;
            self.completed_at = Some(now);
        }
    }
}
