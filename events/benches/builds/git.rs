//! Git: the commands of LLVM's worker, a bare push, and repositories.

pub mod original;
pub mod push;
pub mod repository;
