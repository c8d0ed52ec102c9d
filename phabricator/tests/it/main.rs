//! The crate against a Phabricator: recorded exchanges, and the fake one with its state.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod audit;
mod client;
mod eligibility;
mod faults;
mod harbormaster;
mod lando;
mod names;
mod patches;
mod poller;
mod publisher;
mod recorded;
mod shapes;
mod stage;
mod test_results;
mod texts;
mod workflow;
mod world;
