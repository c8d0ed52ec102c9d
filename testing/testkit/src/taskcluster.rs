//! A Taskcluster for tests: it holds the services' state and serves it over HTTP. Every signature is verified. Its
//! answers are checked against recorded ones of the real services.

mod artifacts;
mod auth;
mod certificate;
mod faults;
mod hooks;
mod notify;
mod payload;
mod request;
mod rest;
mod server;
mod state;
mod tasks;

pub use artifacts::FakeArtifact;
pub use auth::{Client, Credentials};
pub use faults::{EVERY_CALL, Fault};
pub use hooks::Trigger;
pub use notify::Mail;
pub use server::FakeTaskcluster;
pub use tasks::TaskState;
