//! The Git worker on a real Git, with real repositories.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod bases;
mod builds;
mod clones;
mod contract;
mod crashes;
mod hostile;
mod lando;
mod partial;
mod peers;
mod probes;
mod refs;
mod staging;
mod texts;
mod world;
