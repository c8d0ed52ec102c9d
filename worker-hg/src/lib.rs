//! The Mercurial worker: applies a build's stack of patches on a clone and pushes the head to Try.
//!
//! [`Mercurial`] holds one clone per repository, without a working copy. Its [`Mercurial::clone_manager`] prepares the
//! clones and its [`Mercurial::handler`] does the builds, each through one warm `hg` command server. What it takes in
//! (patches, names, messages) is hostile; what it needs to know about Mercurial's own trust in patches stands at the
//! head of `patch.rs`.

mod base;
mod clone;
mod disk;
mod error;
mod handler;
mod hg;
mod outcome;
mod patch;
mod process;
mod processor_time;
mod repository;
mod settings;
mod size;
#[cfg(test)]
mod tests;
mod text;
mod transport;
mod tree_status;
mod try_config;
mod vcs;
mod worker;

pub use clone::inventory::{CloneReport, CloneState, Inventory};
pub use clone::requests::{MaintenanceResult, Outcome, Progress, Requests, Task};
pub use error::{HgError, Peer};
pub use handler::HgHandler;
pub use hg::probe::{Probe, probe};
pub use settings::{Limits, RepositorySettings, Settings, TryMode};
pub use size::Size;
pub use worker::{CloneManager, Mercurial, maintain};

/// The part of a git patch below the names that makes a binary file be `content`.
pub fn binary_patch(content: &[u8]) -> std::io::Result<Vec<u8>> {
    patch::encode(content)
}
