//! The texts for authors about failures of ours.

use build::{Blocker, InfraFailure, VersionControl};
use bus::Cause;

use crate::{Barrier, Peer, RepositorySettings, WorkerError, text};

/// A build that is given up after `attempts`, `seconds` after it was accepted. `repository` is `None` when its
/// repository is not configured any more. `vcs` is its version control.
pub(crate) fn given_up(
    cause: &Cause<'_, WorkerError>,
    repository: Option<&RepositorySettings>,
    vcs: VersionControl,
    attempts: u32,
    seconds: f64,
) -> InfraFailure {
    let unknown = match vcs {
        VersionControl::Mercurial => ("the repository", "Try"),
        VersionControl::Git => ("the repository", "the destination"),
    };
    let (name, try_name) =
        repository.map_or(unknown, |it| (it.name.as_str(), it.try_name.as_str()));
    let summary = match cause {
        Cause::Failed(error)
        | Cause::AttemptsExhausted {
            last: Some(error), ..
        } => summarize(error, name, try_name, vcs),
        Cause::AttemptsExhausted { last: None, .. } => UNKNOWN.to_owned(),
        Cause::WorkerDied { .. } | Cause::Panicked(_) => {
            "Our server broke down while it worked on this build.".to_owned()
        }
    };
    // The messages of the peer were joined into one line for the log.
    let words = cause.error().and_then(peers_words);
    let details = words.map_or_else(|| cause.to_string(), str::to_owned);
    InfraFailure {
        summary,
        details: text::separate_lines(&details),
        attempts,
        seconds,
    }
}

/// A build whose repository had no clone to build on for `hours`.
pub(crate) fn never_ready(
    repository: &RepositorySettings,
    hours: u64,
    seconds: f64,
) -> InfraFailure {
    let summary = format!(
        "Our clone of {} was not ready within {hours} hours.",
        repository.name
    );
    InfraFailure {
        summary,
        details: String::new(),
        attempts: 0,
        seconds,
    }
}

/// A build that waited for `hours` in vain, at last for `blocker`, which we have to mend.
pub(crate) fn waited(
    blocker: Blocker,
    repository: &RepositorySettings,
    hours: u64,
    seconds: f64,
) -> InfraFailure {
    let what = match blocker {
        Blocker::DiskFull => "our disk is full".to_owned(),
        Blocker::NoDefaultRevision => format!(
            "the revision {} on which we build patches for {} is not there any more",
            repository.default_revision, repository.name
        ),
    };
    InfraFailure {
        summary: format!("The build waited for more than {hours} hours: {what}."),
        details: String::new(),
        attempts: 0,
        seconds,
    }
}

const UNKNOWN: &str = "Something went wrong on our server.";

fn summarize(error: &WorkerError, name: &str, try_name: &str, vcs: VersionControl) -> String {
    let called = |peer: &Peer| match peer {
        Peer::Source => name,
        Peer::Destination => try_name,
    };
    match error {
        WorkerError::Refused { .. } => {
            format!("The push to {try_name} was refused by a hook there.")
        }
        WorkerError::Forbidden { peer, barrier, .. } => barred(*barrier, called(peer), vcs),
        WorkerError::UnknownHost { peer, .. } => {
            format!("No host key of {} is known here.", called(peer))
        }
        WorkerError::OtherHostKey { peer, .. } => {
            format!(
                "The host key of {} is not the one that we know.",
                called(peer)
            )
        }
        WorkerError::Remote {
            peer: Peer::Destination,
            ..
        } => format!("The connection to {try_name} could not be made, or broke off."),
        WorkerError::Remote {
            peer: Peer::Source, ..
        } => format!(
            "The newest {}s of {name} could not be fetched.",
            vcs.commit()
        ),
        WorkerError::NotLanded { .. } => {
            format!("The stack was not pushed to {try_name} by Lando.")
        }
        WorkerError::DiskFull { .. } => "Our disk is full.".to_owned(),
        WorkerError::NoDefaultRevision { .. } => {
            format!("The revision on which we build patches for {name} is not there any more.")
        }
        WorkerError::UnknownBase { .. } => format!(
            "Our clone of {name} does not have the {} on which an earlier attempt was made.",
            vcs.commit()
        ),
        WorkerError::Damaged { .. } => {
            format!("Our clone of {name} was damaged; a new one is being made.")
        }
        WorkerError::Deadline { is_push: true, .. } => {
            format!("The push to {try_name} did not end in time and was stopped.")
        }
        WorkerError::Deadline { .. } => {
            format!(
                "{} did not end in time on our server and was stopped.",
                vcs.name()
            )
        }
        _ => UNKNOWN.to_owned(),
    }
}

