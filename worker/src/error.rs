//! The errors of the worker, and whether a retry can help. A patch that cannot be applied is an outcome and not an
//! error: see `vcs::Rejection`.

use std::{io, path::PathBuf, time::Duration};

use build::{Blocker, PatchSourceError, PushGuardError};
use bus::{BusError, Retry, Retryable};
use http_client::ClientError;
use thiserror::Error;

/// The time until the retry of a build that waits for a clone.
pub(crate) const NOT_READY_PAUSE: Duration = Duration::from_secs(5);

/// The time until the retry of a build that waits for a closed tree, for room on the disk, or for Phabricator.
pub(crate) const CLOSED_PAUSE: Duration = Duration::from_secs(20);

/// The time until the retry of a build that waits for an operator.
const OUTAGE_PAUSE: Duration = Duration::from_secs(60);

/// The time until the retry of a build whose base is not mapped yet.
const UNMAPPED_PAUSE: Duration = Duration::from_secs(30);

/// The other side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The repository that is cloned.
    Source,
    /// The repository that heads are pushed to.
    Destination,
}

/// The integrity of a clone after a failed command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integrity {
    /// The clone is sound: the failure has another cause.
    Sound,
    /// The failure shows neither.
    Unknown,
    /// The clone has lost data.
    Lost,
}

/// The reason for which the peer does not admit us. An operator has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barrier {
    /// ssh does not accept its host key, and does not name the host.
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
    /// Somebody else pushed to the place of our head.
    Taken,
    /// It takes pushes from us, but not to the place of our head.
    Protected,
    /// It has no room for our head, or limits its size.
    Quota,
    /// It has a ref that is a folder of ours, or below ours.
    RefConflict,
}

impl Barrier {
    /// The remedy, for operators.
    fn remedy(self) -> &'static str {
        match self {
            Self::HostKey => {
                "ssh does not accept the host key: add the line of the host to `known_hosts`, or ask its operators, and \
                 replace the line if they changed the key"
            }
            Self::RefConflict => {
                "no ref can be a folder of another one: delete the ref that exists there, or configure another `ref`"
            }
            Self::Certificate
            | Self::NoRepository
            | Self::ReadOnly
            | Self::NoProgram
            | Self::Credentials
            | Self::Taken
            | Self::Protected
            | Self::Quota => "check the address, keys and permissions",
        }
    }
}

