//! Triggers hooks on Taskcluster, and watches their tasks.
//!
//! Sources turn messages of Pulse, new diffs, builds and pushes into [`Trigger`]s. [`HookRunner`] triggers the hooks.
//! [`Monitor`] watches the tasks that they make, and [`Reporter`] reports on them. [`SelectionStart`], [`SelectionEnd`] and
//! [`TestEnd`] select tests for pushes to Try and publish their results. [`Mailer`] sends mails.

mod hook;
mod hook_tasks;
mod hooks;
mod mail;
mod selection;

pub use hook::{HookName, Trigger, Watched};
pub use hook_tasks::{EndedTask, Monitor, MonitorError, Report, ReportScope, Reporter, TaskEnd};
pub use hooks::{
    CoverageBuilds, DiffAnalysis, HookError, HookRunner, LandedGroups, Landing, PublishedCommits,
    RiskAnalysis,
};
pub use mail::Mailer;
pub use selection::{
    ActionError, SelectionEnd, SelectionError, SelectionQueues, SelectionStart, TestEnd,
};
