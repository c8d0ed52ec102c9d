//! The program as its users run it: processes, signals, Redis, Mercurial; only Phabricator is a stand-in.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod builds;
mod check_config;
mod command_documentation;
mod command_line;
mod commands;
mod deferred_builds;
mod docs;
mod ends;
mod interrupted;
mod monitor;
mod names;
mod notify;
mod outages;
mod predecessors;
mod private_authority;
mod private_revisions;
mod sentry;
mod stage;
mod telemetry;
mod triggers;
mod version_controls;
mod world;
