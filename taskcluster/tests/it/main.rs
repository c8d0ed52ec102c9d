//! The client against recorded responses and messages, and against the fake Taskcluster.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod artifacts;
mod calls;
mod messages;
mod recorded;
mod retries;
mod signatures;
mod stage;
