//! The meaning of a failed push, pull or clone.
//!
//! The meaning of a line depends on the program that wrote it. Lines of ssh, of the remote Mercurial and of its hooks
//! all arrive as `remote: …`, on either stream. A hook repeats the text of authors, and may write lines that look like
//! Mercurial's. So output that ends a build at once counts only where no hook can have written it: in the last line of
//! our own `hg`, on a connection without a response, and before the other side adds changesets.

use worker::{
    Barrier, Peer, WorkerError,
    process::CommandOutput,
    text::{self, is_hash},
};

use crate::messages::is_full_disk;

/// The abort of our `hg` when the other side did not respond. Before its response no hook runs there.
const NO_RESPONSE: &str = "abort: no suitable response from remote hg";

/// The line that our `hg` prints when the other side has let it read.
const SEARCHING: &str = "searching for changes";

/// The line that the other side prints before it runs a hook that can read the changesets.
const ADDING_CHANGESETS: &str = "remote: adding changesets";

/// Output of ssh, or of the host behind it, for failures that only an operator can mend, with the reasons. In lower
/// case. The first that matches counts: the scripts that a shell runs at its start may print any of the later ones.
const SSH_DENIALS: [(&str, Barrier); 9] = [
    // As bash, zsh, and the other shells print it.
    ("hg: command not found", Barrier::NoProgram),
    ("command not found: hg", Barrier::NoProgram),
    ("hg: not found", Barrier::NoProgram),
    (
        "there is no mercurial repository here",
        Barrier::NoRepository,
    ),
    ("host key verification failed", Barrier::HostKey),
    ("remote host identification has changed", Barrier::HostKey),
    ("too many authentication failures", Barrier::Credentials),
    ("unable to negotiate with", Barrier::Credentials),
    ("permission denied", Barrier::Credentials),
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

/// Judges a push: `Ok` if Try has the head, by this push or an earlier one.
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
        barrier(remote(), &SSH_DENIALS)
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
    } else if !responded && let Some(host) = remote().find_map(unknown_host) {
        WorkerError::UnknownHost {
            peer,
            doing,
            host,
            words,
        }
    } else if !responded && let Some(host) = remote().find_map(other_host_key) {
        WorkerError::OtherHostKey {
            peer,
            doing,
            host,
            words,
        }
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
    if lines.iter().any(|line| is_missing(line)) {
        return Some(Barrier::NoRepository);
    }
    denials
        .iter()
        .find(|(words, _)| lines.iter().any(|line| line.contains(words)))
        .map(|(_, barrier)| *barrier)
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

/// The host for which ssh reports that no key is known.
fn unknown_host(line: &str) -> Option<String> {
    let (kind, rest) = line
        .strip_prefix("No ")?
        .split_once(" host key is known for ")?;
    let host = rest.split(' ').next().filter(|_| !kind.contains(' '))?;
    Some(text::path(host.as_bytes()))
}

/// The host for which ssh reports another key than the known one.
fn other_host_key(line: &str) -> Option<String> {
    let (host, _) = line
        .strip_prefix("Host key for ")?
        .split_once(" has changed ")?;
    Some(text::path(host.as_bytes()))
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
mod tests {
    use WorkerError::{DiskFull, Forbidden, OtherHostKey, Refused, Remote, UnknownHost};

    use super::*;

    /// Judges recorded output: lines of the standard output, and lines of the standard error after `!`.
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
            Err(Forbidden { barrier, .. }) => return format!("forbidden: {barrier:?}"),
            Err(DiskFull { .. }) => "full disk",
            Err(UnknownHost { .. }) => "unknown host",
            Err(OtherHostKey { .. }) => "other host key",
            Err(Remote { .. }) => "remote",
            other => panic!("{other:?}"),
        }
        .to_owned()
    }

    #[test]
    fn only_a_head_on_try_is_a_success() {
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

    /// Recorded from Mercurial 6.3.2; 7.2.4 prints the same, letter for letter.
    #[test]
    fn recorded_texts_are_distinguished() {
        let no_greeting = "! abort: no suitable response from remote hg";
        let before_it = [
            ("forbidden: Credentials", "! remote: hg@x: Permission denied (publickey)."),
            ("forbidden: HostKey", "! remote: Host key verification failed."),
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
            (
                "forbidden: HostKey",
                "! remote: @    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
            ),
            (
                "forbidden: Credentials",
                "! remote: Received disconnect from x port 22:2: Too many authentication failures",
            ),
            (
                "forbidden: Credentials",
                "! remote: Unable to negotiate with x port 22: no matching host key type found.",
            ),
            ("forbidden: NoRepository", "! remote: abort: repository /try not found"),
            ("forbidden: NoRepository", "! remote: abort: repository try not found!"),
            (
                "forbidden: NoRepository",
                "! remote: abort: there is no Mercurial repository here (.hg not found)",
            ),
            // Whatever the name of the repository is.
            ("forbidden: NoRepository", "! remote: abort: repository hg: command not found not found"),
            ("forbidden: NoProgram", "! remote: bash: hg: command not found"),
            ("forbidden: NoProgram", "! remote: bash: line 1: hg: command not found"),
            ("forbidden: NoProgram", "! remote: zsh:1: command not found: hg"),
            ("forbidden: NoProgram", "! remote: sh: 1: hg: not found"),
            ("forbidden: NoProgram", "! remote: -sh: hg: not found"),
            (
                "forbidden: NoProgram",
                "! remote: bash: /home/try/.profile: Permission denied
                 ! remote: bash: line 1: hg: command not found",
            ),
            // A script that the shell runs at its start.
            (
                "forbidden: NoRepository",
                "! remote: /etc/profile: line 4: id: command not found
                 ! remote: abort: repository /try not found",
            ),
            ("remote", "! remote: /etc/profile: line 4: id: command not found"),
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
            ("forbidden: Credentials", "! abort: authorization failed"),
            ("forbidden: Credentials", "! abort: HTTP Error 403: Forbidden"),
            ("forbidden: NoRepository", "! abort: HTTP Error 404: Not Found"),
            ("forbidden: NoRepository", "! abort: repository /try does not exist"),
            ("forbidden: Credentials", "! abort: password in URL not supported"),
            (
                "forbidden: Credentials",
                "! abort: error: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)",
            ),
            (
                "forbidden: Certificate",
                "! abort: error: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate",
            ),
            // With `deny_push` and without `allow_push`. With `deny_read` it prints the same without the search.
            ("forbidden: ReadOnly", "searching for changes\n ! abort: authorization failed"),
            ("forbidden: ReadOnly", "searching for changes\n ! abort: HTTP Error 403: ssl required"),
            (
                "forbidden: ReadOnly",
                "searching for changes
                 ! abort: could not lock working directory of /try: Permission denied",
            ),
            (
                "forbidden: ReadOnly",
                "searching for changes
                 remote: abort: could not lock working directory of /try: Permission denied
                 ! abort: stream ended unexpectedly (got 0 bytes, expected 4)",
            ),
            (
                "forbidden: ReadOnly",
                "searching for changes
                 remote: abort: could not lock repository /try: Permission denied
                 ! remote: /etc/profile: line 4: id: command not found
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
    fn denied_pull_is_not_taken_for_a_denied_push() {
        let output = CommandOutput {
            code: 255,
            stdout: b"pulling from x\nsearching for changes\n".to_vec(),
            stderr: b"abort: authorization failed\n".to_vec(),
        };
        let error = remote_failure(Peer::Source, "pull central", &output);
        assert!(
            matches!(
                error,
                Forbidden {
                    barrier: Barrier::Credentials,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[test]
    fn hook_that_repeats_an_authors_words_cannot_end_the_build() {
        let lost = "! abort: stream ended unexpectedly (got 0 bytes, expected 4)";
        for words in [
            "Permission denied (publickey).",
            "bash: line 1: hg: command not found",
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
    fn hook_that_fails_after_the_push_has_not_refused() {
        let warned = "remote: added 1 changesets with 1 changes to 1 files
                      remote: warning: changegroup.notify hook exited with status 3
                      ! abort: stream ended unexpectedly (got 0 bytes, expected 4)";
        assert_eq!(class(warned), "remote");
    }

    #[test]
    fn errors_leave_out_routine_output() {
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
        assert_eq!(silent, "cannot push to try: no output, exit code 255");
    }
}
