//! The names that a file may have. The rules are those of Mercurial's own path auditor, which an import without a
//! working copy does not run, and stricter ones: a name that is harmless here may be harmful on a machine that checks
//! it out.

use crate::text;

/// The longest path that Linux opens, in bytes.
pub(super) const MAX_PATH: usize = 4095;

/// Returns the reason for refusing a path that may not be committed.
pub(super) fn check(path: &[u8]) -> Result<(), String> {
    if path.len() > MAX_PATH {
        return Err(format!("the path has more than {MAX_PATH} bytes"));
    }
    if path.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
        return Err("the name holds a control character".to_owned());
    }
    if path.starts_with(b" ") || path.ends_with(b" ") {
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
    if folded(first).starts_with(".hgsub") {
        return Err("it would make subrepositories".to_owned());
    }
    for component in &components {
        let folded = folded(component);
        if folded.is_empty() {
            return Err("the path has an empty, `.` or `..` component".to_owned());
        }
        if folded == ".hg" || is_short_name(&folded) {
            return Err("the path leads into Mercurial's own directory `.hg`".to_owned());
        }
    }
    Ok(())
}

/// A component as lax file systems read it: without case, without the characters that HFS+ ignores, without the name of
/// an NTFS stream, and without the dots and spaces that Windows drops at the end.
fn folded(component: &str) -> String {
    let visible: String = component
        .to_lowercase()
        .chars()
        .filter(|&c| !text::is_invisible(c))
        .collect();
    let name = visible.split(':').next().unwrap_or_default();
    name.trim_end_matches(['.', ' ']).to_owned()
}

/// Whether Windows may use this short name for `.hg`, such as `HG~1`.
fn is_short_name(folded: &str) -> bool {
    let number = folded
        .strip_prefix("hg~")
        .or_else(|| folded.strip_prefix("hg8b6c~"));
    number.is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(check(path.as_bytes()), Ok(()), "{path:?}");
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
            assert!(check(path.as_bytes()).is_err(), "{path:?}");
        }
        assert_eq!(
            check("a/".repeat(2047).as_bytes()).err().as_deref(),
            Some("the path has an empty, `.` or `..` component")
        );
        assert_eq!(
            check("a/".repeat(2048).as_bytes()).err().as_deref(),
            Some("the path has more than 4095 bytes")
        );
        assert_eq!(check(b"caf\xe9.txt"), Ok(()), "names need not be UTF-8");
        assert!(check(b"\xe9/.hg/x").is_err());
    }
}
