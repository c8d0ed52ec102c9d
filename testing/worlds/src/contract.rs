//! The cases: what every version control does.

pub mod bases;
pub mod crashes;
pub mod destination;
pub mod full_disk;
pub mod gate;
pub mod hostile;
pub mod inventory;
pub mod limits;
pub mod patch_files;
pub mod patches;
pub mod pushes;
pub mod slots;
pub mod ssh;
pub mod stacks;
pub mod substitute_bases;
mod tree_service;
pub mod trees;
pub mod try_config;
pub mod upper_bases;

pub use tree_service::TreeService;
