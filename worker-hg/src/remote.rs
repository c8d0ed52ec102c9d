//! What it means when a push, a pull or a clone fails.
//!
//! Who said something decides what it can mean. The words of ssh, of Mercurial there and of a hook there all come as
//! `remote: …`, on either stream; a hook repeats what an author wrote, and may be what wrote a line that looks like
//! Mercurial's. So words that end a build at once count only where no hook has spoken: on our own `hg`'s last line, on
//! a connection that came to nothing, and before the other side has taken a changeset.

use worker::{
    Barrier, Peer, WorkerError,
    process::CommandOutput,
    text::{self, is_hash},
};

use crate::messages::is_full_disk;

/// What our `hg` says when the other side did not greet. Until then no hook runs there.
const NO_GREETING: &str = "no suitable response from remote hg";

/// What the other side says before it runs a hook that has seen the changesets.
const TAKING: &str = "remote: adding changesets";

/// What ssh, or the host behind it, says when only an operator can help. In lower case.
const NO_ENTRY: [&str; 8] = [
    "host key verification failed",
    "remote host identification has changed",
    "permission denied",
    "too many authentication failures",
    "unable to negotiate with",
    "there is no mercurial repository here",
    "command not found",
    "hg: not found",
];

/// What our own `hg` says when only an operator can help. In lower case.
const NO_ACCESS: [&str; 8] = [
    "authorization failed",
    "authorization required",
    "http error 401",
    "http error 403",
    "http error 404",
    "certificate",
    "[ssl: wrong_version_number]",
    "password in url not supported",
];

/// How a hook that refuses is named, behind its name.
const REFUSALS: [&str; 5] = [
    "failed",
    "exited with status ",
    "killed by signal ",
    "raised an exception",
    "is invalid",
];

/// What Mercurial says on its way, however it ends.
const ROUTINE: [&str; 10] = [
    "pushing to ",
    "pulling from ",
    "searching for changes",
    "requesting all changes",
    "streaming all changes",
    "adding changesets",
    "adding manifests",
    "adding file changes",
    "transaction abort!",
    "rollback completed",
];

/// Judges a push: `Ok` when the head is there, by this push or an earlier one.
pub(crate) fn push(doing: &str, output: &CommandOutput) -> Result<(), WorkerError> {
    let there = output.code == 1
        && lines(&output.stdout)
            .iter()
            .any(|line| line == "no changes found");
    if output.code == 0 || there {
        Ok(())
    } else {
        Err(remote_failure(Peer::Destination, doing, output))
    }
}

/// Judges `hg identify`: the changeset that a name stands for in another repository. `None` when nothing is called so
/// there.
pub(crate) fn identified(
    doing: &str,
    output: &CommandOutput,
) -> Result<Option<String>, WorkerError> {
    let node = output.text();
    if output.code == 0 && is_hash(&node) {
        return Ok(Some(node));
    }
    // Mercurial's own last line, whoever knows no such revision.
    let unknown = |line: &String| line.starts_with("abort: unknown revision ");
    if lines(&output.stderr).iter().any(unknown) {
        Ok(None)
    } else {
        Err(remote_failure(Peer::Source, doing, output))
    }
}

/// Judges a command that failed and that talked to another repository.
pub(crate) fn remote_failure(peer: Peer, doing: &str, output: &CommandOutput) -> WorkerError {
    let (stdout, stderr) = (lines(&output.stdout), lines(&output.stderr));
    // What comes before our own last line may be a hook's, when Try is a path.
    let own = stderr.iter().rev().find(|line| line.starts_with("abort: "));
    let end = own
        .and_then(|line| line.strip_prefix("abort: "))
        .unwrap_or_default()
        .to_lowercase();
    let all = || stdout.iter().chain(&stderr);
    let remote = || all().filter_map(|line| line.strip_prefix("remote: "));

    let greeted = !end.starts_with(NO_GREETING);
    let turned_away = if greeted {
        is_missing(&end)
            || NO_ACCESS.iter().any(|words| end.contains(words))
            || may_not_write(all())
    } else {
        remote().any(|line| is_turned_away(&line.to_lowercase()))
    };
    let (doing, words) = (doing.to_owned(), words(output.code, all()));
    // A hook may repeat what an author wrote, so only our own last line counts.
    if own.is_some_and(|line| is_full_disk(line)) {
        WorkerError::DiskFull { doing, words }
    } else if greeted && all().any(|line| is_refusal(line)) {
        WorkerError::Refused { doing, words }
    } else if !greeted && let Some(host) = remote().find_map(unknown_host) {
        WorkerError::UnknownHost {
            peer,
            doing,
            host,
            words,
        }
    } else if !greeted && let Some(host) = remote().find_map(other_host_key) {
        WorkerError::OtherHostKey {
            peer,
            doing,
            host,
            words,
        }
    } else if turned_away {
        WorkerError::Forbidden {
            peer,
            barrier: barrier(&words.to_lowercase()),
            doing,
            words,
        }
    } else {
        WorkerError::Remote { peer, doing, words }
    }
}

