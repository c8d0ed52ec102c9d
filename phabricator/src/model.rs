//! What travels between the steps of a build. Every other subsystem knows Phabricator only by these types.

mod build;
mod phid;
mod report;

pub use build::{Build, BuildRequest, Diff, Patch, Revision};
pub use phid::{Phid, PhidError};
pub use report::{Applied, BaseChoice, BaseReason, Blame, PatchFailure, Pushed, Report, Update};
