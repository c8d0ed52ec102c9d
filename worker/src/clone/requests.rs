//! The requests of operators' commands to the worker that has the clones of a repository. A request is a file in
//! `clones_dir`; the worker polls for it every second. The file stays until the task is done: if the worker dies, the
//! next one does the task. The outcome is another file, which stays until the next outcome. The functions block for a
//! short time.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{WorkerError, clone::dir, disk::write_atomically};

/// The most bytes that are read of a file. Ours are shorter.
const LONGEST: u64 = 64 << 10;

/// A task for all clones of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Pull from the source.
    Pull,
    /// Replace the clones; the old ones serve until then.
    Reclone,
}

impl Task {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Reclone => "reclone",
        }
    }
}

/// The outcome of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The clones for which it is done.
    pub done: Vec<MaintenanceResult>,
    /// The reason for which it is not done for the others.
    pub error: Option<String>,
}

/// A clone for which a task is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceResult {
    /// The name of the clone slot.
    pub clone: String,
    /// The first 12 digits of its newest changeset.
    pub tip: String,
    /// The number of new changesets of a pull; `None` when the clone was replaced.
    pub new_changesets: Option<u64>,
}

/// The files of a request and of its outcome, for one repository.
#[derive(Debug, Clone)]
pub struct Requests {
    request: PathBuf,
    done: PathBuf,
}

/// The progress of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It waits, or its task is running.
    Pending,
    /// Its task has ended.
    Done(Outcome),
    /// Neither it nor its outcome is there: the outcome could not be written, or a later one has replaced it.
    Gone,
}

/// A pending request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) task: Task,
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    id: String,
    outcome: Outcome,
}

impl Requests {
    /// The requests for a repository.
    pub fn new(clones_dir: &Path, repository: &str) -> Self {
        let file = |what| dir::beside(clones_dir, repository, what);
        Self {
            request: file("request"),
            done: file("done"),
        }
    }