/// The messages of the peer, without our own words before them, which are for operators.
fn peers_words(error: &WorkerError) -> Option<&str> {
    match error {
        WorkerError::Refused { words, .. }
        | WorkerError::Forbidden { words, .. }
        | WorkerError::UnknownHost { words, .. }
        | WorkerError::OtherHostKey { words, .. }
        | WorkerError::Remote { words, .. } => Some(words),
        _ => None,
    }
}

/// The summary for a peer that does not admit us.
fn barred(barrier: Barrier, peer: &str, vcs: VersionControl) -> String {
    match barrier {
        Barrier::HostKey => format!("The host key of {peer} was not accepted here."),
        Barrier::Certificate => {
            format!("The certificate of {peer} is not one that we accept.")
        }
        Barrier::NoRepository => {
            format!("The address that we have for {peer} leads to no repository.")
        }
        Barrier::ReadOnly => format!("{peer} takes no pushes from us."),
        Barrier::NoProgram => format!("There is no {} on the server of {peer}.", vcs.name()),
        Barrier::Credentials => format!("Our credentials were not accepted by {peer}."),
        Barrier::Taken => {
            format!("The branch of this build at {peer} has commits of somebody else.")
        }
        Barrier::Protected => format!("The branch of this build is protected at {peer}."),
        Barrier::Quota => {
            format!("The push is too large for {peer}, or our quota there is used up.")
        }
        Barrier::RefConflict => {
            format!("The branch of this build cannot be made at {peer}: another one is in its way.")
        }
    }
}

#[cfg(test)]
mod tests {
    use build::{BuildUpdate, Phid};
    use bus::{Retry, Retryable};
    use phabricator::answer;

    use super::*;
    use crate::Integrity;

    fn peer(doing: &str) -> Peer {
        if doing.starts_with("push ") {
            Peer::Destination
        } else {
            Peer::Source
        }
    }

    fn remote(doing: &str) -> WorkerError {
        WorkerError::Remote {
            peer: peer(doing),
            doing: doing.to_owned(),
            words: "abort: error: Connection refused".to_owned(),
        }
    }

    fn forbidden(doing: &str, barrier: Barrier, words: &str) -> WorkerError {
        WorkerError::Forbidden {
            peer: peer(doing),
            barrier,
            doing: doing.to_owned(),
            words: words.to_owned(),
        }
    }

    fn deadline(program: &str, command: &str) -> WorkerError {
        WorkerError::Deadline {
            command: format!("{program} {command}"),
            is_push: command == "push",
            seconds: 900,
        }
    }

