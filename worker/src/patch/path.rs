//! The names that a file may have. The rules are those of Mercurial's own path auditor, which an import without a
//! working copy does not run, and of Git's check of names, which is not run for trees that are written directly. Some
//! are stricter: a name that is harmless here may be harmful on a machine that checks it out.

use super::Rules;
use crate::text;

/// The longest path that Linux opens, in bytes.
pub(super) const MAX_PATH: usize = 4095;

/// Returns the reason for refusing a path that may not be committed.
pub(crate) fn check(path: &[u8], rules: Rules) -> Result<(), String> {
    let for_mercurial = rules == Rules::Mercurial;
    if path.len() > MAX_PATH {
        return Err(format!("the path has more than {MAX_PATH} bytes"));
    }
    if path.contains(&0) {
        return Err("the name holds a control character".to_owned());
    }
    // Git has these names in quotes in its patches, so nothing is trimmed or cut.
    if for_mercurial && path.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
        return Err("the name holds a control character".to_owned());
    }
    if for_mercurial && (path.starts_with(b" ") || path.ends_with(b" ")) {
        return Err("the name begins or ends with a space".to_owned());
    }
    // On Windows a backslash is a separator, too.
    let components: Vec<String> = path
        .split(|byte| b"/\\".contains(byte))
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let first = components.first().map_or("", String::as_str);
    if first.is_empty() {
        return Err("the path is absolute or empty".to_owned());
    }
    let mut start = first.chars();
    if start.next().is_some_and(|c| c.is_ascii_alphabetic()) && start.next() == Some(':') {
        return Err("the path names a drive".to_owned());
    }
    if for_mercurial && folded(first).starts_with(".hgsub") {
        return Err("it would make subrepositories".to_owned());
    }
    for component in &components {
        let folded = folded(component);
        if folded.is_empty() {
            return Err("the path has an empty, `.` or `..` component".to_owned());
        }
        if folded == ".hg" || is_short_name(&folded, &["hg~", "hg8b6c~"]) {
            return Err("the path leads into Mercurial's own directory `.hg`".to_owned());
        }
        if folded == ".git" || is_short_name(&folded, &["git~"]) {
            return Err("the path leads into Git's own directory `.git`".to_owned());
        }
    }
    Ok(())
}

/// A component as lax file systems read it: without case, without the characters that HFS+ ignores, without the name of
/// an NTFS stream, and without the dots and spaces that Windows drops at the end.
pub(super) fn folded(component: &str) -> String {
    let visible: String = component
        .to_lowercase()
        .chars()
        .filter(|&c| !text::is_invisible(c))
        .collect();
    let name = visible.split(':').next().unwrap_or_default();
    name.trim_end_matches(['.', ' ']).to_owned()
}

/// Whether a name is one of these beginnings and a number, as Windows shortens `.hg` to `HG~1` and `.git` to `GIT~1`.
fn is_short_name(folded: &str, beginnings: &[&str]) -> bool {
    let mut numbers = beginnings
        .iter()
        .filter_map(|beginning| folded.strip_prefix(beginning));
    numbers.any(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIT: Rules = Rules::Git { submodules: false };

    #[test]
    fn paths_stay_inside_the_tree_and_out_of_mercurials_directory() {
        let good = [
            "a",
            "a/b c/d.txt",
            "日本/x",
            ".hgignore",
            ".hgtags",
            "a/.hgsub",
            ".hgx/y",
            "hg/x",
            "HG~x",
            "a..b/...c",
            "xx:y",
            "try_task_config.json",
        ];
        for path in good {
            assert_eq!(check(path.as_bytes(), Rules::Mercurial), Ok(()), "{path:?}");
        }
        let bad = [
            "",
            "/etc/passwd",
            "//x",
            "a//b",
            "a/",
            ".",
            "./a",
            "..",
            "../x",
            "a/../b",
            "a/...",
            "a/.. /b",
            "a/\u{200d}/b",
            "a/:x",
            ".hg",
            ".hg/hgrc",
            "a/.hg/hgrc",
            ".HG/hgrc",
            ".hG/hgrc",
            ".h\u{200c}g/hgrc",
            "\u{feff}.hg/hgrc",
            ".hg\u{200b}/hgrc",
            ".h\u{fe0f}g/hgrc",
            ".hg./hgrc",
            ".hg /hgrc",
            ".hg . ./hgrc",
            ".hg::$INDEX_ALLOCATION/hgrc",
            ".hg:x",
            "HG~1/hgrc",
            "a/hg8b6c~12/hgrc",
            ".hgsub",
            ".HGSUB",
            ".hgsubstate",
            ".hgsub.",
            "a\\..\\b",
            "..\\x",
            "\\x",
            ".hg\\hgrc",
            "C:\\x",
            "c:x",
            "a\tb",
            "a\rb",
            "a\0b",
            "a\x7f",
            " a",
            "a ",
        ];
        for path in bad {
            assert!(
                check(path.as_bytes(), Rules::Mercurial).is_err(),
                "{path:?}"
            );
        }
        assert_eq!(
            check("a/".repeat(2047).as_bytes(), Rules::Mercurial)
                .err()
                .as_deref(),
            Some("the path has an empty, `.` or `..` component")
        );
        assert_eq!(
            check("a/".repeat(2048).as_bytes(), Rules::Mercurial)
                .err()
                .as_deref(),
            Some("the path has more than 4095 bytes")
        );
        assert_eq!(
            check(b"caf\xe9.txt", GIT),
            Ok(()),
            "names need not be UTF-8"
        );
        assert!(check(b"\xe9/.hg/x", GIT).is_err());
    }

    #[test]
    fn no_path_leads_into_git_s_directory() {
        let good = [
            ".gitignore",
            ".gitattributes",
            ".gitmodules",
            ".github/x",
            "git/x",
            "a.git/x",
            ".gi/x",
            "git~/x",
            "git~x",
            "agit~1",
            ".git-x",
            ".git x",
        ];
        let bad = [
            ".git",
            ".git/config",
            "a/.git/config",
            ".GIT/config",
            ".gIt",
            ".git./config",
            ".git /config",
            ".git . ./x",
            "git~1/x",
            "GIT~1",
            "git~12",
            "a/git~1.",
            ".g\u{200c}it/x",
            "\u{feff}.git/x",
            ".git\u{200d}/x",
            ".gi\u{206f}t",
            ".git::$INDEX_ALLOCATION/config",
            ".git:x",
            "a\\.git\\config",
            ".git\\config",
            ".git . \\x",
        ];
        for rules in [Rules::Mercurial, GIT] {
            for path in good {
                assert_eq!(check(path.as_bytes(), rules), Ok(()), "{path:?}");
            }
            for path in bad {
                let refusal = check(path.as_bytes(), rules).expect_err(path);
                assert!(refusal.contains("`.git`"), "{path:?}: {refusal}");
            }
        }
    }

    #[test]
    fn git_has_names_that_mercurial_cannot_have() {
        for path in [
            "a\tb",
            "a\nb",
            "a\x7f",
            " a",
            "a ",
            ".hgsub",
            ".hgsubstate",
            "a\\b",
        ] {
            assert_eq!(check(path.as_bytes(), GIT), Ok(()), "{path:?}");
        }
        for path in [
            "", "/x", "a//b", "a/", "..", "a/../b", "a\0b", ".hg/hgrc", "C:\\x", "..\\x", "a/.. /b",
        ] {
            assert!(check(path.as_bytes(), GIT).is_err(), "{path:?}");
        }
    }
}