/// Why the other side does not let us in. `words` are in lower case.
fn barrier(words: &str) -> Barrier {
    let says = |patterns: &[&str]| patterns.iter().any(|pattern| words.contains(pattern));
    if says(&["host key verification failed", "remote host identification"]) {
        Barrier::HostKey
    } else if says(&["certificate"]) {
        Barrier::Certificate
    } else if says(&[
        "not found",
        "does not exist",
        "no mercurial repository",
        "http error 404",
    ]) {
        Barrier::NoRepository
    } else if says(&["readonly", "read-only"]) {
        Barrier::ReadOnly
    } else if says(&["command not found"]) {
        Barrier::NoProgram
    } else {
        Barrier::Credentials
    }
}

/// Whether a hook refused: `<name> hook failed`, and the like. A hook that failed when all was done is warned about.
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

/// The host of which ssh says that it knows no key.
fn unknown_host(line: &str) -> Option<String> {
    let (kind, rest) = line
        .strip_prefix("No ")?
        .split_once(" host key is known for ")?;
    let host = rest.split(' ').next().filter(|_| !kind.contains(' '))?;
    Some(text::path(host.as_bytes()))
}

/// The host of which ssh says that it has another key.
fn other_host_key(line: &str) -> Option<String> {
    let (host, _) = line
        .strip_prefix("Host key for ")?
        .split_once(" has changed ")?;
    Some(text::path(host.as_bytes()))
}

fn is_turned_away(line: &str) -> bool {
    NO_ENTRY.iter().any(|words| line.contains(words))
        || line.strip_prefix("abort: ").is_some_and(is_missing)
}

/// `repository <name> not found`, as Mercurial says for all but a path, and the words that it has for that.
fn is_missing(words: &str) -> bool {
    words.strip_prefix("repository ").is_some_and(|rest| {
        let rest = rest.trim_end_matches('!');
        rest.ends_with(" not found") || rest.ends_with(" does not exist")
    })
}

/// Whether the user may read the repository there, but not write it.
fn may_not_write<'a>(mut lines: impl Iterator<Item = &'a String> + Clone) -> bool {
    let may_not = |line: &String| {
        let what = line.strip_prefix("remote: abort: could not lock ");
        what.is_some_and(|rest| rest.ends_with(": Permission denied"))
    };
    lines.clone().all(|line| line != TAKING) && lines.any(may_not)
}

/// What the other side, ssh and Mercurial say, the other side first, without what is said each time.
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
        format!("nothing was said, code {code}")
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
mod tests {
    use WorkerError::{DiskFull, Forbidden, OtherHostKey, Refused, Remote, UnknownHost};

    use super::*;

    /// Judges what was recorded: the lines of the standard output, and those of the standard error behind `!`.
    fn judge(code: i32, recorded: &str) -> Result<(), WorkerError> {
        let mut output = CommandOutput {
            code,
            ..CommandOutput::default()
        };
        for line in recorded
            .lines()
            .map(str::trim_start)
            .filter(|line| !line.is_empty())
        {
            let (stream, line) = match line.strip_prefix("! ") {
                Some(line) => (&mut output.stderr, line),
                None => (&mut output.stdout, line),
            };
            stream.extend_from_slice(line.as_bytes());
            stream.push(b'\n');
        }
        push("push to try", &output)
    }

