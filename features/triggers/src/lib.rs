//! Triggers hooks on Taskcluster, and watches their tasks.
//!
//! * Sources turn messages of Pulse, new diffs, builds and pushes into [`Trigger`]s. [`HookRunner`] triggers the hooks.
//! * [`TaskWatcher`] polls the tasks that the hooks create, and [`Reporter`] reports on them.
//! * [`SelectionStart`], [`SelectionResultHandler`] and [`TestResultHandler`] have tests selected for pushes to Try, add
//!   them, and publish their results.
//! * [`Mailer`] sends mails.

mod hook;
mod hook_tasks;
mod hooks;
mod mail;
mod selection;

pub use hook::{HookName, HookTask, Trigger};
pub use hook_tasks::{
    EndedTask, Report, ReportScope, Reporter, TaskResult, TaskWatcher, WatchError,
};
pub use hooks::{
    CoverageBuilds, DiffAnalysis, HookError, HookRunner, Landing, PostLandingReview,
    PublishedCommits, RiskAnalysis,
};
pub use mail::Mailer;
pub use selection::{
    ActionError, SelectionError, SelectionQueues, SelectionResultHandler, SelectionStart,
    TestResultHandler,
};
