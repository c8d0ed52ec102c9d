use super::*;

const REF: &str = "refs/heads/phabricator/D7/1007";

/// Judges recorded output: lines of the standard output, and lines of the standard error after `! `.
fn judge(code: i32, recorded: &str, hook_rejects_patches: bool) -> PushEnd {
    let mut output = CommandOutput {
        code,
        ..CommandOutput::default()
    };
    for line in recorded
        .lines()
        // The flag of a line for a ref may be a space.
        .map(|line| {
            if line.contains('\t') {
                line
            } else {
                line.trim_start()
            }
        })
        .filter(|line| !line.is_empty())
    {
        let (stream, line) = match line.strip_prefix("! ") {
            Some(line) => (&mut output.stderr, line),
            None => (&mut output.stdout, line),
        };
        stream.extend_from_slice(line.as_bytes());
        stream.push(b'\n');
    }
    let pushed = Pushed {
        doing: "push to try",
        reference: REF,
        hook_rejects_patches,
    };
    push(pushed, &output)
}

/// A recorded push with Git's line for the ref.
fn with_line(line: &str, stderr: &str) -> String {
    let (flag, summary) = line.split_at(1);
    let head = "1".repeat(40);
    format!(
        "To /try\n{flag}\t{head}:{REF}\t{summary}\nDone\n{stderr}\n! error: failed to push some refs to '/try'"
    )
}

