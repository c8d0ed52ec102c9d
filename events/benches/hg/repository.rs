//! The repositories that builds are measured on. They are made once and kept.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use testkit::repositories::hg;

use crate::content::{Content, Shape, path};

/// Counts what was made before as not made, when it goes up.
const FORMAT: u32 = 1;

/// A directory below cargo's own, which only one run uses at a time.
pub struct Cache {
    directory: PathBuf,
    _lock: File,
}

impl Cache {
    pub fn lock() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .parent()
            .expect("the target directory");
        let directory = target.join("bench-hg");
        fs::create_dir_all(&directory).expect("a directory");
        let lock = File::create(directory.join("lock")).expect("a file");
        lock.try_lock().expect("no other run is under way");
        Self {
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
            make(shape, &making).await.expect("a repository is made");
            fs::rename(&making, &repository).expect("it is put in place");
        }
        repository
    }
}

async fn make(shape: &Shape, directory: &Path) -> anyhow::Result<()> {
    let content = Content::new();
    fs::create_dir(directory)?;
    hg(directory, &["init"]).await?;
    for number in 0..shape.files {
        let file = directory.join(path(number));
        fs::create_dir_all(file.parent().expect("a directory"))?;
        fs::write(file, content.file(number).join("\n") + "\n")?;
    }
    let commit = [
        "commit",
        "--addremove",
        "--quiet",
        "--user=Ada",
        "--date=0 0",
        "--message=Add all files",
    ];
    hg(directory, &commit).await?;
    let history = directory.with_extension("patches");
    fs::write(&history, content.history(shape))?;
    let patches = history.display().to_string();
    hg(
        directory,
        &["import", "--bypass", "--quiet", "--", &patches],
    )
    .await?;
    fs::remove_file(history)?;
    // Nobody needs its working copy.
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != ".hg" {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(fs::remove_file(directory.join(".hg/dirstate"))?)
}

fn remove(directory: &Path) {
    if directory.exists() {
        fs::remove_dir_all(directory).expect("what an earlier run left is removed");
    }
}