    fn class(recorded: &str) -> String {
        match judge(255, recorded) {
            Err(Refused { .. }) => "refused",
            Err(Forbidden { .. }) => "forbidden",
            Err(DiskFull { .. }) => "full disk",
            Err(UnknownHost { .. }) => "unknown host",
            Err(OtherHostKey { .. }) => "other host key",
            Err(Remote { .. }) => "remote",
            other => panic!("{other:?}"),
        }
        .to_owned()
    }

    #[test]
    fn a_head_that_is_there_is_a_success_and_nothing_else_is() {
        let table = [
            (
                0,
                "pushing to ssh://x/try\n searching for changes\n remote: added 2 changesets",
                true,
            ),
            (
                1,
                "pushing to ssh://x/try\n searching for changes\n no changes found",
                true,
            ),
            (1, "pushing to x", false),
            (
                1,
                "searching for changes\n no changes found (ignored 1 secret changesets)",
                false,
            ),
            (1, "searching for changes\n remote: no changes found", false),
            (255, "no changes found\n ! abort: something else", false),
            (255, "", false),
            (-1, "", false),
        ];
        for (code, recorded, there) in table {
            assert_eq!(judge(code, recorded).is_ok(), there, "{code} {recorded}");
        }
    }

    /// As recorded from Mercurial 6.3.2; 7.2.4 says the same, letter for letter.
    #[test]
    fn recorded_texts_are_distinguished() {
        let no_greeting = "! abort: no suitable response from remote hg";
        let before_it = [
            ("forbidden", "! remote: hg@x: Permission denied (publickey)."),
            ("forbidden", "! remote: Host key verification failed."),
            (
                "unknown host",
                "! remote: No ED25519 host key is known for [x]:2222 and you have requested strict checking.
                 ! remote: Host key verification failed.",
            ),
            (
                "other host key",
                "! remote: @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
                 ! remote: Host key for [x]:2222 has changed and you have requested strict checking.
                 ! remote: Host key verification failed.",
            ),
            ("forbidden", "! remote: @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @"),
            ("forbidden", "! remote: Received disconnect from x port 22:2: Too many authentication failures"),
            ("forbidden", "! remote: Unable to negotiate with x port 22: no matching host key type found."),
            ("forbidden", "! remote: abort: repository /try not found"),
            ("forbidden", "! remote: abort: repository try not found!"),
            ("forbidden", "! remote: abort: there is no Mercurial repository here (.hg not found)"),
            ("forbidden", "! remote: bash: line 1: hg: command not found"),
            ("remote", "! remote: ssh: connect to host x port 22: Connection refused"),
            ("remote", "! remote: ssh: connect to host x port 22: Connection timed out"),
            ("remote", "! remote: ssh: Could not resolve hostname x: Name or service not known"),
            ("remote", "! remote: kex_exchange_identification: Connection closed by remote host"),
            ("remote", "! remote: client_loop: send disconnect: Broken pipe"),
            ("remote", ""),
        ];
        for (expected, recorded) in before_it {
            assert_eq!(
                class(&format!(
                    "pushing to ssh://x/try\n {recorded}\n {no_greeting}"
                )),
                expected,
                "{recorded}"
            );
        }
        let table = [
            ("remote", "! abort: error: Connection refused"),
            ("remote", "! abort: error: Connection reset by peer"),
            ("remote", "! abort: error: Name or service not known"),
            ("remote", "! abort: HTTP Error 500: Internal Server Error"),
            ("remote", "! abort: HTTP Error 503: Service Unavailable"),
            ("remote", "! abort: stream ended unexpectedly (got 0 bytes, expected 4)"),
            ("remote", "! abort: repository /try: timed out waiting for lock held by 'vm/effffffc:18216'"),
            (
                "remote",
                "remote: abort: repository /try: timed out waiting for lock held by 'vm/effffffc:18216'
                 ! abort: stream ended unexpectedly (got 0 bytes, expected 4)",
            ),
            (
                "remote",
                "remote: abort: abandoned transaction found
                 remote: (run 'hg recover' to clean up transaction)
                 ! abort: stream ended unexpectedly (got 0 bytes, expected 4)",
            ),
            ("remote", "! ** Unknown exception encountered with possibly-broken third-party extension"),
            ("forbidden", "! abort: authorization failed"),
            ("forbidden", "! abort: HTTP Error 403: ssl required"),
            ("forbidden", "! abort: HTTP Error 404: Not Found"),
            ("forbidden", "! abort: repository /try does not exist"),
            ("forbidden", "! abort: password in URL not supported"),
            ("forbidden", "! abort: error: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)"),
            (
                "forbidden",
                "! abort: error: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate",
            ),
            (
                "forbidden",
                "remote: abort: could not lock working directory of /try: Permission denied
                 ! abort: stream ended unexpectedly (got 0 bytes, expected 4)",
            ),
            (
                "refused",
                "remote: adding changesets
                 remote: CLOSED TREE
                 ! remote: pretxnchangegroup.tree hook exited with status 1
                 ! abort: push failed on remote",
            ),
            (
                "refused",
                "remote: error: pretxnchangegroup.tree hook failed: CLOSED TREE
                 ! remote: CLOSED TREE
                 ! abort: push failed on remote",
            ),
            ("refused", "! remote: pretxnchangegroup.x hook killed by signal 9\n ! abort: push failed on remote"),
            (
                "refused",
                "! remote: pretxnchangegroup.x hook is invalid: \"os.x\" is not defined
                 ! abort: push failed on remote",
            ),
            ("refused", "CLOSED TREE\n ! abort: pretxnchangegroup.tree hook exited with status 1"),
        ];
        for (expected, recorded) in table {
            assert_eq!(class(recorded), expected, "{recorded}");
        }
    }

