//! Which changeset each build was put on.
//!
//! # Why this is written down
//!
//! A build's changesets are a function of its base, its stack and its target. A build can be delivered again after
//! its push: the worker died before it could say that it was done. Then the same changesets must come out, so that
//! the second push finds "no changes" instead of making a second head, which would run all jobs twice.
//!
//! The stack and the target are in the message. The base often is not: when the stack names a base that is not known
//! here, the build is put on the newest changeset, which is another one a minute later. Even a base that is named is
//! no sure thing, since it may be unknown at first and known after the next pull. So the choice is written to a file
//! named by the build's target, and is on disk before the first changeset is made. A delivery that finds the file
//! keeps to it.
//!
//! The file outlives the build, since nothing here learns whether the message was settled. What is older than
//! [`KEPT`] is removed: by then the message has been given up by everyone.
//!
//! What remains: a build that is pushed by a worker which then dies for good, and that is redelivered to a worker on
//! another machine, may get another base there. That needs shared storage to be solved; the harm is a second head.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use phabricator::model::{BaseChoice, Phid};

use crate::HgError;

/// How long a choice is remembered: twice the time that a build may wait.
const KEPT: Duration = Duration::from_secs(48 * 3600);

/// The choices, in a directory.
#[derive(Debug)]
pub(crate) struct Bases {
    directory: PathBuf,
}

impl Bases {
    pub(crate) fn new(clones_dir: &Path) -> Self {
        Self { directory: clones_dir.join(".bases") }
    }

    /// The choice that was made for this build. An unreadable file counts as none: no half of one is ever written.
    pub(crate) fn find(&self, target: &Phid) -> Option<BaseChoice> {
        let bytes = fs::read(self.file(target)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Stores the choice; when this returns it survives a crash.
    pub(crate) fn store(&self, target: &Phid, choice: &BaseChoice, now: Timestamp) -> Result<(), HgError> {
        let doing = || format!("write down the base of {target} in {}", self.directory.display());
        let bytes = serde_json::to_vec(choice).map_err(|error| HgError::io(doing())(error.into()))?;
        fs::create_dir_all(&self.directory)
            .and_then(|()| self.prune(now))
            .and_then(|()| write_atomically(&self.file(target), &bytes))
            .map_err(HgError::io(doing()))
    }

    fn prune(&self, now: Timestamp) -> io::Result<()> {
        let Ok(oldest) = now.checked_sub(KEPT).map(SystemTime::from) else { return Ok(()) };
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.metadata()?.modified()? < oldest {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn file(&self, target: &Phid) -> PathBuf {
        self.directory.join(format!("{target}.json"))
    }
}

/// Puts a file in place whole, and on disk.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use phabricator::model::BaseReason;

    use super::*;

    #[test]
    fn a_choice_is_found_again_for_two_days() {
        let home = tempfile::tempdir().expect("a directory");
        let bases = Bases::new(home.path());
        let [one, two] = ["PHID-HMBT-1", "PHID-HMBT-2"].map(|text| Phid::parse(text).expect("a PHID"));
        let choice = BaseChoice { used: "a".repeat(40), instead_of: Some("b".repeat(40)), reason: BaseReason::Unknown };
        assert_eq!(bases.find(&one), None);
        let written = fs::metadata(home.path()).and_then(|data| data.modified()).expect("a time");
        let now = Timestamp::try_from(written).expect("a time");
        bases.store(&one, &choice, now).expect("stored");
        assert_eq!(bases.find(&one), Some(choice.clone()));
        bases.store(&two, &choice, now + Duration::from_secs(47 * 3600)).expect("stored");
        assert_eq!(bases.find(&one), Some(choice.clone()));
        bases.store(&two, &choice, now + Duration::from_secs(49 * 3600)).expect("stored");
        assert_eq!(bases.find(&one), None);
        assert_eq!(bases.find(&two), Some(choice));
    }

    #[test]
    fn half_a_file_counts_as_none() {
        let home = tempfile::tempdir().expect("a directory");
        let bases = Bases::new(home.path());
        let target = Phid::parse("PHID-HMBT-1").expect("a PHID");
        fs::create_dir(home.path().join(".bases")).expect("made");
        fs::write(home.path().join(".bases/PHID-HMBT-1.json"), b"{\"used\":").expect("written");
        assert_eq!(bases.find(&target), None);
    }

    #[test]
    fn a_choice_that_was_made_before_reasons_were_written_down_still_counts() {
        let home = tempfile::tempdir().expect("a directory");
        let target = Phid::parse("PHID-HMBT-1").expect("a PHID");
        fs::create_dir(home.path().join(".bases")).expect("made");
        fs::write(home.path().join(".bases/PHID-HMBT-1.json"), br#"{"used":"a","instead_of":null}"#).expect("written");
        let expected = BaseChoice { used: "a".to_owned(), instead_of: None, reason: BaseReason::Unrecorded };
        assert_eq!(Bases::new(home.path()).find(&target), Some(expected));
    }
}
