//! Taskcluster: its REST API, and what this project does with it.
//!
//! [`Taskcluster`] calls the hooks, queue, index, notify and secrets services of one deployment. [`model`] holds what
//! they and the queue's Pulse messages speak of: tasks, their runs and their states.
//!
//! [`SelectionStart`], [`SelectionEnd`] and [`TestEnd`] have tests selected for pushes to Try, and their results told.
//! [`Mailer`] sends mails.

mod client;
mod mail;
pub mod model;
mod selection;
pub mod testing;

pub use client::{
    Artifact, Credentials, Email, EmailTemplate, GroupPage, GroupTask, IndexedTask, Mailed, Taskcluster,
    TaskclusterError,
};
pub use mail::Mailer;
pub use selection::{ActionError, SelectionEnd, SelectionError, SelectionQueues, SelectionStart, TestEnd};
