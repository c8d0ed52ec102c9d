//! Commit telemetry: which review system the author of each pushed changeset used, sent as a ping to the ingestion edge of
//! telemetry.mozilla.org.
//!
//! [`PushHandler`] handles Mercurial's push messages of Pulse. [`Telemetry`] makes and sends the ping of one changeset: it
//! loads the changeset from [`Hgweb`], classifies it by the rules of `classify.rs` (and by its bug on [`Bugzilla`], where the
//! changeset alone does not decide), and sends a [`Ping`] to the [`Edge`].
//!
//! [`Backfill`] does the same for a range of past pushes. [`OutageRetry`] retries for commands, which run without a bus.
//!
//! This crate knows neither Taskcluster nor Phabricator.

mod backfill;
mod bugs;
mod bugzilla;
mod classify;
mod diffstat;
mod edge;
mod error;
mod handler;
mod hgweb;
mod http;
mod ids;
mod json_filter;
mod pattern;
mod ping;
mod retry;
mod telemetry;

pub use backfill::{Backfill, ChangesetResult, Cursor, PushRange};
pub use bugzilla::Bugzilla;
pub use classify::{Classification, ReviewSystem, Rules, classify};
pub use diffstat::{DiffFault, Diffstat};
pub use edge::{Edge, EdgeSettings};
pub use error::TelemetryError;
pub use handler::PushHandler;
pub use hgweb::{Changeset, Hgweb, Pushlog};
pub use ids::{Node, Repository};
pub use ping::Ping;
pub use retry::{OutageRetry, RetryError};
pub use telemetry::{PrintPing, Telemetry};
