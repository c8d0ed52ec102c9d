//! Mercurial for the worker.
//!
//! [`Mercurial`] implements the traits of [`worker::vcs`] and [`worker::destination`]: it clones without a working copy,
//! applies patches with `hg import --bypass`, and pushes, all through one warm `hg` command server for each clone.
//! `worker/src/patch.rs` lists the guards against what `hg` trusts in patches.

mod apply;
mod branches;
mod changeset;
mod clone;
mod command_server;
mod framing;
mod locks;
mod manifest;
mod mercurial;
mod messages;
mod probe;
mod program;
mod push;
mod rejects;
mod remote;
mod search;
#[cfg(test)]
mod tests;
mod transport;

pub use mercurial::Mercurial;
