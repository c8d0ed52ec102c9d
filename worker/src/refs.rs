//! The refs that heads of builds are pushed to: their records, and the deletion of old ones.

mod prune;
mod record;
mod service;

pub use prune::{Due, PruneError, PruneOptions, Pruned, RefAction, RefPruner, RefReport};
pub use record::FailedDeletion;
pub(crate) use record::begin;
