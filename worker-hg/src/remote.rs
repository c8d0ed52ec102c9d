//! The meaning of a failed push, pull or clone.
//!
//! The meaning of a line depends on the program that wrote it. Lines of ssh, of the remote Mercurial and of its hooks
//! all arrive as `remote: …`, on either stream. A hook repeats the text of authors, and may write lines that look like
//! Mercurial's. So output that ends a build at once counts only where no hook can have written it: in the last line of
//! our own `hg`, on a connection without a response, and before the other side adds changesets.

use worker::{
    Barrier, Peer, WorkerError,
    destination::PushOutcome,
    process::CommandOutput,
    ssh::denials,
    text::{self, is_hash},
};

use crate::messages::is_full_disk;

/// The abort of our `hg` when the other side did not respond. Before its response no hook runs there.
const NO_RESPONSE: &str = "abort: no suitable response from remote hg";

/// The line that our `hg` prints when the other side has let it read.
const SEARCHING: &str = "searching for changes";

/// The line that the other side prints before it runs a hook that can read the changesets.
const ADDING_CHANGESETS: &str = "remote: adding changesets";

/// Output of the host behind ssh for failures that only an operator can mend, with the reasons. In lower case. These
/// count before the output of ssh: the scripts that a shell runs at its start may print that.
const HOST_DENIALS: [(&str, Barrier); 4] = [
    // As bash, zsh, and the other shells print it.
    ("hg: command not found", Barrier::NoProgram),
    ("command not found: hg", Barrier::NoProgram),
    ("hg: not found", Barrier::NoProgram),
    (
        "there is no mercurial repository here",
        Barrier::NoRepository,
    ),
];

/// The same of our own `hg`.
const HG_DENIALS: [(&str, Barrier); 8] = [
    ("certificate", Barrier::Certificate),
    ("http error 404", Barrier::NoRepository),
    ("authorization failed", Barrier::Credentials),
    ("authorization required", Barrier::Credentials),
    ("http error 401", Barrier::Credentials),
    ("http error 403", Barrier::Credentials),
    ("[ssl: wrong_version_number]", Barrier::Credentials),
    ("password in url not supported", Barrier::Credentials),
];

/// The texts after `<name> hook ` by which Mercurial reports that a hook refused.
const REFUSALS: [&str; 5] = [
    "failed",
    "exited with status ",
    "killed by signal ",
    "raised an exception",
    "is invalid",
];

/// The beginnings of lines that Mercurial prints whatever the result.
const ROUTINE: [&str; 10] = [
    "pushing to ",
    "pulling from ",
    SEARCHING,
    "requesting all changes",
    "streaming all changes",
    "adding changesets",
    "adding manifests",
    "adding file changes",
    "transaction abort!",
    "rollback completed",
];

/// Judges a push.
pub(crate) fn push(doing: &str, output: &CommandOutput) -> Result<PushOutcome, WorkerError> {
    let is_there = || {
        lines(&output.stdout)
            .iter()
            .any(|line| line == "no changes found")
    };
    match output.code {
        0 => Ok(PushOutcome::Accepted),
        1 if is_there() => Ok(PushOutcome::UpToDate),
        _ => Err(remote_failure(Peer::Destination, doing, output)),
    }
}

/// Judges `hg identify`: the changeset that a name stands for in another repository. `None` if that repository does not
/// know the name.
pub(crate) fn identified(
    doing: &str,
    output: &CommandOutput,
) -> Result<Option<String>, WorkerError> {
    let node = output.text();
    if output.code == 0 && is_hash(&node) {
        return Ok(Some(node));
    }
    // Our own Mercurial prints this, whichever side does not know the revision.
    let unknown = |line: &String| line.starts_with("abort: unknown revision ");
    if lines(&output.stderr).iter().any(unknown) {
        Ok(None)
    } else {
        Err(remote_failure(Peer::Source, doing, output))
    }
}

