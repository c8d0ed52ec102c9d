//! What can go wrong on our side, and whether trying again helps. What is wrong with a patch is no error but an
//! outcome: see `vcs::Rejection`.

use std::{io, path::PathBuf, time::Duration};

use build::{Blocker, PatchSourceError, PushGuardError};
use bus::{BusError, Retry, Retryable};
use observe::http::HttpError;
use thiserror::Error;

/// How long a build waits before it looks again for a clone that is not ready.
pub(crate) const NOT_READY_PAUSE: Duration = Duration::from_secs(5);

/// How long a build waits before it looks again at a tree that is closed, or for room on the disk.
pub(crate) const CLOSED_PAUSE: Duration = Duration::from_secs(20);

/// How long a build waits while an operator has to act, before it is tried again.
const OUTAGE_PAUSE: Duration = Duration::from_secs(60);

/// The other side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The repository that clones are made of.
    Source,
    /// The repository that is pushed to.
    Destination,
}

/// What the failure of a command says of the clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// The clone is sound: something else is in the way.
    Sound,
    /// Nothing.
    Unknown,
    /// It has lost data.
    Lost,
}

/// Why the other side does not let us in. An operator has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// It has another host key than the one that is known.
    HostKey,
    /// Its certificate is not accepted.
    Certificate,
    /// The address leads to no repository.
    NoRepository,
    /// It takes no pushes.
    ReadOnly,
    /// The program of the version control is not installed there.
    NoProgram,
    /// It does not accept our credentials.
    Credentials,
}

/// A failure of the worker. The patch is not to blame.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The source does not have the configured `default_revision`, at least not now.
    #[error(
        "{repository} has no revision {revision} at its source: correct `default_revision`, or create it there again"
    )]
    NoDefaultRevision {
        /// The repository's name.
        repository: String,
        /// The configured name.
        revision: String,
    },
    /// The repository that is pushed to has nothing in common with the source.
    #[error(
        "{try_name} is another repository than {repository}: it does not have the first changeset {changeset}; correct \
         `try_url`"
    )]
    Unrelated {
        /// The repository's name.
        repository: String,
        /// The name of the one that is pushed to.
        try_name: String,
        /// The changeset.
        changeset: String,
    },
    /// The settings cannot be used.
    #[error("the worker's settings cannot be used: {reason}")]
    Settings {
        /// What is wrong.
        reason: String,
    },
    /// The file system did not do what was asked.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The disk of the clones is full, or that of the temporary files. Builds wait until there is room.
    #[error("our disk is full, cannot {doing}: {words}")]
    DiskFull {
        /// What was tried.
        doing: String,
        /// What the system, or the version control, says.
        words: String,
    },
    /// The process that serves the clone did not answer as it should, or died. The next use starts a new one.
    #[error("{what}")]
    Server {
        /// What failed, and what the process last said.
        what: String,
        /// How it broke the protocol.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A command took too long; it and its children were killed.
    #[error("`{command}` was killed after {seconds} s without an end")]
    Deadline {
        /// The program and its command.
        command: String,
        /// Whether it was a push.
        is_push: bool,
        /// The time it had.
        seconds: u64,
    },
    /// An argument that cannot be passed: a fault of the program.
    #[error("an argument for `{command}` holds a NUL")]
    Argument {
        /// The command.
        command: String,
    },
    /// A command on the clone failed.
    #[error("cannot {doing}: {words}")]
    Command {
        /// What was tried.
        doing: String,
        /// What the version control says.
        words: String,
        /// What that says of the clone.
        integrity: Integrity,
    },
    /// The clone is damaged. It is cloned again.
    #[error("the clone of {repository} is damaged and is cloned again: {reason}")]
    Damaged {
        /// The repository's name.
        repository: String,
        /// What was found.
        reason: String,
    },
    /// The other side could not be reached, or did not finish. It may work the next time.
    #[error("cannot {doing}: {words}")]
    Remote {
        /// The other side.
        peer: Peer,
        /// What was tried.
        doing: String,
        /// What the version control, ssh and the other side say.
        words: String,
    },
    /// A hook of the other side refused the push.
    #[error("{doing} was refused by a hook there: {words}")]
    Refused {
        /// What was tried.
        doing: String,
        /// What the hook says.
        words: String,
    },
    /// The other side will not have it: credentials, host key, certificate or address. An operator has to act.
    #[error(
        "cannot {doing}, and trying again will not help; check the address, keys and permissions: {words}"
    )]
    Forbidden {
        /// The other side.
        peer: Peer,
        /// Why it does not let us in.
        barrier: Barrier,
        /// What was tried.
        doing: String,
        /// What the version control, ssh and the other side say.
        words: String,
    },
    /// No host key is known for the other side. An operator has to act.
    #[error(
        "cannot {doing}, and trying again will not help; no host key is known for {host}: add its line to `known_hosts` \
         (`ssh-keyscan` prints it; compare it with what its operators publish): {words}"
    )]
    UnknownHost {
        /// The other side.
        peer: Peer,
        /// What was tried.
        doing: String,
        /// The host as `known_hosts` has to name it, such as `[hg.example.org]:2222`.
        host: String,
        /// What the version control, ssh and the other side say.
        words: String,
    },
    /// The other side has another host key than the known one. An operator has to act.
    #[error(
        "cannot {doing}, and trying again will not help; {host} has another host key than the one in `known_hosts`: ask \
         its operators, and replace the line if they changed it: {words}"
    )]
    OtherHostKey {
        /// The other side.
        peer: Peer,
        /// What was tried.
        doing: String,
        /// The host as `known_hosts` names it.
        host: String,
        /// What the version control, ssh and the other side say.
        words: String,
    },
    /// The repository is still being prepared.
    #[error("the clone of {repository} is not ready yet")]
    NotReady {
        /// The repository's name.
        repository: String,
    },
    /// Another process works on the clone.
    #[error(
        "another process uses the clone of {repository}; each process needs its own clones directory"
    )]
    InUse {
        /// The repository's name.
        repository: String,
    },
    /// Something else is asked for already.
    #[error("a {task} is asked for already and not done yet; to take that back, remove {}", request.display())]
    Busy {
        /// What is asked for.
        task: &'static str,
        /// The file that asks for it.
        request: PathBuf,
    },
    /// There is no room for a clone.
    #[error(
        "there is no room for the clone {clone}: {reason}; make room (see `events repos prune`), raise the budget, or \
         configure fewer lanes"
    )]
    NoRoom {
        /// The name of the clone slot.
        clone: String,
        /// What is lacking.
        reason: String,
    },
    /// The process ends; what was running has been killed.
    #[error("given up, the process ends")]
    Cancelled,
    /// There is no HTTP client.
    #[error("cannot ask for the status of trees")]
    Http(#[from] HttpError),
    /// Nobody can tell whether the build is still wanted. It is not pushed meanwhile.
    #[error(transparent)]
    Unsure(#[from] PushGuardError),
    /// The patches cannot be loaded at the moment.
    #[error(transparent)]
    Patches(PatchSourceError),
    /// The answer could not be sent.
    #[error("cannot send the outcome of a build")]
    Bus(#[from] BusError),
}

impl WorkerError {
    /// Whether a command of the version control failed, so that its processes and the clone may be in any state.
    pub(crate) fn is_of_vcs(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. }
                | Self::Server { .. }
                | Self::Deadline { .. }
                | Self::Command { .. }
                | Self::Remote { .. }
        )
    }

    /// What an operator has to mend before a build can go on that waits for it.
    pub(crate) fn blocker(&self) -> Option<Blocker> {
        match self {
            Self::DiskFull { .. } => Some(Blocker::DiskFull),
            Self::NoDefaultRevision { .. } => Some(Blocker::NoDefaultRevision),
            _ => None,
        }
    }

    /// Whether the clone may be broken, so that it has to be opened, or cloned, again.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Server { .. } => true,
            Self::Command { integrity, .. } => *integrity != Integrity::Sound,
            _ => false,
        }
    }

    /// What it says about the clone, if it says that the clone has lost data.
    pub(crate) fn lost_data(&self) -> Option<&str> {
        match self {
            Self::Damaged { reason, .. } => Some(reason),
            Self::Command {
                words,
                integrity: Integrity::Lost,
                ..
            } => Some(words),
            _ => None,
        }
    }

    /// The file system did not do it. A full disk is another error than other failures.
    pub fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                doing: doing.into(),
                words: source.to_string(),
            },
            _ => Self::Io {
                doing: doing.into(),
                source,
            },
        }
    }
}

