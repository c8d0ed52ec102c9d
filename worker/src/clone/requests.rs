//! How an operator's command asks the worker that has a repository's clones: by a file in `clones_dir`, which the
//! worker looks for every second. The file stays until the task is done, so that one whose worker dies is done by the
//! next. The outcome is in another file, which stays until there is another outcome. These functions block shortly.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{WorkerError, clone::dir, disk::write_atomically};

/// More than any file of ours has, in bytes.
const LONGEST: u64 = 64 << 10;

/// What an operator wants done with all clones of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Take over what is new at the source.
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

/// How a task ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The clones for which it is done.
    pub done: Vec<MaintenanceResult>,
    /// Why it is not done for the others.
    pub error: Option<String>,
}

/// A clone for which a task is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceResult {
    /// The name of the clone slot.
    pub clone: String,
    /// The first 12 digits of its newest changeset.
    pub tip: String,
    /// How many changesets a pull brought; `None` when the clone was replaced.
    pub new_changesets: Option<u64>,
}

/// The files by which a repository's worker is asked.
#[derive(Debug, Clone)]
pub struct Requests {
    request: PathBuf,
    done: PathBuf,
}

/// What has become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It waits, or is being worked on.
    Asked,
    /// It ended.
    Done(Outcome),
    /// It is not there any more, and its outcome neither: that could not be written, or is of a later request.
    Gone,
}

/// A request that is there.
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

    /// Asks for a task; what comes back is the request's id, which is that of an earlier request for the same.
    /// [`WorkerError::Busy`] when something else is asked for.
    pub fn ask(&self, task: Task, id: &str) -> Result<String, WorkerError> {
        let doing = || WorkerError::io(format!("write the request {}", self.request.display()));
        let new = self.request.with_extension(format!("request-{id}"));
        fs::write(&new, format!("{} {id}\n", task.name())).map_err(doing())?;
        // Whole, and only where none is.
        let linked = fs::hard_link(&new, &self.request);
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

    /// What has become of the request with this id.
    pub fn progress(&self, id: &str) -> Result<Progress, WorkerError> {
        // In this order: the outcome is written before the request goes.
        let asked = self.find()?.is_some_and(|request| request.id == id);
        let doing = WorkerError::io(format!("read the outcome {}", self.done.display()));
        let answer = read(&self.done)
            .map_err(doing)?
            .and_then(|text| serde_json::from_str::<Answer>(&text).ok());
        Ok(match answer {
            Some(answer) if answer.id == id => Progress::Done(answer.outcome),
            _ if asked => Progress::Asked,
            _ => Progress::Gone,
        })
    }

    /// The request that is there. One that cannot be understood is removed.
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
                tracing::warn!("the request {path} asks for neither pull nor reclone: removing it");
                fs::remove_file(&self.request)
                    .map_err(WorkerError::io(format!("remove the request {path}")))?;
                return Ok(None);
            }
        };
        Ok(Some(Request {
            task,
            id: words.next().unwrap_or_default().to_owned(),
        }))
    }

    /// Ends a request.
    pub(crate) fn answer(&self, request: &Request, outcome: Outcome) -> Result<(), WorkerError> {
        let id = request.id.clone();
        let written = serde_json::to_vec(&Answer { id, outcome })
            .map_err(io::Error::from)
            .and_then(|bytes| write_atomically(&self.done, &bytes));
        // Also when nobody can be told: else it would be done again and again.
        let removed = fs::remove_file(&self.request);
        written.and(removed).map_err(WorkerError::io(format!(
            "end the request {}",
            self.request.display()
        )))
    }
}

/// A short file. Nothing that is no file is waited for.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.is_file() => {}
        Ok(_) => return Err(io::Error::other("it is no file")),
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
    use super::*;

    fn outcome(error: &str) -> Outcome {
        Outcome {
            done: Vec::new(),
            error: Some(error.to_owned()),
        }
    }

    #[test]
    fn a_request_is_there_until_it_is_answered() {
        let home = tempfile::tempdir().expect("a directory");
        let requests = Requests::new(home.path(), "nss");
        assert_eq!(requests.find().expect("looked"), None);
        assert_eq!(requests.progress("one").expect("looked"), Progress::Gone);
        assert_eq!(requests.ask(Task::Pull, "one").expect("asked"), "one");
        assert_eq!(
            requests.ask(Task::Pull, "two").expect("asked"),
            "one",
            "it is asked for already"
        );
        assert!(matches!(
            requests.ask(Task::Reclone, "three"),
            Err(WorkerError::Busy { task: "pull", .. })
        ));
        assert_eq!(requests.progress("one").expect("looked"), Progress::Asked);
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
    fn garbage_is_no_request() {
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
