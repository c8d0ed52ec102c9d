//! The check of the ref that gets the head of a build.

/// The longest template, in bytes. A file system of a server holds 255 bytes in a name.
const LONGEST: usize = 200;

/// Checks a template of a ref: with numbers for `{revision}` and `{diff}` it has to be a ref for `git check-ref-format`,
/// and never one that somebody else pushes to. Returns the fault as a phrase.
pub fn check(template: &str) -> Result<(), &'static str> {
    if template.len() > LONGEST {
        return Err("expected at most 200 bytes");
    }
    let Some(below) = template.strip_prefix("refs/") else {
        return Err("expected a ref that begins with refs/");
    };
    if !["{revision}", "{diff}"]
        .iter()
        .any(|number| template.contains(number))
    {
        return Err("expected {revision} or {diff} in it: each build has a ref of its own");
    }
    let filled = below.replace("{revision}", "1").replace("{diff}", "1");
    if filled.contains(['{', '}']) {
        return Err("expected no other placeholders than {revision} and {diff}");
    }
    if filled.contains(|c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c)) {
        return Err("a ref cannot hold spaces, control characters and any of ~ ^ : ? * [ \\");
    }
    if filled.contains("..") || filled.ends_with('.') {
        return Err("a ref cannot hold .. or end with a dot");
    }
    if filled
        .split('/')
        .any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock"))
    {
        return Err("a part of a ref cannot be empty, begin with a dot or end with .lock");
    }
    if let Some(branch) = filled.strip_prefix("heads/")
        && !branch.contains('/')
    {
        return Err(
            "expected a folder below refs/heads/, such as refs/heads/phabricator/D{revision}: \
             branches without one are other people's",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::settings::DEFAULT_REF;

    #[test]
    fn refs_of_builds_are_in_a_folder_of_their_own() {
        for template in [
            DEFAULT_REF,
            "refs/heads/try/{diff}",
            "refs/phabricator/{revision}",
            "refs/tags/phabricator/diff-{diff}@1",
        ] {
            assert_eq!(check(template), Ok(()), "{template}");
        }
        let long = format!("refs/heads/{}/{{diff}}", "a".repeat(LONGEST));
        for template in [
            "",
            "main",
            "heads/try/{diff}",
            "refs/heads/main",
            "refs/heads/try/main",
            "refs/heads/{diff}",
            "refs/heads/D{revision}",
            "refs/heads/try/{build}",
            "refs/heads/try/{diff}{",
            "refs/heads/try//{diff}",
            "refs/heads/try/{diff}/",
            &long,
        ] {
            assert!(check(template).is_err(), "{template}");
        }
    }

    /// What Git refuses is refused here.
    #[test]
    fn every_accepted_ref_is_one_for_git() {
        if Command::new("git").arg("--version").output().is_err() {
            return;
        }
        let parts = [
            "a", "", ".", "..", ".a", "a.", "a..b", "a.lock", "a b", "a~", "a^", "a:", "a?", "a*",
            "a[", "a\\", "@", "a@{", "@{", "a\u{7f}", "\u{e9}", "a\tb",
        ];
        for part in parts {
            for template in [
                format!("refs/heads/{part}/{{diff}}"),
                format!("refs/heads/x/{{diff}}{part}"),
                format!("refs/heads/x/{{diff}}/{part}"),
            ] {
                let filled = template.replace("{diff}", "1");
                let by_git = Command::new("git")
                    .args(["check-ref-format", &filled])
                    .status()
                    .is_ok_and(|status| status.success());
                let ours = check(&template).is_ok();
                assert!(by_git || !ours, "{template}: Git {by_git}, we {ours}");
            }
        }
    }
}
