//! The clones of a repository on this machine: their directories, who works on them, and their maintenance.

pub(crate) mod dir;
pub(crate) mod disk_budget;
pub(crate) mod inventory;
mod maintenance;
pub(crate) mod manager;
pub(crate) mod pool;
mod prepare;
pub(crate) mod requests;
pub(crate) mod slot;
