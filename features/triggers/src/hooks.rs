//! The sources that trigger hooks, and the one handler that triggers them.
//!
//! A source turns a message into [`Trigger`](crate::Trigger)s, each with a key that names what it is triggered for. It sends
//! them in the step that settles its message. [`HookRunner`] triggers them, and sends their tasks to the watcher.

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
pub use post_landing_review::{Landing, PostLandingReview};
pub use risk_analysis::RiskAnalysis;
pub use runner::HookRunner;
