//! What the fake Phabricator holds.

use std::sync::Arc;

use jiff::Timestamp;
use runtime::Clock;
use serde_json::{Map, Value};

use super::{build::PLAN, plans::Plan};
use build::Phid;

pub(super) struct State {
    pub(super) clock: Arc<dyn Clock>,
    /// Where it is served, without a slash at the end.
    pub(super) url: String,
    pub(super) users: Vec<User>,
    pub(super) projects: Vec<Project>,
    pub(super) repositories: Vec<Repository>,
    pub(super) revisions: Vec<Revision>,
    pub(super) diffs: Vec<Diff>,
    /// Oldest first.
    pub(super) edges: Vec<Edge>,
    pub(super) plans: Vec<Plan>,
    pub(super) builds: Vec<Build>,
    pub(super) targets: Vec<Target>,
    pub(super) artifacts: Vec<ListedArtifact>,
    /// Messages are kept, and nothing is done about them yet.
    pub(super) messages_held: bool,
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
    /// Who may see it. Whatever stands here, the token sees it when it is visible.
    pub(super) view_policy: String,
    pub(super) newest_diff: Phid,
    pub(super) created_at: Timestamp,
    pub(super) modified_at: Timestamp,
}

/// Where a revision is in its review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionStatus {
    /// Waits for its first build.
    Draft,
    /// Waits for its reviewers.
    NeedsReview,
    /// A reviewer wants something changed.
    NeedsRevision,
    /// Its author takes it back for now, or its first build failed.
    ChangesPlanned,
    /// Accepted.
    Accepted,
    /// Landed.
    Published,
    /// Given up.
    Abandoned,
}

/// That one revision stands on another.
pub(super) struct Edge {
    pub(super) child: Phid,
    pub(super) parent: Phid,
    pub(super) created_at: Timestamp,
}

pub(super) struct Diff {
    pub(super) id: u64,
    pub(super) phid: Phid,
    /// The type that searches show; the real one shows nothing but `DIFF`.
    pub(super) kind: &'static str,
    pub(super) revision: Option<Phid>,
    pub(super) author: Phid,
    pub(super) repository: Option<Phid>,
    pub(super) base: Option<String>,
    /// `"Name" <mail>` and message.
    pub(super) commit: Option<(String, String)>,
    pub(super) patch: String,
    pub(super) created_at: Timestamp,
}

/// One run of a build plan on one diff, and the buildable that it belongs to.
pub(super) struct Build {
    pub(super) id: u64,
    pub(super) phid: Phid,
    pub(super) buildable: Phid,
    pub(super) plan: Phid,
    pub(super) diff_id: u64,
    /// Goes up with each restart.
    pub(super) generation: u64,
    pub(super) stopped: Option<Stop>,
    pub(super) created_at: Timestamp,
    pub(super) modified_at: Timestamp,
}

/// Why a build that has not ended does not go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Paused,
    Aborted,
}

/// A build target: what one build of one diff waits on.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its number.
    pub id: u64,
    /// Its PHID.
    pub phid: Phid,
    /// The build that it is part of.
    pub build: Phid,
    /// Which run of its build it belongs to; the first is 1.
    pub generation: u64,
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
    /// Its build was aborted or restarted while its request was on the way. One that waits then goes on waiting, and
    /// nothing ends it any more.
    Aborted,
}

/// Something that is shown on a build target.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Its key, unique on its target.
    pub key: String,
    /// What it says.
    pub data: Value,
}

/// What a search shows of an artifact; what it says is not in there.
pub(super) struct ListedArtifact {
    pub(super) phid: Phid,
    pub(super) target: Phid,
    pub(super) key: String,
    pub(super) created_at: Timestamp,
}

#[expect(clippy::expect_used, reason = "its form is fixed")]
fn first_plan() -> Vec<Plan> {
    vec![Plan::new(Phid::parse(PLAN).expect("a PHID"))]
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
            edges: Vec::new(),
            plans: first_plan(),
            builds: Vec::new(),
            targets: Vec::new(),
            artifacts: Vec::new(),
            messages_held: false,
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
        self.revisions
            .iter()
            .find(|revision| revision.phid == *phid)
    }

    /// A diff is seen by whoever sees its revision.
    pub(super) fn sees_diff(&self, diff: &Diff) -> bool {
        let Some(revision) = &diff.revision else {
            return true;
        };
        self.revision(revision)
            .is_some_and(|revision| revision.visible)
    }

    /// The diff that a build is of, when it is seen: a build and its targets are seen by whoever sees it.
    pub(super) fn visible_diff(&self, id: u64) -> Option<&Diff> {
        self.diffs
            .iter()
            .find(|diff| diff.id == id && self.sees_diff(diff))
    }
}
