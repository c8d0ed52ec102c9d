use WorkerError::{DiskFull, Forbidden, OtherHostKey, Refused, Remote, UnknownHost};

use super::*;

/// Judges recorded output: lines of the standard output, and lines of the standard error after `!`.
fn judge(code: i32, recorded: &str) -> Result<PushOutcome, WorkerError> {
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
            Some(PushOutcome::Accepted),
        ),
        (
            1,
            "pushing to ssh://x/try\n searching for changes\n no changes found",
            Some(PushOutcome::UpToDate),
        ),
        (1, "pushing to x", None),
        (
            1,
            "searching for changes\n no changes found (ignored 1 secret changesets)",
            None,
        ),
        (1, "searching for changes\n remote: no changes found", None),
        (255, "no changes found\n ! abort: something else", None),
        (255, "", None),
        (-1, "", None),
    ];
    for (code, recorded, outcome) in table {
        assert_eq!(judge(code, recorded).ok(), outcome, "{code} {recorded}");
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
        (
            "remote",
            "! abort: stream ended unexpectedly (got 0 bytes, expected 4)",
        ),
        (
            "remote",
            "! abort: repository /try: timed out waiting for lock held by 'vm/effffffc:18216'",
        ),
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
        (
            "remote",
            "! ** Unknown exception encountered with possibly-broken third-party extension",
        ),
        ("forbidden: Credentials", "! abort: authorization failed"),
        (
            "forbidden: Credentials",
            "! abort: HTTP Error 403: Forbidden",
        ),
        (
            "forbidden: NoRepository",
            "! abort: HTTP Error 404: Not Found",
        ),
        (
            "forbidden: NoRepository",
            "! abort: repository /try does not exist",
        ),
        (
            "forbidden: Credentials",
            "! abort: password in URL not supported",
        ),
        (
            "forbidden: Credentials",
            "! abort: error: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)",
        ),
        (
            "forbidden: Certificate",
            "! abort: error: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate",
        ),
        // With `deny_push` and without `allow_push`. With `deny_read` it prints the same without the search.
        (
            "forbidden: ReadOnly",
            "searching for changes\n ! abort: authorization failed",
        ),
        (
            "forbidden: ReadOnly",
            "searching for changes\n ! abort: HTTP Error 403: ssl required",
        ),
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
        (
            "refused",
            "! remote: pretxnchangegroup.x hook killed by signal 9\n ! abort: push failed on remote",
        ),
        (
            "refused",
            "! remote: pretxnchangegroup.x hook is invalid: \"os.x\" is not defined
             ! abort: push failed on remote",
        ),
        (
            "refused",
            "CLOSED TREE\n ! abort: pretxnchangegroup.tree hook exited with status 1",
        ),
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
            let over_ssh = format!("remote: adding changesets\n {stream}remote: {words}\n {lost}");
            assert_eq!(class(&over_ssh), "remote", "{over_ssh}");
            let refused = format!(
                "remote: adding changesets\n {stream}remote: {words}\n
                 ! remote: pretxnchangegroup.x hook failed\n ! abort: push failed on remote"
            );
            assert_eq!(class(&refused), "refused", "{refused}");
            let path =
                format!("adding changesets\n {stream}{words}\n ! abort: No space left on device");
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
