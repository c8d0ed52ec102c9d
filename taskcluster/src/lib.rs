//! A client of Taskcluster's REST API.
//!
//! [`Taskcluster`] calls the hooks, queue, index, notify and secrets services of one deployment. [`model`] holds the tasks
//! of their responses, and the messages that the queue service publishes on Pulse.

mod client;
pub mod model;

pub use client::{
    Artifact, ArtifactStream, Credentials, Email, EmailTemplate, GroupPage, GroupTask, IndexedTask,
    Mailed, Taskcluster, TaskclusterError,
};

/// Mails wait in a queue of the bus until they are sent.
impl bus::Message for Email {
    const VERSION: u16 = 1;
}
