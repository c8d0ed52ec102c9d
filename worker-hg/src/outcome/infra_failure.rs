//! The text for an author about a failure of ours.

use build::{Blame, Blocker};
use bus::Cause;

use crate::{HgError, Peer, RepositorySettings};

/// A build that has been given up after `attempts`, and after `seconds` since it was accepted. `repository` is `None`
/// when its repository is not configured any more.
pub(crate) fn given_up(
    cause: &Cause<'_, HgError>,
    repository: Option<&RepositorySettings>,
    attempts: u32,
    seconds: f64,
) -> Blame {
    let (name, try_name) = repository.map_or(("the repository", "Try"), |it| {
        (it.name.as_str(), it.try_name.as_str())
    });
    let summary = match cause {
        Cause::Failed(error)
        | Cause::AttemptsExhausted {
            last: Some(error), ..
        } => what_happened(error, name, try_name),
        Cause::AttemptsExhausted { last: None, .. } => UNKNOWN.to_owned(),
        Cause::WorkerDied { .. } | Cause::Panicked(_) => {
            "Our server broke down while it worked on this build.".to_owned()
        }
    };
    // The words of others, each line on its own as they said it; they were put on one line for the log.
    let words = cause.error().and_then(peers_words);
    let details = words.map_or_else(|| cause.to_string(), str::to_owned);
    Blame {
        summary,
        details: details.replace("; ", "\n"),
        attempts,
        seconds,
    }
}

/// A build whose repository had no clone to build on for `hours`.
pub(crate) fn never_ready(repository: &RepositorySettings, hours: u64, seconds: f64) -> Blame {
    let summary = format!(
        "Our clone of {} was not ready within {hours} hours.",
        repository.name
    );
    Blame {
        summary,
        details: String::new(),
        attempts: 0,
        seconds,
    }
}

/// A build that waited for `hours` in vain, when the last thing that it waited for was for us to mend.
pub(crate) fn waited(
    blocker: Blocker,
    repository: &RepositorySettings,
    hours: u64,
    seconds: f64,
) -> Blame {
    let what = match blocker {
        Blocker::DiskFull => "our disk is full".to_owned(),
        Blocker::NoDefaultRevision => format!(
            "the revision {} on which we build patches for {} is not there any more",
            repository.default_revision, repository.name
        ),
    };
    Blame {
        summary: format!("The build waited for more than {hours} hours: {what}."),
        details: String::new(),
        attempts: 0,
        seconds,
    }
}

const UNKNOWN: &str = "Something went wrong on our server.";

fn what_happened(error: &HgError, name: &str, try_name: &str) -> String {
    let called = |peer: &Peer| match peer {
        Peer::Source => name,
        Peer::Destination => try_name,
    };
    match error {
        HgError::Refused { .. } => format!("The push to {try_name} was refused by a hook there."),
        HgError::Forbidden { peer, words, .. } => turned_away(&words.to_lowercase(), called(peer)),
        HgError::UnknownHost { peer, .. } => {
            format!("No host key of {} is known here.", called(peer))
        }
        HgError::OtherHostKey { peer, .. } => other_host_key(called(peer)),
        HgError::Remote {
            peer: Peer::Destination,
            ..
        } => format!(
            "The repository {try_name} could not be reached, or the connection to it broke off."
        ),
        HgError::Remote {
            peer: Peer::Source, ..
        } => format!("The newest changesets of {name} could not be fetched."),
        HgError::DiskFull { .. } => "Our disk is full.".to_owned(),
        HgError::NoDefaultRevision { .. } => {
            format!("The revision on which we build patches for {name} is not there any more.")
        }
        HgError::Damaged { .. } => {
            format!("Our clone of {name} was damaged; a new one is being made.")
        }
        HgError::Deadline { command, .. } if command == "push" => {
            format!("The push to {try_name} did not end in time and was stopped.")
        }
        HgError::Deadline { .. } => {
            "Mercurial did not end in time on our server and was stopped.".to_owned()
        }
        _ => UNKNOWN.to_owned(),
    }
}

/// What the other side said. What we say in front of it is for operators.
fn peers_words(error: &HgError) -> Option<&str> {
    match error {
        HgError::Refused { words, .. }
        | HgError::Forbidden { words, .. }
        | HgError::UnknownHost { words, .. }
        | HgError::OtherHostKey { words, .. }
        | HgError::Remote { words, .. } => Some(words),
        _ => None,
    }
}

