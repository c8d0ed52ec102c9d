//! The output of ssh for failures that only an operator can mend.
//!
//! The lines of a hook may look like these. So the caller passes only lines that no hook can have written: those on a
//! connection without a response of the other side.

use crate::{Barrier, Peer, WorkerError, text};

/// Output of ssh, in lower case, with the reasons. The first that matches counts: the scripts that a shell runs at its
/// start may print the later ones.
const DENIALS: [(&str, Barrier); 5] = [
    ("host key verification failed", Barrier::HostKey),
    ("remote host identification has changed", Barrier::HostKey),
    ("too many authentication failures", Barrier::Credentials),
    ("unable to negotiate with", Barrier::Credentials),
    ("permission denied", Barrier::Credentials),
];

/// The reason for which access is denied; `None` if none of the lines reports that.
pub fn barrier<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Barrier> {
    first(lines, &DENIALS)
}

/// The reason of the first of `denials` whose text, in lower case, is in one of the lines.
pub fn first<'a>(
    lines: impl IntoIterator<Item = &'a str>,
    denials: &[(&str, Barrier)],
) -> Option<Barrier> {
    let lines: Vec<String> = lines.into_iter().map(str::to_lowercase).collect();
    denials
        .iter()
        .find(|(words, _)| lines.iter().any(|line| line.contains(words)))
        .map(|(_, barrier)| *barrier)
}

/// The error for a host key that ssh does not accept; `None` if none of the lines reports that. `doing` is what failed,
/// and `words` all that was said.
pub fn host_key<'a>(
    lines: impl Iterator<Item = &'a str> + Clone,
    peer: Peer,
    doing: &str,
    words: &str,
) -> Option<WorkerError> {
    let (doing, words) = (doing.to_owned(), words.to_owned());
    if let Some(host) = lines.clone().find_map(unknown_host) {
        return Some(WorkerError::UnknownHost {
            peer,
            doing,
            host,
            words,
        });
    }
    let host = { lines }.find_map(other_host_key)?;
    Some(WorkerError::OtherHostKey {
        peer,
        doing,
        host,
        words,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_texts_of_ssh_are_distinguished() {
        let table = [
            (
                "hg@x: Permission denied (publickey).",
                Some(Barrier::Credentials),
            ),
            ("Host key verification failed.", Some(Barrier::HostKey)),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
                Some(Barrier::HostKey),
            ),
            (
                "Received disconnect from x port 22:2: Too many authentication failures",
                Some(Barrier::Credentials),
            ),
            (
                "Unable to negotiate with x port 22: no matching host key type found.",
                Some(Barrier::Credentials),
            ),
            ("ssh: connect to host x port 22: Connection refused", None),
            (
                "ssh: Could not resolve hostname x: Name or service not known",
                None,
            ),
            (
                "kex_exchange_identification: Connection closed by remote host",
                None,
            ),
            ("client_loop: send disconnect: Broken pipe", None),
        ];
        for (line, expected) in table {
            assert_eq!(barrier([line]), expected, "{line}");
        }
    }

    #[test]
    fn host_without_a_known_key_is_named() {
        let unknown =
            "No ED25519 host key is known for [x]:2222 and you have requested strict checking.";
        let other = "Host key for [x]:2222 has changed and you have requested strict checking.";
        let host = Some("[x]:2222".to_owned());
        assert_eq!(
            [unknown_host(unknown), other_host_key(unknown)],
            [host.clone(), None]
        );
        assert_eq!([unknown_host(other), other_host_key(other)], [None, host]);
    }
}