/// A disk that takes no patches is full for everything.
impl From<PatchSourceError> for WorkerError {
    fn from(error: PatchSourceError) -> Self {
        match error {
            PatchSourceError::Disk(source) => Self::io("store the patches of a stack")(source),
            error => Self::Patches(error),
        }
    }
}

impl Retryable for WorkerError {
    fn retry(&self) -> Retry {
        match self {
            Self::Io { .. }
            | Self::Server { .. }
            | Self::Deadline { .. }
            | Self::Command { .. }
            | Self::Damaged { .. }
            | Self::Remote { .. }
            | Self::Refused { .. }
            | Self::Cancelled => Retry::Backoff,
            Self::NotReady { .. }
            | Self::InUse { .. }
            | Self::Busy { .. }
            | Self::NoRoom { .. } => Retry::Defer(NOT_READY_PAUSE),
            Self::Unsure(PushGuardError::Away(_))
            | Self::Patches(PatchSourceError::Away(_))
            | Self::DiskFull { .. } => Retry::Hold(CLOSED_PAUSE),
            // One build must not hold up the others.
            Self::Unsure(PushGuardError::Unclear(_)) | Self::Patches(_) => {
                Retry::Defer(CLOSED_PAUSE)
            }
            Self::NoDefaultRevision { .. } => Retry::Defer(OUTAGE_PAUSE),
            Self::Settings { .. }
            | Self::Http(_)
            | Self::Argument { .. }
            | Self::Forbidden { .. }
            | Self::UnknownHost { .. }
            | Self::OtherHostKey { .. }
            | Self::Unrelated { .. } => Retry::Never,
            Self::Bus(error) => error.retry(),
        }
    }
}
