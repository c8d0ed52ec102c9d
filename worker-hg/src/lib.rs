//! The Mercurial worker: applies a build's stack of patches on a clone and pushes the head to Try.
//!
//! [`Mercurial`] holds one clone per repository, without a working copy. Its [`Mercurial::keeper`] prepares the
//! clones and its [`Mercurial::handler`] does the builds, each through one warm `hg` command server. What it takes in
//! (patches, names, messages) is hostile; what it needs to know about Mercurial's own trust in patches stands at the
//! head of `patch.rs`.

mod address;
mod apply;
mod base;
mod blame;
mod clone;
mod disk;
mod error;
mod fault;
mod framing;
mod handler;
#[cfg(test)]
mod hostile;
mod inventory;
mod lane;
mod locks;
mod made;
mod misfit;
mod outcome;
mod patch;
mod place;
mod pool;
mod probe;
mod process;
mod push;
mod repository;
mod request;
mod room;
mod search;
mod server;
mod session;
mod settings;
mod size;
mod ssh;
mod text;
mod tree;
mod tree_status;
mod try_config;
mod upkeep;
mod work;
mod worker;

pub use error::{HgError, Peer};
pub use handler::HgHandler;
pub use inventory::{CloneReport, CloneState, Inventory};
pub use probe::{Probe, probe};
pub use request::{Outcome, Progress, Requests, Task, Upkept};
pub use settings::{Limits, RepositorySettings, Settings, TryMode};
pub use size::Size;
pub use worker::{Keeper, Mercurial, maintain};

/// The part of a git patch below the names that makes a binary file be `content`.
pub fn binary_patch(content: &[u8]) -> std::io::Result<Vec<u8>> {
    patch::encode(content)
}
