//! The text for an author about a failure of ours.
//!
//! The last word on a build may be spoken by another process than the one that failed, so all that is left of the
//! error is its text. Here that is turned back into what happened; the texts are those of [`crate::HgError`].

use phabricator::model::Blame;

use crate::RepositorySettings;

/// A build that has been given up after `attempts`, and after `seconds` since it was accepted. `repository` is `None`
/// when its repository is not configured any more.
pub(crate) fn given_up(
    reason: &str,
    repository: Option<&RepositorySettings>,
    attempts: u32,
    seconds: f64,
) -> Blame {
    let (name, try_name) = repository.map_or(("the repository", "Try"), |it| {
        (it.name.as_str(), it.try_name.as_str())
    });
    let summary = what_happened(reason, name, try_name);
    Blame {
        summary,
        details: words(reason),
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
    reason: Option<&str>,
    repository: &RepositorySettings,
    hours: u64,
    seconds: f64,
) -> Option<Blame> {
    let reason = reason?;
    let what = if reason.starts_with(FULL_DISK) {
        "our disk is full".to_owned()
    } else if reason.contains(NO_REVISION) {
        let (name, revision) = (&repository.name, &repository.default_revision);
        format!(
            "the revision {revision} on which we build patches for {name} is not there any more"
        )
    } else {
        return None;
    };
    let summary = format!("The build waited for more than {hours} hours: {what}.");
    Some(Blame {
        summary,
        details: String::new(),
        attempts: 0,
        seconds,
    })
}

/// How the errors begin, or what they say, that builds wait for.
const FULL_DISK: &str = "our disk is full";
const NO_REVISION: &str = " at its source: correct `default_revision`";

fn what_happened(reason: &str, name: &str, try_name: &str) -> String {
    let is_push = reason.starts_with("cannot push ");
    let peer = if is_push { try_name } else { name };
    let reaches_out = reaches_out(reason);
    if reason.contains(" was refused by a hook there: ") {
        format!("The push to {try_name} was refused by a hook there.")
    } else if reaches_out && let Some((_, words)) = reason.split_once("trying again will not help")
    {
        turned_away(&words.to_lowercase(), peer)
    } else if is_push {
        format!(
            "The repository {try_name} could not be reached, or the connection to it broke off."
        )
    } else if reaches_out {
        format!("The newest changesets of {name} could not be fetched.")
    } else if reason.starts_with(FULL_DISK) {
        "Our disk is full.".to_owned()
    } else if reason.contains(NO_REVISION) {
        format!("The revision on which we build patches for {name} is not there any more.")
    } else if reason.starts_with("the clone of ") {
        format!("Our clone of {name} was damaged; a new one is being made.")
    } else if reason.starts_with("`hg push`") {
        format!("The push to {try_name} did not end in time and was stopped.")
    } else if reason.starts_with("`hg ") && reason.contains(" was killed after ") {
        "Mercurial did not end in time on our server and was stopped.".to_owned()
    } else if reason.starts_with("it was taken ") || reason.starts_with("panicked: ") {
        "Our server broke down while it worked on this build.".to_owned()
    } else {
        "Something went wrong on our server.".to_owned()
    }
}

/// The words of others, each line on its own as they said it; they were put on one line for the log. What we said in
/// front of them is for operators.
fn words(reason: &str) -> String {
    let ours = [
        " was refused by a hook there: ",
        "check the address, keys and permissions: ",
        "compare it with what its operators publish): ",
        "replace the line if they changed it: ",
    ];
    let theirs = ours.iter().find_map(|ours| reason.split_once(ours));
    let theirs = theirs.or_else(|| reason.split_once(": ").filter(|_| reaches_out(reason)));
    theirs
        .map_or(reason, |(_, theirs)| theirs)
        .replace("; ", "\n")
}

/// Whether this is about another repository.
fn reaches_out(reason: &str) -> bool {
    ["cannot push ", "cannot pull ", "cannot clone "]
        .iter()
        .any(|start| reason.starts_with(start))
}

/// The other side will not have us.
fn turned_away(words: &str, peer: &str) -> String {
    let says = |patterns: &[&str]| patterns.iter().any(|pattern| words.contains(pattern));
    if says(&["no host key is known for "]) {
        format!("No host key of {peer} is known here.")
    } else if says(&[
        "another host key than",
        "host key verification failed",
        "remote host identification",
    ]) {
        format!("The host key of {peer} is not the one that we know.")
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
    use phabricator::{
        answer,
        model::{Phid, Report},
    };
    use runtime::error_chain;

    use super::*;
    use crate::{HgError, framing::FramingError};

    fn remote(doing: &str) -> HgError {
        HgError::Remote {
            doing: doing.to_owned(),
            words: "abort: error: Connection refused".to_owned(),
        }
    }

    fn forbidden(doing: &str, words: &str) -> HgError {
        HgError::Forbidden {
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

    /// The errors whose text has to be known again; the golden file says as what.
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
                doing: "push to try".to_owned(),
                host: "[hg.example.org]:2222".to_owned(),
                words: "remote: Host key verification failed.".to_owned(),
            },
            HgError::OtherHostKey {
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
                source: FramingError::Greeting,
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
    fn each_error_is_told_apart_by_its_text() {
        let phid = Phid::parse("PHID-REPO-central").expect("a PHID");
        let repository = RepositorySettings::new(phid, "central", "source", "try");
        let died =
            "it was taken 5 times in a row and never finished: its worker died, or lost its lease"
                .to_owned();
        let reasons = errors()
            .into_iter()
            .map(|error| error_chain(&error))
            .chain([died, "panicked: oh".to_owned()]);
        let mut texts = String::new();
        for reason in reasons {
            let attempts = if reason.contains("will not help") {
                1
            } else {
                5
            };
            let report = Report::InfrastructureFailed(given_up(
                &reason,
                Some(&repository),
                attempts,
                1570.0,
            ));
            let answers: Vec<String> = answer(&report).iter().map(ToString::to_string).collect();
            texts.push_str(&format!(
                "======== {reason}\n\n{}\n\n",
                answers.join("\n\n")
            ));
        }
        insta::assert_snapshot!(texts);
    }
}
