//! The meaning of a push.
//!
//! | Git's line for the ref, on its standard output | the result |
//! | --- | --- |
//! | `*`, `+` or a space: created or replaced | [`PushOutcome::Accepted`] |
//! | `=`: up to date | [`PushOutcome::UpToDate`] |
//! | `[rejected]`: the ref is not as the lease says | [`PushEnd::LeaseLost`] |
//! | `[remote rejected] (… hook declined)` | by the words of the hook: see [`declined`] |
//! | `[remote rejected]`, for a rule of the server about the ref | [`Barrier::Protected`] |
//! | `[remote rejected]`, where another ref is in the way | [`Barrier::RefConflict`] |
//! | `[remote rejected] (unpacker error)` | [`Barrier::Quota`] or [`Barrier::ReadOnly`] where the server names one |
//! | `[remote rejected]`, for another reason | [`WorkerError::Remote`] |
//! | none | by its standard error: see [`not_reached`] |
//!
//! Our own `git` writes its standard output (`--porcelain`), so no hook can forge a line there. A hook writes on the
//! standard error, where Git puts `remote: ` in front of each of its lines. So only lines with that count as words of a
//! server, and lines without it as words of ssh and our own `git`. An author whose text a hook repeats could at most end
//! the own build.

use worker::{
    Barrier, Peer, WorkerError,
    destination::{PushError, PushOutcome},
    process::CommandOutput,
    text,
};

use crate::remote;

/// The beginning of a line of the server, or of its hooks.
const REMOTE: &str = "remote: ";

/// The beginnings of lines of our own `git` that repeat what is known, or only follow another line.
const ROUTINE: [&str; 7] = [
    "error: failed to push some refs to ",
    "error: atomic push failed for ref ",
    "fatal: Could not read from remote repository.",
    "Please make sure you have the correct access rights",
    "and the repository exists.",
    "To ",
    "Done",
];

/// The beginnings of lines by which a server reports that its rules about a ref refuse a push.
const PROTECTED: [&str; 6] = [
    "GitLab: You are not allowed to push code to protected branches",
    "GitLab: You are not allowed to force push code to a protected branch",
    "GitLab: You are not allowed to create protected branches",
    "error: GH006: ",
    "error: GH013: ",
    "error: denying non-fast-forward ",
];

/// The same for its limits of size.
const QUOTA: [&str; 6] = [
    "fatal: pack exceeds maximum allowed size",
    "error: GH001: ",
    "GitLab: Your push to this repository would cause it to exceed the allocated storage",
    "GitLab: Your push to this repository has been rejected because",
    "error: file write error: Disk quota exceeded",
    "fatal: write error: Disk quota exceeded",
];

/// The reasons in Git's line for rules about a ref, or parts of them.
const RULES: [&str; 6] = [
    "protected branch",
    "repository rule violations",
    "deny updating a hidden ref",
    "non-fast-forward",
    "branch is currently checked out",
    "prohibited by Gerrit",
];

/// Output of ssh servers that know us, and let us not write. They print it before Git begins.
const NOT_ALLOWED: [&str; 5] = [
    " DENIED by ",
    "ERROR: Permission to ",
    "ERROR: Write access to repository not granted",
    "ERROR: You are not allowed to push code to this project",
    "ERROR: Deploy tokens are not allowed to push",
];

/// The end of one `git push`.
#[derive(Debug)]
pub(crate) enum PushEnd {
    /// The destination has the head.
    Pushed(PushOutcome),
    /// The ref is not as the lease says. Nothing was pushed.
    LeaseLost,
    /// The push failed.
    Failed(PushError),
}

/// What a push was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pushed<'a> {
    /// The push, as an infinitive.
    pub(crate) doing: &'a str,
    /// The ref.
    pub(crate) reference: &'a str,
    /// Whether the words of a hook are for the author.
    pub(crate) hook_rejects_patches: bool,
}

/// Judges a push of one ref.
pub(crate) fn push(pushed: Pushed<'_>, output: &CommandOutput) -> PushEnd {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout
        .lines()
        .find_map(|line| Line::parse(line, pushed.reference));
    match line {
        Some(line) if line.flag == '=' => PushEnd::Pushed(PushOutcome::UpToDate),
        Some(line) if matches!(line.flag, ' ' | '+' | '*') && output.code == 0 => {
            PushEnd::Pushed(PushOutcome::Accepted)
        }
        Some(line) if line.summary.starts_with("[rejected]") => PushEnd::LeaseLost,
        Some(line) if line.summary.starts_with("[remote rejected]") => {
            PushEnd::Failed(rejected(pushed, line.reason, output))
        }
        // Without an answer for the ref, it may be there or not.
        Some(_) => PushEnd::Failed(broken_off(pushed.doing, output).into()),
        None => PushEnd::Failed(not_reached(pushed.doing, output).into()),
    }
}