    /// Requests a task. Returns the id of the request, which is that of an earlier request for the same task if one is
    /// pending. Returns [`WorkerError::Busy`] when another task is pending.
    pub fn submit(&self, task: Task, id: &str) -> Result<String, WorkerError> {
        let doing = || WorkerError::io(format!("write the request {}", self.request.display()));
        let new = self.request.with_extension(format!("request-{id}"));
        // The file appears whole, and only if there is none.
        let linked = fs::write(&new, format!("{} {id}\n", task.name()))
            .and_then(|()| fs::hard_link(&new, &self.request));
        // Even if it could not be written: no other request removes a file with this id.
        let _ = fs::remove_file(&new);
        match linked {
            Ok(()) => Ok(id.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match self.find()? {
                Some(request) if request.task == task => Ok(request.id),
                Some(request) => Err(WorkerError::Busy {
                    task: request.task.name(),
                    request: self.request.clone(),
                }),
                None => Err(doing()(error)),
            },
            Err(error) => Err(doing()(error)),
        }
    }

    /// The progress of the request with this id.
    pub fn progress(&self, id: &str) -> Result<Progress, WorkerError> {
        // Read in this order: the worker writes the outcome before it removes the request.
        let is_pending = self.find()?.is_some_and(|request| request.id == id);
        let doing = WorkerError::io(format!("read the outcome {}", self.done.display()));
        let answer = read(&self.done)
            .map_err(doing)?
            .and_then(|text| serde_json::from_str::<Answer>(&text).ok());
        Ok(match answer {
            Some(answer) if answer.id == id => Progress::Done(answer.outcome),
            _ if is_pending => Progress::Pending,
            _ => Progress::Gone,
        })
    }

    /// The pending request. One that cannot be parsed is removed.
    pub(crate) fn find(&self) -> Result<Option<Request>, WorkerError> {
        let path = self.request.display();
        let Some(text) =
            read(&self.request).map_err(WorkerError::io(format!("read the request {path}")))?
        else {
            return Ok(None);
        };
        let mut words = text.split_whitespace();
        let task = match words.next() {
            Some("pull") => Task::Pull,
            Some("reclone") => Task::Reclone,
            _ => {
                tracing::warn!("removing the request {path}: it is neither pull nor reclone");
                remove(&self.request)
                    .map_err(WorkerError::io(format!("remove the request {path}")))?;
                return Ok(None);
            }
        };
        Ok(Some(Request {
            task,
            id: words.next().unwrap_or_default().to_owned(),
        }))
    }

    /// Writes the outcome of a request, and removes the request.
    ///
    /// An operator may have removed it meanwhile, and made another one, which must stay. One that is made between the
    /// two steps of the removal is lost: its sender reads [`Progress::Gone`].
    pub(crate) fn answer(&self, request: &Request, outcome: Outcome) -> Result<(), WorkerError> {
        let id = request.id.clone();
        let written = serde_json::to_vec(&Answer { id, outcome })
            .map_err(io::Error::from)
            .and_then(|bytes| write_atomically(&self.done, &bytes));
        // Even if the outcome could not be written: otherwise the task would be done again and again.
        let removed = match self.find() {
            Ok(Some(pending)) if pending != *request => Ok(()),
            _ => remove(&self.request),
        };
        written.and(removed).map_err(WorkerError::io(format!(
            "end the request {}",
            self.request.display()
        )))
    }
}

/// Removes a file, if it exists.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a short file; `None` if there is none. Other things than files are refused: to read them could block.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_file() => {}
        Ok(_) => return Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(|_| Some(String::from_utf8_lossy(&bytes).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn outcome(error: &str) -> Outcome {
        Outcome {
            done: Vec::new(),
            error: Some(error.to_owned()),
        }
    }

    #[test]
    fn request_is_pending_until_its_outcome_is_written() {
        let home = tempfile::tempdir().expect("a directory");
        let requests = Requests::new(home.path(), "nss");
        assert_eq!(requests.find().expect("looked"), None);
        assert_eq!(requests.progress("one").expect("looked"), Progress::Gone);
        assert_eq!(requests.submit(Task::Pull, "one").expect("asked"), "one");
        assert_eq!(
            requests.submit(Task::Pull, "two").expect("asked"),
            "one",
            "the same task is pending"
        );
        assert!(matches!(
            requests.submit(Task::Reclone, "three"),
            Err(WorkerError::Busy { task: "pull", .. })
        ));
        assert_eq!(requests.progress("one").expect("looked"), Progress::Pending);
        let request = requests.find().expect("looked").expect("there");
        requests.answer(&request, outcome("no")).expect("answered");
        assert_eq!(
            requests.progress("one").expect("looked"),
            Progress::Done(outcome("no"))
        );
        assert_eq!(requests.find().expect("looked"), None);
        let files: Vec<_> = fs::read_dir(home.path())
            .expect("read")
            .flatten()
            .map(|entry| entry.file_name())
            .collect();
        assert_eq!(files, [".nss.done"]);
    }

    #[test]
    fn request_that_was_removed_meanwhile_is_answered() {
        let home = tempfile::tempdir().expect("a directory");
        let requests = Requests::new(home.path(), "nss");
        requests.submit(Task::Pull, "one").expect("asked");
        let request = requests.find().expect("looked").expect("there");
        // `WorkerError::Busy` advises this.
        fs::remove_file(home.path().join(".nss.request")).expect("removed");
        requests.answer(&request, outcome("no")).expect("answered");
        assert_eq!(
            requests.progress("one").expect("looked"),
            Progress::Done(outcome("no"))
        );
    }

    #[test]
    fn request_that_replaced_the_answered_one_stays() {
        let home = tempfile::tempdir().expect("a directory");
        let requests = Requests::new(home.path(), "nss");
        requests.submit(Task::Pull, "one").expect("asked");
        let request = requests.find().expect("looked").expect("there");
        fs::remove_file(home.path().join(".nss.request")).expect("removed");
        requests.submit(Task::Reclone, "two").expect("asked");
        requests.answer(&request, outcome("no")).expect("answered");
        assert_eq!(requests.progress("two").expect("looked"), Progress::Pending);
    }

    #[test]
    fn request_that_cannot_be_written_leaves_no_file() {
        let home = tempfile::tempdir().expect("a directory");
        let requests = Requests::new(home.path(), "nss");
        symlink("/dev/full", home.path().join(".nss.request-one")).expect("linked");
        assert!(matches!(
            requests.submit(Task::Pull, "one"),
            Err(WorkerError::DiskFull { .. })
        ));
        assert_eq!(fs::read_dir(home.path()).expect("read").count(), 0);
    }

    #[test]
    fn unreadable_request_is_removed() {
        let home = tempfile::tempdir().expect("a directory");
        let requests = Requests::new(home.path(), "nss");
        fs::write(home.path().join(".nss.request"), b"\xffrm -rf").expect("written");
        assert_eq!(requests.find().expect("looked"), None);
        assert!(!home.path().join(".nss.request").exists());
        fs::write(home.path().join(".nss.request"), "reclone").expect("written");
        assert_eq!(
            requests.find().expect("looked").map(|request| request.task),
            Some(Task::Reclone)
        );
        fs::remove_file(home.path().join(".nss.request")).expect("removed");
        fs::create_dir(home.path().join(".nss.request")).expect("made");
        requests.find().expect_err("a directory");
    }
}
