//! Git for the worker.
//!
//! [`Git`] implements the traits of [`worker::vcs`] and [`worker::destination`]: it clones without a working tree, makes
//! commits from blobs and trees in this process, and pushes them with `git push`. `worker/src/patch.rs` lists the guards
//! against what is hostile in patches, `program.rs` the guards of the program `git`.

mod apply;
mod clone;
mod commit;
mod export;
mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod git;
mod locks;
mod old_refs;
mod outcome;
mod probe;
mod program;
mod push;
mod quarantine;
mod remote;
mod stack;
mod staging;
#[cfg(test)]
mod tests;

pub use git::Git;
