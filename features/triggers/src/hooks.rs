//! Hooks: what triggers them, and the one handler that does it.
//!
//! A source turns a message into [`Trigger`](crate::Trigger)s, each with a key for what it is triggered for, and
//! sends them in the step that settles its message. [`HookRunner`] triggers them and hands the tasks to monitoring.

mod coverage;
mod diffs;
mod error;
mod mozreview;
mod post_landing_review;
mod risk_analysis;
mod runner;
mod task_group;

pub use coverage::CoverageBuilds;
pub use diffs::DiffAnalysis;
pub use error::HookError;
pub use mozreview::PublishedCommits;
pub use post_landing_review::{LandedGroups, Landing};
pub use risk_analysis::RiskAnalysis;
pub use runner::HookRunner;