    /// The errors that have a text of their own; the golden file shows it.
    fn errors() -> Vec<WorkerError> {
        // A hook may print anything.
        let hook = "remote: certificate not found; remote: pretxnchangegroup.x hook failed; abort: push failed on remote";
        vec![
            WorkerError::Refused {
                doing: "push to try".to_owned(),
                words: hook.to_owned(),
            },
            remote("push to try"),
            remote("pull central"),
            remote("clone central"),
            forbidden(
                "push to try",
                Barrier::Credentials,
                "remote: try@host: Permission denied (publickey).",
            ),
            forbidden(
                "pull central",
                Barrier::Credentials,
                "abort: authorization failed",
            ),
            forbidden(
                "push to try",
                Barrier::HostKey,
                "remote: Host key verification failed.",
            ),
            WorkerError::UnknownHost {
                peer: Peer::Destination,
                doing: "push to try".to_owned(),
                host: "[hg.example.org]:2222".to_owned(),
                words: "remote: Host key verification failed.".to_owned(),
            },
            WorkerError::OtherHostKey {
                peer: Peer::Destination,
                doing: "push to try".to_owned(),
                host: "hg.example.org".to_owned(),
                words: "remote: Host key verification failed.".to_owned(),
            },
            forbidden(
                "push to try",
                Barrier::Certificate,
                "abort: error: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
            ),
            forbidden(
                "push to try",
                Barrier::NoRepository,
                "abort: repository /try not found",
            ),
            forbidden(
                "push to try",
                Barrier::NoProgram,
                "remote: bash: line 1: hg: command not found",
            ),
            forbidden(
                "push to try",
                Barrier::ReadOnly,
                "abort: could not lock repository /try: Permission denied",
            ),
            forbidden(
                "push to try",
                Barrier::Taken,
                "refs/heads/phabricator/D7/1007 has a head that this worker did not push",
            ),
            forbidden(
                "push to try",
                Barrier::Protected,
                "remote: GitLab: You are not allowed to push code to protected branches on this project.; pre-receive \
                 hook declined",
            ),
            forbidden(
                "push to try",
                Barrier::Quota,
                "remote: fatal: pack exceeds maximum allowed size; unpacker error",
            ),
            forbidden(
                "push to try",
                Barrier::RefConflict,
                "remote: error: cannot lock ref 'refs/heads/phabricator/D7/1007': 'refs/heads/phabricator' exists; cannot \
                 create 'refs/heads/phabricator/D7/1007'; failed to update ref",
            ),
            WorkerError::Damaged {
                repository: "central".to_owned(),
                reason: "integrity check failed".to_owned(),
            },
            deadline("hg", "push"),
            deadline("hg", "import"),
            WorkerError::Server {
                what: "the hg command server failed during `hg log`".to_owned(),
                source: "its greeting is not one of a command server that runs commands".into(),
            },
            WorkerError::Command {
                doing: "import the patches of D7".to_owned(),
                words: "abort: disk broken".to_owned(),
                integrity: Integrity::Unknown,
            },
            WorkerError::NoDefaultRevision {
                repository: "central".to_owned(),
                revision: "gone".to_owned(),
            },
            WorkerError::UnknownBase {
                repository: "central".to_owned(),
                base: "1".repeat(40),
            },
            WorkerError::NotLanded {
                job: "land https://lando.example.com/landings/7/".to_owned(),
                words: "Unexpected error while pushing to try.".to_owned(),
            },
            WorkerError::io("write down the base")(std::io::ErrorKind::StorageFull.into()),
        ]
    }

    #[test]
    fn each_cause_has_its_text() {
        let phid = Phid::parse("PHID-REPO-central").expect("a PHID");
        let repository = RepositorySettings::new(phid, "central", "source", "try");
        let vcs = VersionControl::Mercurial;
        insta::assert_snapshot!(texts(&errors(), Some(&repository), vcs));
    }

    /// Those of a repository that is not configured any more. The others are as with Mercurial.
    #[test]
    fn causes_have_the_words_of_git() {
        let errors = [
            remote("push x"),
            remote("fetch x"),
            WorkerError::UnknownBase {
                repository: "x".to_owned(),
                base: "1".repeat(40),
            },
            deadline("git", "fetch"),
            forbidden(
                "push x",
                Barrier::NoProgram,
                "bash: git-receive-pack: not found",
            ),
        ];
        insta::assert_snapshot!(texts(&errors, None, VersionControl::Git));
    }

    /// The answers for each error, and for causes without one.
    fn texts(
        errors: &[WorkerError],
        repository: Option<&RepositorySettings>,
        vcs: VersionControl,
    ) -> String {
        let target = Phid::parse("PHID-HMBT-00000000000000000001").expect("a PHID");
        let causes = errors.iter().map(|error| match error.retry() {
            Retry::Never => (Cause::Failed(error), 1),
            _ => (
                Cause::AttemptsExhausted {
                    attempts: 5,
                    last: Some(error),
                },
                5,
            ),
        });
        let without_error = [
            (Cause::WorkerDied { times: 5 }, 5),
            (Cause::Panicked("oh"), 5),
            (
                Cause::AttemptsExhausted {
                    attempts: 5,
                    last: None,
                },
                6,
            ),
        ];
        let mut texts = String::new();
        for (cause, attempts) in causes.chain(without_error) {
            let update =
                BuildUpdate::InfraFailed(given_up(&cause, repository, vcs, attempts, 1570.0));
            let answers = answer(&target, &update);
            let answers: Vec<String> = answers.iter().map(ToString::to_string).collect();
            texts.push_str(&format!("======== {cause}\n\n{}\n\n", answers.join("\n\n")));
        }
        texts
    }
}
