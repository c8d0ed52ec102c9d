//! The clones of a repository on this machine: their directories, the pool of those that are ready, and their
//! maintenance.

pub(crate) mod dir;
pub(crate) mod disk_budget;
#[cfg(test)]
pub(crate) mod fake_vcs;
pub(crate) mod inventory;
mod maintenance;
pub(crate) mod manager;
pub(crate) mod pool;
mod prepare;
pub(crate) mod requests;
pub(crate) mod slot;
