//! A Phabricator for tests and for the demo: it holds the state of one and serves it over real HTTP, with the answers
//! of the real one (recorded on Phorge 07c1a513).
//!
//! It knows the methods that this project calls. Unlike the real one it acts on messages at once, unless a test has it
//! [hold](FakePhabricator::hold_messages) them, and shows everything to the one token it knows, but for revisions that
//! are not [visible](FakePhabricator::set_visible). What goes wrong on the way is up to the test: see [`Fault`],
//! [`FakePhabricator::hold_next`] and [`Fake::go_down`](crate::Fake::go_down).

mod build;
mod conduit;
mod create;
mod directory;
mod faults;
mod harbormaster;
mod message;
mod plans;
mod request;
mod review;
mod search;
mod server;
mod state;

pub use create::{CreatedDiff, CreatedRevision, NewDiff, NewRevision};
pub use faults::{EVERY_METHOD, Fault, HeldAnswer};
pub use plans::Plan;
pub use request::{BuildVariables, harbormaster_request};
pub use server::{Call, FakePhabricator};
pub use state::{Artifact, RevisionStatus, Target, TargetStatus};