fn class(code: i32, recorded: &str, hook_rejects_patches: bool) -> String {
    let error = match judge(code, recorded, hook_rejects_patches) {
        PushEnd::Pushed(outcome) => return format!("{outcome:?}"),
        PushEnd::LeaseLost => return "lease lost".to_owned(),
        PushEnd::Failed(PushError::Rejected { words }) => return format!("author: {words}"),
        PushEnd::Failed(PushError::Failed(error)) => error,
    };
    match error {
        WorkerError::Refused { .. } => "refused".to_owned(),
        WorkerError::Forbidden { barrier, .. } => format!("{barrier:?}"),
        WorkerError::UnknownHost { host, .. } => format!("unknown host {host}"),
        WorkerError::OtherHostKey { host, .. } => format!("other host key {host}"),
        WorkerError::DiskFull { .. } => "full disk".to_owned(),
        WorkerError::Settings { .. } => "settings".to_owned(),
        WorkerError::Remote { .. } => "remote".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn recorded_lines_of_the_ref_are_distinguished() {
    let table = [
        (0, "*[new branch]", "", "Accepted"),
        (0, "+c160c3d...3a43000 (forced update)", "", "Accepted"),
        (0, " c160c3d..3a43000", "", "Accepted"),
        (0, "=[up to date]", "", "UpToDate"),
        (1, "![rejected] (stale info)", "", "lease lost"),
        (
            1,
            "![remote rejected] (pre-receive hook declined)",
            "! remote: CLOSED TREE        ",
            "refused",
        ),
        (1, "![remote rejected] (hook declined)", "", "refused"),
        (
            1,
            "![remote rejected] (protected branch hook declined)",
            "! remote: error: GH006: Protected branch update failed for refs/heads/x.        ",
            "Protected",
        ),
        (
            1,
            "![remote rejected] (push declined due to repository rule violations)",
            "! remote: error: GH013: Repository rule violations found for refs/heads/x.        ",
            "Protected",
        ),
        (
            1,
            "![remote rejected] (pre-receive hook declined)",
            "! remote: GitLab: You are not allowed to push code to protected branches on this project.        ",
            "Protected",
        ),
        (
            1,
            "![remote rejected] (pre-receive hook declined)",
            "! remote: error: GH001: Large files detected. You may want to try Git Large File Storage.        ",
            "Quota",
        ),
        (
            1,
            "![remote rejected] (deny updating a hidden ref)",
            "",
            "Protected",
        ),
        (
            1,
            "![remote rejected] (non-fast-forward)",
            "! remote: error: denying non-fast-forward refs/heads/x (you should pull first)        ",
            "Protected",
        ),
        (
            1,
            "![remote rejected] (hook declined)",
            "! remote: FATAL: W refs/heads/phabricator/D7/1007 try bot DENIED by refs/heads/main        
             ! remote: error: hook declined to update refs/heads/phabricator/D7/1007        ",
            "ReadOnly",
        ),
        (
            1,
            "![remote rejected] (hook declined)",
            "! remote: FATAL: W VREF/COUNT/5 try bot DENIED by VREF/COUNT/5        ",
            "refused",
        ),
        (
            1,
            "![remote rejected] (unpacker error)",
            "! remote: fatal: pack exceeds maximum allowed size        
             ! error: remote unpack failed: unpack-objects abnormal exit",
            "Quota",
        ),
        (
            1,
            "![remote rejected] (unpacker error)",
            "! remote: error: insufficient permission for adding an object to repository database ./objects        
             ! error: remote unpack failed: unpack-objects abnormal exit",
            "ReadOnly",
        ),
        (
            1,
            "![remote rejected] (unpacker error)",
            "! error: remote unpack failed: unable to create temporary object directory",
            "ReadOnly",
        ),
        (
            1,
            "![remote rejected] (unpacker error)",
            "! remote: fatal: write error: No space left on device        ",
            "remote",
        ),
        (
            1,
            "![remote rejected] (failed to update ref)",
            "! remote: error: cannot lock ref 'refs/heads/x': Unable to create 'x.lock': File exists.        ",
            "remote",
        ),
        (
            1,
            "![remote rejected] (failed to update ref)",
            "! remote: error: cannot lock ref 'refs/heads/phabricator/D7/1007': 'refs/heads/phabricator' exists; cannot \
             create 'refs/heads/phabricator/D7/1007'        ",
            "RefConflict",
        ),
        (
            1,
            "![remote rejected] (failed to update ref)",
            "! remote: error: 'refs/heads/phabricator' exists; cannot create 'refs/heads/phabricator/D7/1007'        ",
            "RefConflict",
        ),
        (1, "![remote rejected] (refname conflict)", "", "RefConflict"),
        (
            1,
            "![remote failure] (remote failed to report status)",
            "",
            "remote",
        ),
        // A push that was killed after the answer for the ref.
        (-1, "*[new branch]", "", "remote"),
    ];
    for (code, line, stderr, expected) in table {
        assert_eq!(
            class(code, &with_line(line, stderr), false),
            expected,
            "{line} {stderr}"
        );
    }
}

#[test]
fn recorded_pushes_without_a_line_of_the_ref_are_distinguished() {
    const NO_READ: &str = "! fatal: Could not read from remote repository.
        ! Please make sure you have the correct access rights
        ! and the repository exists.";
    let over_ssh = [
        ("! bot@x: Permission denied (publickey).", "Credentials"),
        ("! Host key verification failed.", "HostKey"),
        (
            "! No ED25519 host key is known for [x]:2222 and you have requested strict checking.
             ! Host key verification failed.",
            "unknown host [x]:2222",
        ),
        (
            "! Host key for [x]:2222 has changed and you have requested strict checking.
             ! Host key verification failed.",
            "other host key [x]:2222",
        ),
        (
            "! fatal: '/try' does not appear to be a git repository",
            "NoRepository",
        ),
        ("! sh: 1: git-receive-pack: not found", "NoProgram"),
        (
            "! FATAL: W any try bot DENIED by fallthru\n! (or you mis-spelled the reponame)",
            "ReadOnly",
        ),
        (
            "! ERROR: Permission to o/try.git denied to bot.",
            "ReadOnly",
        ),
        (
            "! remote: ERROR: You are not allowed to push code to this project.",
            "ReadOnly",
        ),
        (
            "! ssh: connect to host x port 22: Connection refused",
            "remote",
        ),
        (
            "! kex_exchange_identification: Connection closed by remote host",
            "remote",
        ),
    ];
    for (stderr, expected) in over_ssh {
        assert_eq!(
            class(128, &format!("{stderr}\n{NO_READ}"), false),
            expected,
            "{stderr}"
        );
    }
    let table = [
        (
            "! fatal: unable to access 'https://x/try/': The requested URL returned error: 403",
            "Credentials",
        ),
        (
            "! fatal: Authentication failed for 'https://x/try/'",
            "Credentials",
        ),
        (
            "! remote: Repository not found.\n! fatal: repository 'https://x/try/' not found",
            "NoRepository",
        ),
        (
            "! fatal: unable to access 'https://x/try/': Failed to connect to x port 443: Connection refused",
            "remote",
        ),
        (
            "! error: RPC failed; HTTP 403 curl 22 The requested URL returned error: 403
             ! send-pack: unexpected disconnect while reading sideband packet
             ! fatal: the remote end hung up unexpectedly
             Everything up-to-date",
            "Credentials",
        ),
        (
            "! error: RPC failed; HTTP 413 curl 22 The requested URL returned error: 413
             ! send-pack: unexpected disconnect while reading sideband packet
             ! fatal: the remote end hung up unexpectedly",
            "Quota",
        ),
        (
            "! fatal: remote error: service not enabled: /try",
            "ReadOnly",
        ),
        (
            "! fatal: remote error: access denied or repository not exported: /try",
            "NoRepository",
        ),
        (
            "! fatal: unable to connect to x:\n! x[0: 127.0.0.1]: errno=Connection refused",
            "remote",
        ),
        (
            "! fatal: the receiving end does not support push options
             ! fatal: the remote end hung up unexpectedly",
            "settings",
        ),
        ("! fatal: write error: No space left on device", "full disk"),
        ("! fatal: the remote end hung up unexpectedly", "remote"),
        ("", "remote"),
    ];
    for (stderr, expected) in table {
        assert_eq!(class(128, stderr, false), expected, "{stderr}");
    }
}

#[test]
fn hook_cannot_forge_the_end_of_a_push() {
    let lost = "! send-pack: unexpected disconnect while reading sideband packet
        ! fatal: the remote end hung up unexpectedly";
    for words in [
        "Permission denied (publickey).",
        "fatal: the receiving end does not support push options",
        "fatal: repository 'x' not found",
        "error: RPC failed; HTTP 403",
        "FATAL: W any try bot DENIED by fallthru",
        "fatal: write error: No space left on device",
        "Host key verification failed.",
    ] {
        let broken = format!("! remote: {words}\n{lost}");
        assert_eq!(class(128, &broken, true), "remote", "{words}");
    }
    let forged = format!("! remote: =\t1:{REF}\t[up to date]\n{lost}");
    assert_eq!(class(128, &forged, true), "remote");
    // A reference-transaction hook writes on the same standard error as Git's own part there.
    let unmarked =
        format!("! Permission denied (publickey).\n! fatal: ref updates aborted by hook\n{lost}");
    assert_eq!(class(128, &unmarked, true), "remote");
}

#[test]
fn words_of_a_hook_go_to_the_author_where_configured() {
    let declined = with_line(
        "![remote rejected] (pre-receive hook declined)",
        "! remote: Do not touch third_party/        \n! remote: Ask #build        ",
    );
    assert_eq!(
        class(1, &declined, true),
        "author: Do not touch third_party/; Ask #build"
    );
    let silent = with_line("![remote rejected] (hook declined)", "");
    assert_eq!(class(1, &silent, true), "author: hook declined");
    let protected = with_line(
        "![remote rejected] (pre-receive hook declined)",
        "! remote: GitLab: You are not allowed to push code to protected branches on this project.        ",
    );
    assert_eq!(class(1, &protected, true), "Protected");
}

#[test]
fn errors_leave_out_routine_output() {
    let declined = with_line(
        "![remote rejected] (pre-receive hook declined)",
        "! remote: CLOSED TREE        ",
    );
    let PushEnd::Failed(PushError::Failed(error)) = judge(1, &declined, false) else {
        panic!("it was declined");
    };
    assert_eq!(
        error.to_string(),
        "push to try was refused by a hook there: remote: CLOSED TREE; pre-receive hook declined"
    );
    let PushEnd::Failed(PushError::Failed(error)) = judge(128, "", false) else {
        panic!("it failed");
    };
    assert_eq!(
        error.to_string(),
        "cannot push to try: no message, exit code 128"
    );
}
