//! What Mercurial's words mean: who is to blame, and whether trying again can help.

use crate::process::CommandOutput;

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

/// Whether these words are of a clone that has lost data.
pub(crate) fn is_corruption(words: &str) -> bool {
    CORRUPT.iter().any(|pattern| words.contains(pattern))
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
}
