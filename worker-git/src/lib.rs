//! Git for the worker.
//!
//! It implements the traits of `worker::vcs` and `worker::destination`: it clones without a working tree, makes commits
//! from blobs and trees in this process, and pushes them with `git push`.
