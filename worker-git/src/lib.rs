//! Git for the worker.
//!
//! It implements the traits of `worker::vcs` and `worker::destination`: it clones without a working tree, makes commits
//! from blobs and trees in this process, and pushes them with `git push`.

#[allow(dead_code, reason = "the clone's loop over a stack will call it")]
mod apply;

#[cfg(test)]
mod tests;
