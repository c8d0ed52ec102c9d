//! The Mercurial worker on a real Mercurial, with real repositories.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod base_mapping;
mod contract;
mod docs;
mod greedy;
mod hostile;
mod hostile_environment;
mod hostile_hg;
mod lando;
mod leftovers;
mod outcomes;
mod probes;
mod real_patches;
mod rebase;
mod reports;
mod secrets;
mod sessions;
mod texts;
mod world;
