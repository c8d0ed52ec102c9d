//! The crate against a Taskcluster: recorded answers and messages, and the fake one with its state.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod artifacts;
mod calls;
mod hooks;
mod messages;
mod monitoring;
mod recorded;
mod retries;
mod selection;
mod signatures;
mod stage;