fn other_host_key(peer: &str) -> String {
    format!("The host key of {peer} is not the one that we know.")
}

/// The other side will not have us.
fn turned_away(words: &str, peer: &str) -> String {
    let says = |patterns: &[&str]| patterns.iter().any(|pattern| words.contains(pattern));
    if says(&["host key verification failed", "remote host identification"]) {
        other_host_key(peer)
    } else if says(&["certificate"]) {
        format!("The certificate of {peer} is not one that we accept.")
    } else if says(&[
        "not found",
        "does not exist",
        "no mercurial repository",
        "http error 404",
    ]) {
        format!("The address that we have for {peer} leads to no repository.")
    } else if says(&["readonly", "read-only"]) {
        format!("{peer} takes no pushes from us.")
    } else if says(&["command not found"]) {
        format!("There is no Mercurial on the server of {peer}.")
    } else {
        format!("Our credentials were not accepted by {peer}.")
    }
}

#[cfg(test)]
mod tests {
    use build::{Phid, Report};
    use bus::{Retry, Retryable};
    use phabricator::answer;

    use super::*;
    use crate::hg::framing::FramingError;

    fn peer(doing: &str) -> Peer {
        if doing.starts_with("push ") {
            Peer::Destination
        } else {
            Peer::Source
        }
    }

    fn remote(doing: &str) -> HgError {
        HgError::Remote {
            peer: peer(doing),
            doing: doing.to_owned(),
            words: "abort: error: Connection refused".to_owned(),
        }
    }

    fn forbidden(doing: &str, words: &str) -> HgError {
        HgError::Forbidden {
            peer: peer(doing),
            doing: doing.to_owned(),
            words: words.to_owned(),
        }
    }

    fn deadline(command: &str) -> HgError {
        HgError::Deadline {
            command: command.to_owned(),
            seconds: 900,
        }
    }

    /// The errors that have a text of their own; the golden file shows it.
    fn errors() -> Vec<HgError> {
        // A hook may say anything.
        let hook = "remote: certificate not found; remote: pretxnchangegroup.x hook failed; abort: push failed on remote";
        vec![
            HgError::Refused {
                doing: "push to try".to_owned(),
                words: hook.to_owned(),
            },
            remote("push to try"),
            remote("pull central"),
            remote("clone central"),
            forbidden(
                "push to try",
                "remote: try@host: Permission denied (publickey).",
            ),
            forbidden("pull central", "abort: authorization failed"),
            forbidden("push to try", "remote: Host key verification failed."),
            HgError::UnknownHost {
                peer: Peer::Destination,
                doing: "push to try".to_owned(),
                host: "[hg.example.org]:2222".to_owned(),
                words: "remote: Host key verification failed.".to_owned(),
            },
            HgError::OtherHostKey {
                peer: Peer::Destination,
                doing: "push to try".to_owned(),
                host: "hg.example.org".to_owned(),
                words: "remote: Host key verification failed.".to_owned(),
            },
            forbidden(
                "push to try",
                "abort: error: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
            ),
            forbidden("push to try", "abort: repository /try not found"),
            HgError::Damaged {
                repository: "central".to_owned(),
                reason: "integrity check failed".to_owned(),
            },
            deadline("push"),
            deadline("import"),
            HgError::Protocol {
                command: "log".to_owned(),
                words: String::new(),
                source: FramingError::Greeting.into(),
            },
            HgError::Command {
                doing: "import the patches of D7".to_owned(),
                words: "abort: disk broken".to_owned(),
            },
            HgError::NoDefaultRevision {
                repository: "central".to_owned(),
                revision: "gone".to_owned(),
            },
            HgError::io("write down the base")(std::io::ErrorKind::StorageFull.into()),
        ]
    }

    #[test]
    fn each_cause_has_its_text() {
        let phid = Phid::parse("PHID-REPO-central").expect("a PHID");
        let repository = RepositorySettings::new(phid, "central", "source", "try");
        let errors = errors();
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
            let report =
                Report::InfrastructureFailed(given_up(&cause, Some(&repository), attempts, 1570.0));
            let answers: Vec<String> = answer(&report).iter().map(ToString::to_string).collect();
            texts.push_str(&format!("======== {cause}\n\n{}\n\n", answers.join("\n\n")));
        }
        insta::assert_snapshot!(texts);
    }
}