/// The end of one `git push` that deletes a ref, as far as it concerns the ref alone.
#[derive(Debug)]
pub(crate) enum DeletionEnd {
    /// The ref is deleted.
    Deleted,
    /// The ref does not exist, or has another commit than the lease says.
    LeaseLost,
    /// The server does not delete this ref.
    Refused(WorkerError),
}

/// Judges a push that deletes one ref.
pub(crate) fn deletion(
    doing: &str,
    reference: &str,
    output: &CommandOutput,
) -> Result<DeletionEnd, WorkerError> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().find_map(|line| Line::parse(line, reference));
    match line {
        Some(line) if line.flag == '-' && output.code == 0 => Ok(DeletionEnd::Deleted),
        Some(line) if line.summary.starts_with("[rejected]") => Ok(DeletionEnd::LeaseLost),
        Some(line) if line.summary.starts_with("[remote rejected]") => {
            let pushed = Pushed {
                doing,
                reference,
                hook_rejects_patches: false,
            };
            Ok(DeletionEnd::Refused(
                match rejected(pushed, line.reason, output) {
                    PushError::Failed(error) => error,
                    PushError::Rejected { words } => WorkerError::Refused {
                        doing: doing.to_owned(),
                        words,
                    },
                },
            ))
        }
        // Without an answer for the ref, it may be there or not.
        Some(_) => Err(broken_off(doing, output)),
        None => Err(not_reached(doing, output)),
    }
}

/// The line of `git push --porcelain` for one ref: `<flag>\t<from>:<to>\t<summary> (<reason>)`.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    flag: char,
    summary: &'a str,
    reason: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str, reference: &str) -> Option<Self> {
        let mut fields = line.splitn(3, '\t');
        let flag = fields.next()?.chars().next()?;
        let (_, to) = fields.next()?.split_once(':')?;
        let summary = fields.next()?;
        let reason = summary
            .split_once(" (")
            .and_then(|(_, reason)| reason.strip_suffix(')'))
            .unwrap_or_default();
        (to == reference).then_some(Self {
            flag,
            summary,
            reason,
        })
    }
}

/// The server rejected the ref, for this reason.
fn rejected(pushed: Pushed<'_>, reason: &str, output: &CommandOutput) -> PushError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let words = words(reason, &stderr, output.code);
    let doing = pushed.doing.to_owned();
    let barrier = if RULES.iter().any(|rule| reason.contains(rule)) {
        Some(Barrier::Protected)
    } else if reason.contains("hook declined") {
        match declined(&stderr) {
            Some(barrier) => Some(barrier),
            None if pushed.hook_rejects_patches => {
                return PushError::Rejected {
                    words: words_of_server(reason, &stderr),
                };
            }
            None => return WorkerError::Refused { doing, words }.into(),
        }
    } else if is_in_conflict(reason, pushed.reference, &stderr) {
        Some(Barrier::RefConflict)
    } else if reason == "unpacker error" {
        not_unpacked(&stderr)
    } else {
        None
    };
    match barrier {
        Some(barrier) => forbidden(barrier, doing, words),
        None => WorkerError::Remote {
            peer: Peer::Destination,
            doing,
            words,
        },
    }
    .into()
}

/// The rule of a known server by which its hook declined; `None` for a hook that somebody wrote. Gitolite's rules are a
/// hook too: those about refs are for operators, and its virtual refs (`VREF`) are checks of what is pushed.
fn declined(stderr: &str) -> Option<Barrier> {
    let begins = |lines: &[&str]| {
        of_server(stderr).any(|line| lines.iter().any(|begin| line.starts_with(begin)))
    };
    let denied_by_gitolite = |line: &str| {
        line.strip_prefix("FATAL: ")
            .and_then(|rest| rest.split_once(" DENIED by "))
            .is_some_and(|(access, _)| !access.contains("VREF/"))
    };
    if begins(&PROTECTED) {
        Some(Barrier::Protected)
    } else if begins(&QUOTA) {
        Some(Barrier::Quota)
    } else if of_server(stderr).any(denied_by_gitolite) {
        Some(Barrier::ReadOnly)
    } else {
        None
    }
}

/// Whether the server has a ref that is a folder of ours, or below ours. Its line names both.
fn is_in_conflict(reason: &str, reference: &str, stderr: &str) -> bool {
    let end = format!("' exists; cannot create '{reference}'");
    reason == "refname conflict"
        || reason == "failed to update ref" && of_server(stderr).any(|line| line.ends_with(&end))
}

