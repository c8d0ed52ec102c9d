//! What Mercurial's words mean: who is to blame, and whether trying again can help.

mod remote;

pub(crate) use self::remote::{push, remote_failure};

use crate::{process::CommandOutput, text};

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
    stderr.lines().any(|line| PATCH.iter().any(|pattern| line.starts_with(pattern)))
}

/// Whether these words are of a clone that has lost data.
pub(crate) fn is_corruption(words: &str) -> bool {
    CORRUPT.iter().any(|pattern| words.contains(pattern))
}

/// Where a patch did not apply: `file: hunk #1`, …
pub(crate) fn places(output: &CommandOutput) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let mut file = "";
    let mut places = Vec::new();
    for line in stderr.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name;
        } else if let Some(hunk) = line.strip_prefix("Hunk #").and_then(|rest| rest.split_once(" FAILED at ")) {
            places.push(text::path(format!("{file}: hunk #{}", hunk.0).as_bytes()));
        } else if let Some(rest) =
            line.strip_prefix("unable to find '").and_then(|rest| rest.strip_suffix("' for patching"))
        {
            places.push(text::path(format!("{rest}: the file does not exist").as_bytes()));
        } else if let Some(name) = line.strip_prefix("file ").and_then(|rest| rest.strip_suffix(" already exists")) {
            places.push(text::path(format!("{name}: the file exists already").as_bytes()));
        } else if let Some(reason) = line.strip_prefix("abort: ").filter(|reason| *reason != "patch failed to apply") {
            places.push(text::path(reason.as_bytes()));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> CommandOutput {
        CommandOutput { code, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn places_are_named_by_file_and_hunk() {
        let stderr = "patching file a b\nHunk #1 FAILED at 3\nHunk #12 FAILED at 80\n\
                      unable to find 'c' for patching\n(use '--prefix' to apply patch relative to the current directory)\n\
                      file d already exists\nabort: patch failed to apply\n";
        let failed = output(255, "applying patch from stdin\n", stderr);
        assert!(is_patch_fault(&failed));
        assert_eq!(
            places(&failed),
            ["a b: hunk #1", "a b: hunk #12", "c: the file does not exist", "d: the file exists already"]
        );
        assert_eq!(
            places(&output(255, "", "abort: cannot patch q: file is not tracked\n")),
            ["cannot patch q: file is not tracked"]
        );
    }

    #[test]
    fn what_we_cannot_explain_is_not_the_patchs_fault() {
        for stderr in
            ["abort: No space left on device\n", "abort: abandoned transaction found\n", "", "** unknown exception\n"]
        {
            assert!(!is_patch_fault(&output(255, "", stderr)), "{stderr}");
        }
    }
}