    #[test]
    fn a_hook_that_repeats_an_authors_words_cannot_end_the_build() {
        let lost = "! abort: stream ended unexpectedly (got 0 bytes, expected 4)";
        for words in [
            "Permission denied (publickey).",
            "abort: could not lock repository /try: Permission denied",
            "abort: repository /try not found",
            "abort: authorization failed",
            "abort: no suitable response from remote hg",
            "no changes found",
            "abort: No space left on device",
        ] {
            for stream in ["", "! "] {
                let over_ssh =
                    format!("remote: adding changesets\n {stream}remote: {words}\n {lost}");
                assert_eq!(class(&over_ssh), "remote", "{over_ssh}");
                let refused = format!(
                    "remote: adding changesets\n {stream}remote: {words}\n
                     ! remote: pretxnchangegroup.x hook failed\n ! abort: push failed on remote"
                );
                assert_eq!(class(&refused), "refused", "{refused}");
                let path = format!(
                    "adding changesets\n {stream}{words}\n ! abort: No space left on device"
                );
                assert_eq!(class(&path), "full disk", "{path}");
                let path = format!("adding changesets\n {stream}{words}\n ! abort: something else");
                assert_eq!(class(&path), "remote", "{path}");
            }
        }
    }

    #[test]
    fn a_hook_that_fails_when_all_is_done_has_not_refused() {
        let warned = "remote: added 1 changesets with 1 changes to 1 files
                      remote: warning: changegroup.notify hook exited with status 3
                      ! abort: stream ended unexpectedly (got 0 bytes, expected 4)";
        assert_eq!(class(warned), "remote");
    }

    #[test]
    fn what_is_shown_is_what_was_said_about_this_push() {
        let refused = "pushing to ssh://x/try
                       searching for changes
                       remote: adding changesets
                       remote: CLOSED TREE
                       remote: transaction abort!
                       remote: rollback completed
                       ! remote: pretxnchangegroup.tree hook exited with status 1
                       ! abort: push failed on remote";
        assert_eq!(
            judge(255, refused).expect_err("refused").to_string(),
            "push to try was refused by a hook there: remote: CLOSED TREE; \
             remote: pretxnchangegroup.tree hook exited with status 1; abort: push failed on remote"
        );
        let silent = judge(255, "pushing to ssh://x/try\n searching for changes")
            .expect_err("failed")
            .to_string();
        assert_eq!(silent, "cannot push to try: nothing was said, code 255");
    }
}
