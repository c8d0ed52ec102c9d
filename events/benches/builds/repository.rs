//! The repositories that builds are measured on. They are made once and kept.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::{content::Shape, vcs::Vcs};

/// Counts what was made before as not made, when it goes up.
const FORMAT: u32 = 1;

/// A directory below cargo's own, which only one run uses at a time.
pub struct Cache {
    pub vcs: Vcs,
    directory: PathBuf,
    _lock: File,
}

impl Cache {
    pub fn lock(vcs: Vcs) -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("the target directory");
        let directory = target.join(format!("bench-{}", vcs.name()));
        fs::create_dir_all(&directory).expect("a directory");
        let lock = File::create(directory.join("lock")).expect("a file");
        lock.try_lock().expect("no other run is under way");
        Self {
            vcs,
            directory,
            _lock: lock,
        }
    }

    /// An empty directory for what a run makes. What an interrupted one left goes.
    pub fn run(&self) -> PathBuf {
        let run = self.directory.join("run");
        remove(&run);
        fs::create_dir(&run).expect("a directory");
        run
    }

    /// The repository, which is made if it is not there.
    pub async fn repository(&self, shape: &Shape) -> PathBuf {
        let repository = self.directory.join(format!("{}-{FORMAT}", shape.name));
        if !repository.exists() {
            eprintln!("bench: making a repository of {} files, once", shape.files);
            let making = repository.with_extension("making");
            remove(&making);
            let made = self.vcs.make(shape, &making).await;
            made.expect("a repository is made");
            fs::rename(&making, &repository).expect("it is put in place");
        }
        repository
    }
}

fn remove(directory: &Path) {
    if directory.exists() {
        fs::remove_dir_all(directory).expect("what an earlier run left is removed");
    }
}
