//! The crate with hgweb, Bugzilla and the ingestion edge: fakes with recorded answers, and a real Mercurial.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod bugzilla;
mod edge;
mod hg;
mod hostile;
mod peers;
mod pings;
mod pushes;
mod real_diffs;
mod vectors;
mod volume;
