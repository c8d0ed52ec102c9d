//! What Mercurial's words mean: who is to blame, and whether trying again can help.

use worker::{Integrity, WorkerError, process::CommandOutput};

/// Words of the aborts that a patch causes. Anything else that fails an import is our fault until proven otherwise.
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

/// Words of a store that has lost data.
const CORRUPT: [&str; 6] = [
    "integrity check failed",
    "unknown compression type",
    "decompress error",
    "no node!",
    "is corrupted",
    "potential partial write",
];

/// What a command on a sound clone can fail of.
const HARMLESS: [&str; 4] = [
    "waiting for lock",
    "No space left on device",
    "Cannot allocate memory",
    "Read-only file system",
];

/// What our own Mercurial says when our disk is full: for an error that it expected, and for one that it did not.
const FULL: [&str; 4] = [
    "abort: No space left on device",
    "abort: Disk quota exceeded",
    "[Errno 28] No space",
    "[Errno 122] Disk quota",
];

/// Whether the patch is why an import failed.
pub(crate) fn is_patch_fault(output: &CommandOutput) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let of_patch = |line: &str| {
        PATCH.iter().any(|pattern| line.starts_with(pattern))
            || without_file(line).is_some()
            || is_failing(line.as_bytes())
    };
    stderr.lines().any(of_patch)
}

/// Whether this line of what an import complains of says that it will fail, as it does once per hunk.
pub(crate) fn is_failing(line: &[u8]) -> bool {
    line.starts_with(b"Hunk #") && memchr::memmem::find(line, b" FAILED at ").is_some()
}

/// Whether Mercurial found no more memory.
pub(crate) fn is_out_of_memory(output: &CommandOutput) -> bool {
    output
        .stderr
        .split(|&byte| byte == b'\n')
        .any(|line| line == b"abort: out of memory")
}

/// The file that is not there and that a patch gives another mode.
pub(crate) fn without_file(line: &str) -> Option<&str> {
    let (file, _) = line
        .strip_prefix("abort: ")?
        .strip_suffix(": not found in manifest")?
        .rsplit_once('@')?;
    Some(file)
}

/// A command on the clone failed with these words.
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
        // A lock is held by an `hg` that a dead worker left; it ends by itself. A full disk damages nothing.
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
    /// Nothing but success will do.
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

/// Whether these words say that a disk of ours is full. A full disk of another machine is not ours.
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
    fn what_we_cannot_explain_is_not_the_patchs_fault() {
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
