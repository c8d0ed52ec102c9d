//! The domain: a build from the request to its outcome. [`BuildRequest`], [`Build`] and
//! [`BuildUpdateMessage`] travel in the queues;
//! [`BuildLog`] records the events of each build, sends the messages that follow from them, and decides its end once.
//!
//! Knows no peer: Phabricator's client is in `phabricator`.

mod build;
mod diff;
pub mod eligibility;
mod log;
mod patches;
mod phid;
mod record;
mod revisions;
mod state;
mod test_result;
mod update;
mod vcs;

pub use build::{Build, BuildRequest, Diff, Patch, Revision, StagedCommit};
pub use diff::NewDiff;
pub use eligibility::{Ineligible, PushGuard, PushGuardError};
pub use log::{ALL, BuildLog, BuildQueues, OPEN, diff_index, revision_index};
pub use patches::{PatchContent, PatchFile, PatchSource, PatchSourceError, PatchWriter};
pub use phid::{Phid, PhidError};
pub use record::{
    Answer, Blocker, BuildEventKind, BuildLocation, BuildRecord, Event, FinalOutcome, FinalResult,
    NotPublic, QueueState, Source,
};
pub use revisions::{ClosedRevisions, RevisionsError};
pub use state::{BuildOutcome, BuildState};
pub use test_result::{TestOutcome, TestResult};
pub use update::{
    BaseChoice, BaseReason, BuildUpdate, BuildUpdateMessage, InfraFailure, PatchFailure, Pushed,
    Skip, SkipReason,
};
pub use vcs::VersionControl;
