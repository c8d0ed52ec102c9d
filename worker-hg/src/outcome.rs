//! What Mercurial's words mean: who is to blame, and whether trying again can help.

use crate::{HgError, process::CommandOutput, text};

/// Words of what only an operator can change. Matched without case.
const FORBIDDEN: [&str; 12] = [
    "host key verification failed",
    "remote host identification has changed",
    "permission denied",
    "authorization failed",
    "authentication failed",
    "too many authentication failures",
    "http error 401",
    "http error 403",
    "http error 404",
    "there is no mercurial repository here",
    "certificate",
    "unsupported url component",
];

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

/// Judges a push: `Ok` when the head is there, by this push or an earlier one.
pub(crate) fn push(doing: &str, output: &CommandOutput) -> Result<(), HgError> {
    let there = output.code == 1 && stdout_lines(output).any(|line| line == "no changes found");
    if output.code == 0 || there { Ok(()) } else { Err(remote_failure(doing, output)) }
}

/// Judges a command that failed and that talked to another repository.
pub(crate) fn remote_failure(doing: &str, output: &CommandOutput) -> HgError {
    let doing = doing.to_owned();
    let words = remote_words(output);
    let lower = words.to_lowercase();
    // A hook's text comes first: it may contain any words.
    let hook = ["hook failed", "hook exited", "hook raised", "hook is invalid"];
    if hook.iter().any(|pattern| lower.contains(pattern)) {
        HgError::Refused { doing, words }
    } else if FORBIDDEN.iter().any(|pattern| lower.contains(pattern)) || is_missing(&lower) {
        HgError::Forbidden { doing, words }
    } else {
        HgError::Remote { doing, words }
    }
}

/// `repository <name> not found`, as Mercurial says for all but a path, and the words that it has for that.
fn is_missing(words: &str) -> bool {
    let missing = |rest: &str| rest.contains(" not found") || rest.ends_with(" does not exist");
    words.split("; ").any(|line| line.split_once("repository ").is_some_and(|(_, rest)| missing(rest)))
}

/// Whether the patch is why an import failed.
pub(crate) fn is_patch_fault(output: &CommandOutput) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    stderr.lines().any(|line| PATCH.iter().any(|pattern| line.starts_with(pattern)) || without_file(line).is_some())
}

/// The file that is not there and that a patch gives another mode.
pub(crate) fn without_file(line: &str) -> Option<&str> {
    let (file, _) = line.strip_prefix("abort: ")?.strip_suffix(": not found in manifest")?.rsplit_once('@')?;
    Some(file)
}

/// Whether these words are of a clone that has lost data.
pub(crate) fn is_corruption(words: &str) -> bool {
    CORRUPT.iter().any(|pattern| words.contains(pattern))
}

/// What the other side, ssh and Mercurial say, the other side first. Depending on the way, the `remote:` lines come on
/// either stream.
fn remote_words(output: &CommandOutput) -> String {
    let remote: Vec<&str> = stdout_lines(output).filter(|line| line.starts_with("remote: ")).collect();
    let words = text::one_line(&[remote.join("\n").as_bytes(), b"\n", &output.stderr].concat());
    if words.is_empty() { format!("nothing was said, code {}", output.code) } else { words }
}

fn stdout_lines(output: &CommandOutput) -> impl Iterator<Item = &str> {
    output.stdout.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use bus::{Classify, Disposition};

    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> CommandOutput {
        CommandOutput { code, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn the_outcome_of_a_push_decides_what_becomes_of_the_build() {
        let table: [(i32, &str, &str, Result<(), Disposition>); 22] = [
            (0, "pushing to ssh://x/try\nsearching for changes\nremote: added 2 changesets\n", "", Ok(())),
            (1, "pushing to ssh://x/try\nsearching for changes\nno changes found\n", "", Ok(())),
            (1, "pushing to x\n", "", Err(Disposition::Retry)),
            (1, "searching for changes\nno changes found (ignored 1 secret changesets)\n", "", Err(Disposition::Retry)),
            (255, "no changes found\n", "abort: something else\n", Err(Disposition::Retry)),
            (255, "", "", Err(Disposition::Retry)),
            (
                255,
                "",
                "remote: pretxnchangegroup.tree hook failed\nabort: push failed on remote\n",
                Err(Disposition::Retry),
            ),
            (
                255,
                "remote: Permission denied: the tree is closed\nremote: pretxnchangegroup.x hook exited with status 1\n",
                "abort: push failed on remote\n",
                Err(Disposition::Retry),
            ),
            (255, "", "abort: stream ended unexpectedly (got 0 bytes, expected 4)\n", Err(Disposition::Retry)),
            (255, "", "abort: timed out waiting for lock held by 'x:1'\n", Err(Disposition::Retry)),
            (255, "", "abort: error: Connection refused\n", Err(Disposition::Retry)),
            (
                255,
                "",
                "remote: ssh: connect to host x port 22: Connection refused\nabort: no suitable response from remote hg\n",
                Err(Disposition::Retry),
            ),
            (
                255,
                "",
                "remote: ssh: Could not resolve hostname x: Name or service not known\nabort: no suitable response from remote hg\n",
                Err(Disposition::Retry),
            ),
            (
                255,
                "",
                "remote: hg@x: Permission denied (publickey).\nabort: no suitable response from remote hg\n",
                Err(Disposition::Dead),
            ),
            (
                255,
                "remote: Host key verification failed.\n",
                "abort: no suitable response from remote hg\n",
                Err(Disposition::Dead),
            ),
            (
                255,
                "",
                "remote: @ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nabort: no suitable response from remote hg\n",
                Err(Disposition::Dead),
            ),
            (255, "", "abort: authorization failed\n", Err(Disposition::Dead)),
            (255, "", "abort: repository /try not found\n", Err(Disposition::Dead)),
            (255, "", "abort: repository /try does not exist\n", Err(Disposition::Dead)),
            (
                255,
                "",
                "remote: abort: repository try not found!\nabort: no suitable response from remote hg\n",
                Err(Disposition::Dead),
            ),
            (
                255,
                "",
                "abort: error: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed\n",
                Err(Disposition::Dead),
            ),
            (255, "", "abort: HTTP Error 404: Not Found\n", Err(Disposition::Dead)),
        ];
        for (code, stdout, stderr, expected) in table {
            let judged = push("push to try", &output(code, stdout, stderr));
            assert_eq!(judged.as_ref().map_err(|error| error.disposition()).copied(), expected, "{stdout}{stderr}");
        }
    }

    #[test]
    fn a_hooks_words_are_kept() {
        let judged = push(
            "push to try",
            &output(
                255,
                "searching\nremote: CLOSED TREE\n",
                "remote: prechangegroup.tree hook failed\nabort: push failed on remote\n",
            ),
        );
        let error = judged.expect_err("refused").to_string();
        assert_eq!(
            error,
            "push to try was refused by a hook there: remote: CLOSED TREE; remote: prechangegroup.tree hook failed; \
             abort: push failed on remote"
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
