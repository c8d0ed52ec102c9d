//! Checkpoints of backfills: a file for each repository and range, in the user's state directory.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use commit_telemetry::{ChangesetResult, Cursor};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::state;
use crate::{cli::BackfillPushlog, config::Variables};

/// The characters that are encoded in the name of a file.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// The progress of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The position from which a run can resume.
    pub(super) cursor: Cursor,
    /// The changesets that failed so far. Those behind the cursor are processed again.
    pub(super) failures: Vec<Failure>,
}

/// A changeset without a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) push: u64,
    pub(super) node: String,
    pub(super) reason: String,
}

impl Failure {
    fn of(result: &ChangesetResult) -> Option<Self> {
        let reason = runtime::error_chain(result.failure.as_ref()?);
        Some(Self {
            push: result.push,
            node: result.node.to_string(),
            reason,
        })
    }
}

impl Checkpoint {
    /// The checkpoint of a run that has not begun.
    pub(super) fn behind(push: u64) -> Self {
        Self {
            cursor: Cursor::behind(push),
            failures: Vec::new(),
        }
    }

    /// Adds the result of a changeset. A changeset that was processed again counts by its last result.
    pub(super) fn add(&mut self, result: &ChangesetResult) {
        self.cursor = result.cursor;
        self.failures
            .retain(|failure| failure.node != result.node.as_str());
        self.failures.extend(Failure::of(result));
    }
}

/// The checkpoint file of one repository and range.
pub(super) struct CheckpointFile {
    path: PathBuf,
}

impl CheckpointFile {
    /// The file of a run, in the state directory (see [`state::file`]).
    pub(super) fn of(run: &BackfillPushlog, variables: Variables<'_>) -> anyhow::Result<Self> {
        let name = utf8_percent_encode(run.repository.url().as_str(), ENCODED);
        let path = state::file(
            &format!("backfill/{name}-{}-{}.json", run.start, run.end),
            variables,
        )?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The checkpoint of an unfinished earlier run.
    pub(super) fn load(&self) -> anyhow::Result<Option<Checkpoint>> {
        let context = || format!("cannot read the checkpoint {}", self.path.display());
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(context),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(context),
        }
    }

    /// Replaces the file atomically.
    pub(super) fn save(&self, checkpoint: &Checkpoint) -> anyhow::Result<()> {
        let write = || {
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder)?;
            let mut file = NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(checkpoint)?)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            io::Result::Ok(())
        };
        write().with_context(|| format!("cannot write the checkpoint {}", self.path.display()))
    }

    /// Removes the file of a finished run, if it exists.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The command that resumes a run.
pub(super) fn command(run: &BackfillPushlog) -> anyhow::Result<String> {
    let url = run.repository.to_string();
    ensure!(
        !url.contains('\''),
        "the address of the repository contains a quote"
    );
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ":/._-%~".contains(c);
    let url = if url.chars().all(is_plain) {
        url
    } else {
        format!("'{url}'")
    };
    let yes = if run.yes { " --yes" } else { "" };
    Ok(format!(
        "events telemetry backfill-pushlog {url} {} {} --resume{yes}",
        run.start, run.end
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(repository: &str) -> BackfillPushlog {
        let repository = repository.parse().unwrap();
        BackfillPushlog {
            repository,
            start: 1,
            end: 9,
            no_send: false,
            yes: true,
            resume: false,
        }
    }

    #[test]
    fn checkpoint_belongs_to_its_repository_and_range_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let variables = |name: &str| (name == "HOME").then(|| home.clone());
        let file = CheckpointFile::of(&run("https://hg.mozilla.org/try"), &variables).unwrap();
        let other = CheckpointFile::of(&run("https://hg.mozilla.org/try/"), &variables).unwrap();
        assert_eq!(file.load().unwrap(), None);
        for push in [3, 4] {
            let failure = Failure {
                push: 2,
                node: "a".repeat(40),
                reason: "it is too large".to_owned(),
            };
            let checkpoint = Checkpoint {
                cursor: Cursor {
                    push,
                    changesets: 2,
                },
                failures: vec![failure],
            };
            file.save(&checkpoint).unwrap();
            assert_eq!(file.load().unwrap(), Some(checkpoint));
        }
        assert_eq!(other.load().unwrap(), None);
        file.remove().unwrap();
        file.remove().unwrap();
        assert_eq!(file.load().unwrap(), None);
        let left = fs::read_dir(file.path().parent().unwrap()).unwrap().count();
        assert_eq!(left, 0, "no temporary file is left");
        assert!(CheckpointFile::of(&run("https://hg.mozilla.org/try"), &|_| None).is_err());
    }

    #[test]
    fn resume_command_can_be_pasted_into_a_shell() {
        let expected =
            "events telemetry backfill-pushlog https://hg.mozilla.org/try 1 9 --resume --yes";
        assert_eq!(
            command(&run("https://hg.mozilla.org/try")).unwrap(),
            expected
        );
        let quoted = command(&run("https://hg.mozilla.org/a;reboot")).unwrap();
        assert!(
            quoted.contains(" 'https://hg.mozilla.org/a;reboot' "),
            "{quoted}"
        );
    }
}
