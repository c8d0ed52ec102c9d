//! The clones of a repository on this machine: their directories, who works on them, and their maintenance.

pub(crate) mod disk_budget;
pub(crate) mod inventory;
pub(crate) mod layout;
pub(crate) mod maintenance;
pub(crate) mod pool;
pub(crate) mod requests;
pub(crate) mod slot;
