//! Where a backfill stopped: a file for each repository and range, in the state directory of its user.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use commit_telemetry::{Ended, Place};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::state;
use crate::{cli::BackfillPushlog, config::Variables};

/// What is encoded in the name of a file.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// What is known of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    /// Everything before this place is done.
    pub(super) place: Place,
    /// Except these.
    pub(super) failed: Vec<Failure>,
}

/// A changeset that has no ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failure {
    pub(super) push: u64,
    pub(super) node: String,
    pub(super) reason: String,
}

impl Failure {
    /// The failure of a changeset, if it is one.
    pub(super) fn of(ended: &Ended) -> Option<Self> {
        let reason = runtime::error_chain(ended.failure.as_ref()?);
        Some(Self {
            push: ended.push,
            node: ended.node.to_string(),
            reason,
        })
    }
}

/// The file of one repository and range.
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// Below `XDG_STATE_HOME`, else below `~/.local/state`.
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

    /// What an earlier run kept; `None` if there was none, or it came to its end.
    pub(super) fn load(&self) -> anyhow::Result<Option<Stopped>> {
        let about = || {
            format!(
                "cannot read where an earlier run stopped, from {}",
                self.path.display()
            )
        };
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(about),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(about),
        }
    }

    /// Keeps it: whatever happens, the file is the one before or this one.
    pub(super) fn save(&self, stopped: &Stopped) -> anyhow::Result<()> {
        let write = || {
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(folder)?;
            let mut file = NamedTempFile::new_in(folder)?;
            file.write_all(&serde_json::to_vec(stopped)?)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            io::Result::Ok(())
        };
        write().with_context(|| format!("cannot keep how far it is, in {}", self.path.display()))
    }

    /// The run came to its end.
    pub(super) fn forget(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The command that goes on with a run.
pub(super) fn command(run: &BackfillPushlog) -> anyhow::Result<String> {
    let url = run.repository.to_string();
    ensure!(
        !url.contains('\''),
        "the address of the repository has a quote"
    );
    let plain = |c: char| c.is_ascii_alphanumeric() || ":/._-%~".contains(c);
    let url = if url.chars().all(plain) {
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
    fn it_is_kept_for_its_repository_and_range_until_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap().to_owned();
        let variables = |name: &str| (name == "HOME").then(|| home.clone());
        let file = StateFile::of(&run("https://hg.mozilla.org/try"), &variables).unwrap();
        let other = StateFile::of(&run("https://hg.mozilla.org/try/"), &variables).unwrap();
        assert_eq!(file.load().unwrap(), None);
        for push in [3, 4] {
            let failure = Failure {
                push: 2,
                node: "a".repeat(40),
                reason: "it is too large".to_owned(),
            };
            let stopped = Stopped {
                place: Place {
                    push,
                    changesets: 2,
                },
                failed: vec![failure],
            };
            file.save(&stopped).unwrap();
            assert_eq!(file.load().unwrap(), Some(stopped));
        }
        assert_eq!(other.load().unwrap(), None);
        file.forget().unwrap();
        file.forget().unwrap();
        assert_eq!(file.load().unwrap(), None);
        let left = fs::read_dir(file.path().parent().unwrap()).unwrap().count();
        assert_eq!(left, 0, "nothing lies about");
        assert!(StateFile::of(&run("https://hg.mozilla.org/try"), &|_| None).is_err());
    }

    #[test]
    fn the_command_can_be_pasted() {
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
