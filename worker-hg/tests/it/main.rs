//! The Mercurial worker on a real Mercurial, with real repositories.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod base_mapping;
mod bases;
mod crashes;
mod destination;
mod docs;
mod full_disk;
mod greedy;
mod hostile;
mod hostile_environment;
mod hostile_hg;
mod inventory;
mod outcomes;
mod patch_files;
mod patches;
mod probes;
mod pushes;
mod real_patches;
mod reports;
mod secrets;
mod sessions;
mod slots;
mod stacks;
mod texts;
mod tree_service;
mod trees;
mod upper_base;
mod wanted;
mod world;
