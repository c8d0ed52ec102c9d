//! Real servers to push to, for tests and benchmarks: child processes that end with their values.

mod processes;
mod sshd;
mod web;

pub use self::{sshd::Sshd, web::HgWeb};
