//! Hooks: what triggers them, and the one handler that does it.
//!
//! A source turns a message into [`Trigger`](crate::model::Trigger)s, each with a key for what it is triggered for, and
//! sends them in the step that settles its message. [`HookRunner`] triggers them and hands the tasks to monitoring.

mod coverage;
mod diffs;
mod error;
mod group;
mod landed;
mod mozreview;
mod risk;
mod runner;

pub use coverage::CoverageBuilds;
pub use diffs::DiffAnalysis;
pub use error::HookError;
pub use landed::{LandedGroups, Landing};
pub use mozreview::PublishedCommits;
pub use risk::RiskAnalysis;
pub use runner::HookRunner;
