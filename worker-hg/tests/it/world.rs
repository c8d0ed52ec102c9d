//! The worlds of the tests, with Mercurial.

mod repo;
mod side;

use std::{
    fs,
    ops::{Deref, DerefMut},
    path::Path,
};

pub use repo::{Repo, hg, run_hg_with};
pub use side::Hg;
pub use worlds::{
    TestPatch, TreeService, add, add_mode, change, hanging_hook, living_in_group, phid, until,
};

/// A type of this crate, so that tests add what they need of it.
pub struct World(worlds::World<Hg>);

impl World {
    pub fn new() -> Self {
        Self(worlds::World::new())
    }
}

impl Deref for World {
    type Target = worlds::World<Hg>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

pub fn fixture(name: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name),
    )
    .unwrap()
}
