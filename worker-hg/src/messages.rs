//! The meaning of Mercurial's output: the party to blame, and whether a retry can help.

use worker::{Integrity, WorkerError, process::CommandOutput};

/// The beginnings of the aborts that a patch causes. Any other failure of an import counts as ours.
const PATCH: [&str; 10] = [
    "abort: patch failed to apply",
    "abort: bad hunk",
    "abort: cannot patch ",
    "abort: cannot create ",
    "abort: source file ",
    "abort: could not extract ",
    "abort: could not decode ",
    "abort: failed to synchronize metadata",
    "abort: undefined source and destination",
    "abort: stdin: no diffs found",
];

/// Output that shows that a store has lost data.
const CORRUPT: [&str; 6] = [
    "integrity check failed",
    "unknown compression type",
    "decompress error",
    "no node!",
    "is corrupted",
    "potential partial write",
];

/// Output of failures that also happen on a sound clone.
const HARMLESS: [&str; 4] = [
    "waiting for lock",
    "No space left on device",
    "Cannot allocate memory",
    "Read-only file system",
];

/// Output of our own Mercurial when our disk is full: of errors that it handles, and of those that it does not.
const FULL: [&str; 4] = [
    "abort: No space left on device",
    "abort: Disk quota exceeded",
    "[Errno 28] No space",
    "[Errno 122] Disk quota",
];

/// Whether the patch made an import fail.
pub(crate) fn is_patch_fault(output: &CommandOutput) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let of_patch = |line: &str| {
        PATCH.iter().any(|pattern| line.starts_with(pattern))
            || without_file(line).is_some()
            || is_failing(line.as_bytes())
    };
    stderr.lines().any(of_patch)
}

/// Whether this line of an import's standard error reports a failed hunk, so that the import will fail.
pub(crate) fn is_failing(line: &[u8]) -> bool {
    line.starts_with(b"Hunk #") && memchr::memmem::find(line, b" FAILED at ").is_some()
}

/// Whether Mercurial ran out of memory.
pub(crate) fn is_out_of_memory(output: &CommandOutput) -> bool {
    output
        .stderr
        .split(|&byte| byte == b'\n')
        .any(|line| line == b"abort: out of memory")
}

/// The missing file to which a patch gives another mode.
pub(crate) fn without_file(line: &str) -> Option<&str> {
    let (file, _) = line
        .strip_prefix("abort: ")?
        .strip_suffix(": not found in manifest")?
        .rsplit_once('@')?;
    Some(file)
}

/// The error of a command on the clone that failed with this output.
pub(crate) fn command_failure(doing: impl Into<String>, words: String) -> WorkerError {
    let (doing, has) = (doing.into(), |patterns: &[&str]| {
        patterns.iter().any(|pattern| words.contains(pattern))
    });
    if is_full_disk(&words) {
        return WorkerError::DiskFull { doing, words };
    }
    let integrity = if has(&CORRUPT) {
        Integrity::Lost
    } else if has(&HARMLESS) {
        // An `hg` that a dead worker left holds the lock, and ends by itself. A full disk damages nothing.
        Integrity::Sound
    } else {
        Integrity::Unknown
    };
    WorkerError::Command {
        doing,
        words,
        integrity,
    }
}

/// The output of a command that has to succeed.
pub(crate) trait Success: Sized {
    /// The output, or an error if the command failed.
    fn success(self, doing: impl Into<String>) -> Result<Self, WorkerError>;
}

impl Success for CommandOutput {
    fn success(self, doing: impl Into<String>) -> Result<Self, WorkerError> {
        if self.code == 0 {
            Ok(self)
        } else {
            Err(command_failure(doing, self.words()))
        }
    }
}

/// Whether this output reports that a disk of ours is full. A full disk of another machine is not ours.
pub(crate) fn is_full_disk(words: &str) -> bool {
    words
        .split(['\n', ';'])
        .map(str::trim_start)
        .any(|line| !line.starts_with("remote: ") && FULL.iter().any(|full| line.contains(full)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> CommandOutput {
        CommandOutput {
            code,
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    #[test]
    fn unknown_failures_are_not_the_patchs_fault() {
        for stderr in [
            "abort: No space left on device\n",
            "abort: abandoned transaction found\n",
            "",
            "** unknown exception\n",
        ] {
            assert!(!is_patch_fault(&output(255, "", stderr)), "{stderr}");
        }
    }

    #[test]
    fn full_disk_of_ours_differs_from_one_of_others() {
        for (words, full) in [
            ("abort: No space left on device", true),
            (
                "abort: No space left on device: '/clones/nss/.hg/store/data/a.i'",
                true,
            ),
            (
                "transaction abort!; rollback failed; (failure reason: [Errno 28] No space left on device)",
                true,
            ),
            ("OSError: [Errno 122] Disk quota exceeded", true),
            (
                "remote: abort: No space left on device; abort: stream ended unexpectedly",
                false,
            ),
            (
                "abort: cannot create 'No space left on device': file exists",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(is_full_disk(words), full, "{words}");
        }
    }
}
