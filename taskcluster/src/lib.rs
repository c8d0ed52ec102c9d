//! Taskcluster: its REST API, and what this project does with it.
//!
//! [`Taskcluster`] calls the hooks, queue, index, notify and secrets services of one deployment. [`model`] holds what
//! they and the queue's Pulse messages speak of: tasks, their runs and their states; and what travels between handlers.
//!
//! [`HookRunner`] triggers hooks; what turns messages into triggers stands beside it. [`Monitor`] watches the tasks that
//! come of it, and [`Reporter`] reports on them. [`SelectionStart`], [`SelectionEnd`] and [`TestEnd`] have tests selected
//! for pushes to Try, and their results told. [`Mailer`] sends mails.

mod client;
mod hooks;
mod mail;
pub mod model;
mod monitoring;
mod selection;

pub use client::{
    Artifact, ArtifactStream, Credentials, Email, EmailTemplate, GroupPage, GroupTask, IndexedTask,
    Mailed, Taskcluster, TaskclusterError,
};
pub use hooks::{
    CoverageBuilds, DiffAnalysis, HookError, HookRunner, LandedGroups, Landing, PublishedCommits,
    RiskAnalysis,
};
pub use mail::Mailer;
pub use monitoring::{EndedTask, Monitor, MonitorError, Report, ReportScope, Reporter, TaskEnd};
pub use selection::{
    ActionError, SelectionEnd, SelectionError, SelectionQueues, SelectionStart, TestEnd,
};