/// The reason for which the server could not store our objects; `None` if it may be another one at the next attempt.
fn not_unpacked(stderr: &str) -> Option<Barrier> {
    let is_there =
        |begins: &[&str]| of_server(stderr).any(|line| begins.iter().any(|b| line.starts_with(b)));
    // The server's status, which our own `git` prints.
    let status = stderr
        .lines()
        .find_map(|line| line.strip_prefix("error: remote unpack failed: "));
    if is_there(&QUOTA) {
        Some(Barrier::Quota)
    } else if status.is_some_and(|status| status.contains("unable to create temporary object dir"))
        || is_there(&["error: insufficient permission for adding an object"])
    {
        Some(Barrier::ReadOnly)
    } else {
        None
    }
}

/// The push ended without an answer for the ref.
///
/// Before the server has sent its refs, no hook runs there, so all lines count. After that, our own `git` names the
/// failure: a status of HTTP, or the end of the connection.
pub(crate) fn not_reached(doing: &str, output: &CommandOutput) -> WorkerError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if remote::is_full_disk(output) {
        return remote::failure(Peer::Destination, doing, output);
    }
    let own = || stderr.lines().filter(|line| !line.starts_with(REMOTE));
    let all = || words("", &stderr, output.code);
    if own().any(|line| line == "fatal: the receiving end does not support push options") {
        return WorkerError::Settings {
            reason: format!(
                "cannot {doing}: the server takes no push options; remove `push_options`, or set \
                 `receive.advertisePushOptions` there"
            ),
        };
    }
    let status = own().find_map(|line| {
        let status = line.strip_prefix("error: RPC failed; HTTP ")?;
        status.split(' ').next()
    });
    match status {
        Some("401" | "403") => {
            return forbidden(Barrier::Credentials, doing.to_owned(), all());
        }
        Some("413") => return forbidden(Barrier::Quota, doing.to_owned(), all()),
        _ => {}
    }
    let has_answered = own().any(|line| {
        line.starts_with("send-pack: ") || line == "fatal: the remote end hung up unexpectedly"
    });
    if has_answered {
        return broken_off(doing, output);
    }
    if stderr
        .lines()
        .any(|line| NOT_ALLOWED.iter().any(|words| line.contains(words)))
    {
        return forbidden(Barrier::ReadOnly, doing.to_owned(), all());
    }
    remote::failure(Peer::Destination, doing, output)
}

fn broken_off(doing: &str, output: &CommandOutput) -> WorkerError {
    WorkerError::Remote {
        peer: Peer::Destination,
        doing: doing.to_owned(),
        words: words("", &String::from_utf8_lossy(&output.stderr), output.code),
    }
}

/// The error of a ref that has a head which is not ours.
pub(crate) fn taken(doing: &str, reference: &str, head: &str) -> WorkerError {
    let words = format!(
        "{reference} has the commit {head} there, which this worker did not push; delete the ref there, or configure \
         another `ref`"
    );
    forbidden(Barrier::Taken, doing.to_owned(), words)
}

/// The error of a ref that has another head at each attempt.
pub(crate) fn moving(doing: &str, reference: &str) -> WorkerError {
    WorkerError::Remote {
        peer: Peer::Destination,
        doing: doing.to_owned(),
        words: format!("{reference} changed there meanwhile"),
    }
}

fn forbidden(barrier: Barrier, doing: String, words: String) -> WorkerError {
    WorkerError::Forbidden {
        peer: Peer::Destination,
        barrier,
        doing,
        words,
    }
}

/// The lines of the server and its hooks.
fn of_server(stderr: &str) -> impl Iterator<Item = &str> {
    stderr
        .lines()
        .filter_map(|line| line.strip_prefix(REMOTE))
        .map(str::trim)
}

/// The words of the server and its hooks, in one line; without any, the reason.
fn words_of_server(reason: &str, stderr: &str) -> String {
    let lines: Vec<&str> = of_server(stderr).collect();
    let words = text::one_line(lines.join("\n").as_bytes());
    if words.is_empty() {
        text::one_line(reason.as_bytes())
    } else {
        words
    }
}

/// The standard error without routine lines, and the reason, in one line.
fn words(reason: &str, stderr: &str, code: i32) -> String {
    let lines = stderr
        .lines()
        .filter(|line| !ROUTINE.iter().any(|routine| line.starts_with(routine)))
        .filter(|line| {
            !matches!(
                line.trim(),
                "remote:" | "fatal: the remote end hung up unexpectedly"
            )
        });
    let lines: Vec<&str> = lines.chain([reason]).collect();
    let words = text::one_line(lines.join("\n").as_bytes());
    if words.is_empty() {
        format!("no message, exit code {code}")
    } else {
        words
    }
}

#[cfg(test)]
mod tests;
