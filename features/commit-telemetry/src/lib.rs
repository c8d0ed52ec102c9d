//! Commit telemetry: which review system the author of each pushed changeset used, sent as a ping to the telemetry
//! ingestion edge.
//!
//! [`PushHandler`] takes Mercurial's push messages of Pulse, and [`Telemetry`] does what is to be done for a changeset:
//! it asks [`Hgweb`] for what the changeset is, the rules of [`Evidence::of`] (and [`Bugzilla`], where they cannot
//! tell) for its review system, and sends a [`Ping`] to the [`Edge`].
//!
//! A [`Backfill`] does the same for pushes of the past, and [`Patience`] waits for the servers where no bus does.
//!
//! This crate knows neither Taskcluster nor Phabricator.

mod backfill;
mod bugs;
mod bugzilla;
mod call;
mod classify;
mod diffstat;
mod edge;
mod error;
mod handler;
mod hgweb;
mod names;
mod patience;
mod pattern;
mod ping;
mod skim;
mod telemetry;

pub use backfill::{Backfill, Ended, Place, Span};
pub use bugs::bug_numbers;
pub use bugzilla::Bugzilla;
pub use classify::{Evidence, ReviewSystem, Rules};
pub use diffstat::{DiffFault, Diffstat, DiffstatParser};
pub use edge::{Edge, EdgeSettings};
pub use error::TelemetryError;
pub use handler::PushHandler;
pub use hgweb::{Changeset, Hgweb, Pushlog};
pub use names::{Node, Repository};
pub use patience::{NotDone, Patience};
pub use ping::Ping;
pub use telemetry::{Show, Telemetry};
