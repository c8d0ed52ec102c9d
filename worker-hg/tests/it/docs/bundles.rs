//! A destination that takes each head as a bundle of Mercurial: a file in a directory, which a CI system watches.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use tempfile::NamedTempFile;
use worker::{
    Integrity, WorkerError,
    destination::{Destination, Push, PushError, PushOutcome},
    process,
};

pub struct Bundles {
    /// The directory that the CI system watches.
    pub directory: PathBuf,
    /// The time for one bundle.
    pub deadline: Duration,
}

#[async_trait]
impl Destination for Bundles {
    /// Stores the changesets from the base up to the head. The file is named by the head, so an earlier push of it is
    /// found. It appears whole, by renaming; a part is removed when the future is dropped.
    async fn push(&mut self, push: Push<'_>) -> Result<PushOutcome, PushError> {
        let file = self.directory.join(format!("{}.hg", push.head.id));
        if file.exists() {
            return Ok(PushOutcome::UpToDate);
        }
        let storing = || WorkerError::io(format!("store {}", file.display()));
        let part = NamedTempFile::new_in(&self.directory).map_err(storing())?;
        let mut hg = process::bare(Path::new("hg"));
        hg.env("HGRCPATH", "")
            .arg("--repository")
            .arg(push.repository);
        hg.args(["bundle", "--rev", &push.head.id, "--base", &push.base.id]);
        let output = process::run(hg, [part.path()], "hg bundle", self.deadline).await?;
        if output.code != 0 {
            return Err(PushError::Failed(WorkerError::Command {
                doing: format!("bundle {}", push.head.short()),
                words: output.words(),
                integrity: Integrity::Unknown,
            }));
        }
        part.persist(&file)
            .map_err(|failed| storing()(failed.error))?;
        Ok(PushOutcome::Accepted)
    }
}
