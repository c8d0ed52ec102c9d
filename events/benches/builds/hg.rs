//! Mercurial: libmozevent's commands, and repositories.

mod client;
pub mod original;
pub mod repository;
