//! The contents of files that a partial clone lacks.
//!
//! A partial clone has all commits and directories, and the contents of those files that were needed before. Git itself
//! fetches one content at a time when it finds it missing. Here all that a stack needs is fetched at once, before it is
//! read.

use gix::ObjectId;
use worker::WorkerError;

use super::{GitClone, tree::Files};
use crate::program::SOURCE;

/// The most objects of one fetch: their names are arguments, which the system limits.
const AT_ONCE: usize = 10_000;

impl GitClone {
    /// Fetches the contents that the files at these paths have in a commit, as far as a partial clone lacks them.
    pub(crate) async fn fetch_missing(
        &mut self,
        commit: ObjectId,
        paths: Vec<Vec<u8>>,
    ) -> Result<(), WorkerError> {
        if !self.partial || paths.is_empty() {
            return Ok(());
        }
        let missing = self
            .read("find missing files", move |repository| {
                missing(repository, commit, &paths)
            })
            .await?;
        if missing.is_empty() {
            return Ok(());
        }
        let doing = format!("fetch files of {}", self.source.name);
        for ids in missing.chunks(AT_ONCE) {
            let mut arguments = vec![
                "-c",
                "fetch.negotiationAlgorithm=noop",
                "fetch",
                "--quiet",
                "--no-tags",
                "--no-write-fetch-head",
                "--filter=blob:none",
                SOURCE,
            ];
            arguments.extend(ids.iter().map(String::as_str));
            self.fetch_with(&arguments, &doing, self.source.limits.transfer)
                .await?;
        }
        self.dirty = false;
        self.reopen().await
    }
}

/// The names of the contents that are not there.
fn missing(
    repository: &gix::Repository,
    commit: ObjectId,
    paths: &[Vec<u8>],
) -> Result<Vec<String>, WorkerError> {
    let mut files = Files::of(repository, commit)?;
    let mut ids = Vec::new();
    for path in paths {
        if let Some(entry) = files.file(path)?
            && !entry.mode.is_commit()
        {
            ids.push(entry.id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    // Each miss would look for new packs.
    let mut repository = repository.clone();
    repository.objects.refresh_never();
    Ok(ids
        .into_iter()
        .filter(|id| !repository.has_object(id))
        .map(|id| id.to_string())
        .collect())
}
