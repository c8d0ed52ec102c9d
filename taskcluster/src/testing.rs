//! A Taskcluster for tests: it holds the services' state and serves it over HTTP, with the signature of every request
//! verified. Checked against recorded answers of the real services.

mod setup;

pub use setup::{Client, FakeArtifact, FakeTaskcluster, Fault, Mail, Trigger};
