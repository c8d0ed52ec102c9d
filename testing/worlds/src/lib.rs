//! What every version control must do, written once: [`contract!`] makes the tests for one of them, which is a [`Side`].
//!
//! A [`World`] is what each test works in. Phabricator is a fake; repositories, programs and files are real.

#![allow(
    missing_docs,
    reason = "the names of cases and of what they call say what they are"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod cases;
pub mod contract;
mod side;
mod world;

pub use contract::TreeService;
pub use side::{Commit, Damage, Moment, Repository, Side, base_files, copy_directory, numbered};
pub use world::{
    Answer, Answers, Contents, KnownPatch, PUBLISH, PUSH, TestPatch, World, add, add_mode,
    build_log, change, hanging_hook, living_in_group, pause, phid, until,
};
