//! A Phabricator for tests and for the demo: it holds the state of one and serves it over real HTTP, with the answers
//! of the real one (recorded on Phorge 07c1a513).
//!
//! It knows the methods that this project calls. Unlike the real one it acts on messages at once, and shows everything
//! to the one token it knows, but for revisions that are not [visible](FakePhabricator::set_visible).

mod build;
mod create;
mod directory;
mod harbormaster;
mod review;
mod search;
mod server;
mod state;

pub use build::{BuildVariables, harbormaster_request};
pub use create::{CreatedDiff, CreatedRevision, NewDiff, NewRevision};
pub use server::{Call, FakePhabricator, Fault};
pub use state::{Artifact, RevisionStatus, Target, TargetStatus};
