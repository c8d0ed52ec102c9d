//! Real servers to push to, for tests and benchmarks: child processes that end with their values.

mod processes;
mod sshd;
mod web;

pub use self::{sshd::Sshd, web::HgWeb};

/// The part of a git patch behind the names that makes a binary file be `content`.
pub fn binary_patch(content: &[u8]) -> std::io::Result<Vec<u8>> {
    crate::patch::encode(content)
}