/// A failure on our side, not of the patch.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The source does not have the configured `default_revision`, at least not now.
    #[error(
        "{repository} has no revision {revision} at its source: correct `default_revision`, or create it there again"
    )]
    NoDefaultRevision {
        /// The repository's name.
        repository: String,
        /// The configured `default_revision`.
        revision: String,
    },
    /// The destination does not share the history of the source.
    #[error(
        "{try_name} is another repository than {repository}: it does not have the first changeset {changeset}; correct \
         `try_url`"
    )]
    Unrelated {
        /// The repository's name.
        repository: String,
        /// The name of the destination.
        try_name: String,
        /// The first changeset of the source.
        changeset: String,
    },
    /// The settings cannot be used.
    #[error("the worker's settings cannot be used: {reason}")]
    Settings {
        /// The fault in the settings.
        reason: String,
    },
    /// An operation on the file system failed.
    #[error("cannot {doing}")]
    Io {
        /// The operation, as an infinitive.
        doing: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The disk of the clones, or that of the temporary files, is full. Builds wait until there is room.
    #[error("our disk is full, cannot {doing}: {words}")]
    DiskFull {
        /// The operation, as an infinitive.
        doing: String,
        /// The message of the system, or of the version control.
        words: String,
    },
    /// The process that serves the clone broke the protocol, or died. The next use starts a new one.
    #[error("{what}")]
    Server {
        /// The failed operation, and the last output of the process.
        what: String,
        /// The violation of the protocol.
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
        /// The time that it had, in seconds.
        seconds: u64,
    },
    /// An argument cannot be passed to a command: a bug in this program.
    #[error("an argument for `{command}` holds a NUL")]
    Argument {
        /// The command.
        command: String,
    },
    /// A command on the clone failed.
    #[error("cannot {doing}: {words}")]
    Command {
        /// The operation, as an infinitive.
        doing: String,
        /// The message of the version control.
        words: String,
        /// The integrity of the clone, as the message shows it.
        integrity: Integrity,
    },
    /// The clone is damaged. It is cloned again.
    #[error("the clone of {repository} is damaged and is cloned again: {reason}")]
    Damaged {
        /// The repository's name.
        repository: String,
        /// The damage.
        reason: String,
    },
    /// The peer could not be reached, or did not finish. A retry may help.
    #[error("cannot {doing}: {words}")]
    Remote {
        /// The peer.
        peer: Peer,
        /// The operation, as an infinitive.
        doing: String,
        /// The messages of the version control, of ssh and of the peer.
        words: String,
    },
    /// A hook of the destination refused the push.
    #[error("{doing} was refused by a hook there: {words}")]
    Refused {
        /// The operation, as an infinitive.
        doing: String,
        /// The message of the hook.
        words: String,
    },
    /// The peer does not admit us, because of credentials, host key, certificate or address. An operator has to act.
    #[error("cannot {doing}, and trying again will not help; {}: {words}", barrier.remedy())]
    Forbidden {
        /// The peer.
        peer: Peer,
        /// The reason.
        barrier: Barrier,
        /// The operation, as an infinitive.
        doing: String,
        /// The messages of the version control, of ssh and of the peer.
        words: String,
    },
    /// No host key is known for the peer. An operator has to act.
    #[error(
        "cannot {doing}, and trying again will not help; no host key is known for {host}: add its line to `known_hosts` \
         (`ssh-keyscan` prints it; compare it with what its operators publish): {words}"
    )]
    UnknownHost {
        /// The peer.
        peer: Peer,
        /// The operation, as an infinitive.
        doing: String,
        /// The host as `known_hosts` has to name it, such as `[hg.example.org]:2222`.
        host: String,
        /// The messages of the version control, of ssh and of the peer.
        words: String,
    },
    /// The peer has another host key than the known one. An operator has to act.
    #[error(
        "cannot {doing}, and trying again will not help; {host} has another host key than the one in `known_hosts`: ask \
         its operators, and replace the line if they changed it: {words}"
    )]
    OtherHostKey {
        /// The peer.
        peer: Peer,
        /// The operation, as an infinitive.
        doing: String,
        /// The host as `known_hosts` names it.
        host: String,
        /// The messages of the version control, of ssh and of the peer.
        words: String,
    },
    /// A job of Lando did not push the stack, and another attempt does not help.
    #[error("cannot {job}: {words}")]
    NotLanded {
        /// The operation, as an infinitive, with the address of the job.
        job: String,
        /// The reason, by Lando or by us.
        words: String,
    },
    /// The repository is still being prepared.
    #[error("the clone of {repository} is not ready yet")]
    NotReady {
        /// The repository's name.
        repository: String,
    },
    /// The clone does not have the base that another delivery of the build chose, even after a pull.
    #[error(
        "the clone of {repository} does not have {base}, which another delivery recorded as the base of the build"
    )]
    UnknownBase {
        /// The repository's name.
        repository: String,
        /// The base, 40 hex digits.
        base: String,
    },
    /// The base that the stack names is neither in the clone nor mapped yet.
    #[error(
        "waiting for the mapping of the base {base}, which neither {repository} nor its `base_mapping` knows yet"
    )]
    NotMapped {
        /// The repository's name.
        repository: String,
        /// The base, 12 to 40 hex digits.
        base: String,
    },
    /// Another process works on the clone.
    #[error(
        "another process uses the clone of {repository}; each process needs its own clones directory"
    )]
    InUse {
        /// The repository's name.
        repository: String,
    },
    /// Another request is pending.
    #[error("a {task} is requested already and not done yet; to cancel it, remove {}", request.display())]
    Busy {
        /// The pending task.
        task: &'static str,
        /// The file with the request.
        request: PathBuf,
    },
    /// There is no room for a clone.
    #[error(
        "there is no room for the clone {clone}: {reason}; make room (see `events repositories prune`), raise the budget, or \
         configure fewer clone_slots"
    )]
    NoRoom {
        /// The name of the clone slot.
        clone: String,
        /// The reason for which it does not fit.
        reason: String,
    },
    /// The process ends, or the lease is lost. Child processes have been killed.
    #[error("cancelled: the process ends, or the lease is lost")]
    Cancelled,
    /// The HTTP client for the services beside the version control cannot be set up.
    #[error("cannot send requests to the services that the worker needs")]
    Http(#[from] ClientError),
    /// The eligibility of the build is unknown. It is not pushed until it is known.
    #[error(transparent)]
    PushGuard(#[from] PushGuardError),
    /// The patches cannot be loaded at the moment.
    #[error(transparent)]
    Patches(PatchSourceError),
    /// The record of the build cannot be read or written, or its update cannot be sent.
    #[error("cannot record a build or send its update")]
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

    /// The fault that an operator has to mend before the build can go on.
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

    /// The evidence that the clone has lost data, if there is any.
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

    /// Makes an error of the file system: [`Self::DiskFull`] for a full disk or a used-up quota, else [`Self::Io`].
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

/// A disk without room for patches is full for all builds.
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
            | Self::UnknownBase { .. }
            | Self::Cancelled => Retry::Backoff,
            Self::NotReady { .. }
            | Self::InUse { .. }
            | Self::Busy { .. }
            | Self::NoRoom { .. } => Retry::Defer(NOT_READY_PAUSE),
            Self::PushGuard(PushGuardError::Away(_))
            | Self::Patches(PatchSourceError::Away(_))
            | Self::DiskFull { .. } => Retry::Hold(CLOSED_PAUSE),
            // One build must not hold up the others.
            Self::PushGuard(PushGuardError::Unclear(_)) | Self::Patches(_) => {
                Retry::Defer(CLOSED_PAUSE)
            }
            Self::NoDefaultRevision { .. } => Retry::Defer(OUTAGE_PAUSE),
            Self::NotMapped { .. } => Retry::Defer(UNMAPPED_PAUSE),
            Self::Settings { .. }
            | Self::Http(_)
            | Self::Argument { .. }
            | Self::Forbidden { .. }
            | Self::UnknownHost { .. }
            | Self::OtherHostKey { .. }
            | Self::NotLanded { .. }
            | Self::Unrelated { .. } => Retry::Never,
            Self::Bus(error) => error.retry(),
        }
    }
}
