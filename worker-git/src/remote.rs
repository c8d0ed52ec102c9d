//! The meaning of a failed command that used another repository, as long as that took nothing from us.
//!
//! Lines of the other side arrive as `remote: …`, and may say anything. The others are of our own `git` and of ssh.

use worker::{Barrier, Peer, WorkerError, process::CommandOutput, ssh::denials, text};

/// The beginnings of lines of the other side.
const REMOTE: &str = "remote: ";

/// Output of our own `git` when our disk is full.
const FULL: [&str; 2] = ["No space left on device", "Disk quota exceeded"];

/// Output of our own `git`, in lower case, for failures that only an operator can mend, with the reasons.
const DENIALS: [(&str, Barrier); 19] = [
    ("git-upload-pack: command not found", Barrier::NoProgram),
    ("git-upload-pack: not found", Barrier::NoProgram),
    ("git-receive-pack: command not found", Barrier::NoProgram),
    ("git-receive-pack: not found", Barrier::NoProgram),
    ("remote error: service not enabled: ", Barrier::ReadOnly),
    ("remote error: no such repository: ", Barrier::NoRepository),
    (
        "does not appear to be a git repository",
        Barrier::NoRepository,
    ),
    (
        "access denied or repository not exported",
        Barrier::NoRepository,
    ),
    // A path of another user.
    (
        "detected dubious ownership in repository",
        Barrier::Credentials,
    ),
    (
        "unable to update url base from redirection",
        Barrier::NoRepository,
    ),
    (
        "the requested url returned error: 404",
        Barrier::NoRepository,
    ),
    // It has moved permanently; we follow no redirection.
    (
        "the requested url returned error: 301",
        Barrier::NoRepository,
    ),
    (
        "the requested url returned error: 308",
        Barrier::NoRepository,
    ),
    (
        "the requested url returned error: 401",
        Barrier::Credentials,
    ),
    (
        "the requested url returned error: 403",
        Barrier::Credentials,
    ),
    ("authentication failed for ", Barrier::Credentials),
    ("could not read username for ", Barrier::Credentials),
    ("could not read password for ", Barrier::Credentials),
    ("certificate", Barrier::Certificate),
];

/// The error of a command that used this peer, and failed.
pub(crate) fn failure(peer: Peer, doing: impl Into<String>, output: &CommandOutput) -> WorkerError {
    let doing = doing.into();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let own: Vec<&str> = stderr
        .lines()
        .filter(|line| !line.starts_with(REMOTE))
        .collect();
    let own = || own.iter().copied();
    let words = output.words();
    if is_full_disk(output) {
        WorkerError::DiskFull { doing, words }
    } else if let Some(error) = denials::host_key(own(), peer, &doing, &words) {
        error
    } else if let Some(barrier) = barrier(own) {
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

/// Whether a command failed because our disk is full.
pub(crate) fn is_full_disk(output: &CommandOutput) -> bool {
    String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| !line.starts_with(REMOTE))
        .any(|line| FULL.iter().any(|full| line.contains(full)))
}

fn barrier<'a, I: Iterator<Item = &'a str>>(own: impl Fn() -> I) -> Option<Barrier> {
    let is_missing =
        |line: &str| line.starts_with("fatal: repository '") && line.ends_with("' not found");
    if own().any(is_missing) {
        return Some(Barrier::NoRepository);
    }
    denials::first(own(), &DENIALS).or_else(|| denials::barrier(own()))
}

/// A name or an address of the source in a message.
pub(crate) fn shown(name: &str) -> String {
    text::path(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(stderr: &str) -> WorkerError {
        let output = CommandOutput {
            code: 128,
            stderr: stderr.into(),
            ..CommandOutput::default()
        };
        failure(Peer::Source, "fetch nss", &output)
    }

    #[test]
    fn recorded_texts_are_distinguished() {
        const NO_READ: &str = "fatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.\n";
        let table = [
            (
                format!("fatal: '/srv/nss' does not appear to be a git repository\n{NO_READ}"),
                Some(Barrier::NoRepository),
            ),
            (
                "remote: Repository not found.\nfatal: repository 'https://git.example.org/nss/' not found\n".to_owned(),
                Some(Barrier::NoRepository),
            ),
            (
                "fatal: unable to access 'https://git.example.org/nss/': The requested URL returned error: 308\n".to_owned(),
                Some(Barrier::NoRepository),
            ),
            (
                "fatal: unable to access 'https://git.example.org/nss/': The requested URL returned error: 403\n".to_owned(),
                Some(Barrier::Credentials),
            ),
            (
                "fatal: could not read Username for 'https://git.example.org': terminal prompts disabled\n".to_owned(),
                Some(Barrier::Credentials),
            ),
            (
                "fatal: unable to access 'https://git.example.org/nss/': server certificate verification failed. CAfile: none CRLfile: none\n".to_owned(),
                Some(Barrier::Certificate),
            ),
            (
                format!("git@git.example.org: Permission denied (publickey).\r\n{NO_READ}"),
                Some(Barrier::Credentials),
            ),
            (
                format!("sh: 1: git-upload-pack: not found\n{NO_READ}"),
                Some(Barrier::NoProgram),
            ),
            (
                format!("ssh: connect to host git.example.org port 22: Connection refused\n{NO_READ}"),
                None,
            ),
            (
                format!("remote: permission denied: certificate\n{NO_READ}"),
                None,
            ),
            (
                "error: RPC failed; curl 56 Recv failure: Connection reset by peer\nfatal: early EOF\n".to_owned(),
                None,
            ),
        ];
        for (stderr, expected) in table {
            let found = match failed(&stderr) {
                WorkerError::Forbidden { barrier, .. } => Some(barrier),
                WorkerError::Remote { .. } => None,
                other => panic!("{stderr}: {other:?}"),
            };
            assert_eq!(found, expected, "{stderr}");
        }
        let full = "fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output\n";
        assert!(matches!(failed(full), WorkerError::DiskFull { .. }));
        let theirs = format!("remote: fatal: No space left on device\n{NO_READ}");
        assert!(matches!(failed(&theirs), WorkerError::Remote { .. }));
        let unknown = format!(
            "No ED25519 host key is known for [x]:2222 and you have requested strict checking.\r\nHost key verification failed.\r\n{NO_READ}"
        );
        assert!(
            matches!(failed(&unknown), WorkerError::UnknownHost { host, .. } if host == "[x]:2222")
        );
    }
}