/// The error of a failed command that used another repository.
pub(crate) fn remote_failure(peer: Peer, doing: &str, output: &CommandOutput) -> WorkerError {
    let (stdout, stderr) = (lines(&output.stdout), lines(&output.stderr));
    // If Try is a path, a hook may have written the lines before our own last one.
    let own = stderr
        .iter()
        .rev()
        .map(String::as_str)
        .find(|line| line.starts_with("abort: "));
    let all = || stdout.iter().chain(&stderr);
    let remote = || all().filter_map(|line| line.strip_prefix("remote: "));

    let responded = !own.is_some_and(|line| line.starts_with(NO_RESPONSE));
    let denied = if responded {
        barrier(own, &HG_DENIALS)
    } else {
        barrier(remote(), &HOST_DENIALS).or_else(|| denials::barrier(remote()))
    };
    let is_push = peer == Peer::Destination;
    let may_read = stdout.iter().any(|line| line == SEARCHING);
    let is_before_hooks = all().all(|line| line != ADDING_CHANGESETS);
    let may_not_write =
        own.is_some_and(may_not_lock) || (is_before_hooks && remote().any(may_not_lock));
    let denied = match denied {
        Some(Barrier::Credentials) if is_push && may_read => Some(Barrier::ReadOnly),
        None if is_push && may_not_write => Some(Barrier::ReadOnly),
        denied => denied,
    };
    let (doing, words) = (doing.to_owned(), words(output.code, all()));
    // A hook may repeat the text of an author, so only our own last line counts.
    if own.is_some_and(is_full_disk) {
        WorkerError::DiskFull { doing, words }
    } else if responded && all().any(|line| is_refusal(line)) {
        WorkerError::Refused { doing, words }
    } else if !responded && let Some(error) = denials::host_key(remote(), peer, &doing, &words) {
        error
    } else if let Some(barrier) = denied {
        WorkerError::Forbidden {
            peer,
            barrier,
            doing,
            words,
        }
    } else {
        WorkerError::Remote { peer, doing, words }
    }
}

/// The reason for which access is denied, by `denials`; `None` if none of the lines reports that.
fn barrier<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    denials: &[(&str, Barrier)],
) -> Option<Barrier> {
    let lines: Vec<String> = lines.into_iter().map(str::to_lowercase).collect();
    let lines = || lines.iter().map(String::as_str);
    if lines().any(is_missing) {
        return Some(Barrier::NoRepository);
    }
    denials::first(lines(), denials)
}

/// Whether this line reports that a hook refused, such as `<name> hook failed`. For a hook that fails after the push,
/// Mercurial prints a warning instead.
fn is_refusal(line: &str) -> bool {
    let line = line.strip_prefix("remote: ").unwrap_or(line);
    let line = line
        .strip_prefix("error: ")
        .or_else(|| line.strip_prefix("abort: "))
        .unwrap_or(line);
    line.split_once(" hook ").is_some_and(|(name, rest)| {
        !name.contains(' ') && REFUSALS.iter().any(|refusal| rest.starts_with(refusal))
    })
}

/// Whether Mercurial reports a missing repository: `repository <name> not found`, or `… does not exist` for a path. The
/// line is in lower case.
fn is_missing(line: &str) -> bool {
    line.strip_prefix("abort: repository ").is_some_and(|rest| {
        let rest = rest.trim_end_matches('!');
        rest.ends_with(" not found") || rest.ends_with(" does not exist")
    })
}

/// Whether Mercurial reports that our user may not write to a repository. It locks one that it may read.
fn may_not_lock(line: &str) -> bool {
    line.starts_with("abort: could not lock ") && line.ends_with(": Permission denied")
}

/// The output without routine lines: first that of ssh and the other side, then that of our own Mercurial.
fn words<'a>(code: i32, lines: impl Iterator<Item = &'a String>) -> String {
    let (mut there, mut here) = (Vec::new(), Vec::new());
    for line in lines {
        let said = line.strip_prefix("remote: ").unwrap_or(line);
        let is_frame = said.bytes().all(|byte| byte == b'@');
        if !is_frame && !ROUTINE.iter().any(|routine| said.starts_with(routine)) {
            if line.starts_with("remote: ") {
                &mut there
            } else {
                &mut here
            }
            .push(line.as_str());
        }
    }
    there.append(&mut here);
    let words = text::one_line(there.join("\n").as_bytes());
    if words.is_empty() {
        format!("no output, exit code {code}")
    } else {
        words
    }
}

fn lines(stream: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(stream)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests;
