//! The names of files in a patch.
//!
//! Git writes a name in quotes if it has bytes that are not printable ASCII, a quotation mark or a backslash.
//! Phabricator writes all names as they are, and so does Mercurial. On a line `diff --git a/X b/Y` a name without
//! quotes can hold ` b/`: then only the further lines show where it ends, or that both names are the same.

use std::borrow::Cow;

use super::Rules;

/// The two names on a `diff --git` line, split where Mercurial splits it.
pub(super) fn split_last(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(b"diff --git a/")?;
    let middle = rest.windows(3).rposition(|window| window == b" b/")?;
    Some((&rest[..middle], &rest[middle + 3..]))
}

/// The name that this text is: what it stands for if it is in quotes, for Git.
pub(super) fn whole(text: &[u8], rules: Rules) -> Option<Cow<'_, [u8]>> {
    match (rules, text) {
        (Rules::Git { .. }, [b'"', ..]) => match unquoted(text)? {
            (name, b"") => Some(name.into()),
            _ => None,
        },
        _ => Some(text.into()),
    }
}

/// The name on a `---` or `+++` line: up to the tab that follows it.
pub(super) fn before_tab(text: &[u8], rules: Rules) -> Option<Cow<'_, [u8]>> {
    let tab = || text.iter().position(|&byte| byte == b'\t');
    match rules {
        Rules::Git { .. } if text.starts_with(b"\"") => {
            let (name, rest) = unquoted(text)?;
            matches!(rest, b"" | [b'\t', ..]).then_some(name.into())
        }
        Rules::Git { .. } => Some(text[..tab().unwrap_or(text.len())].into()),
        // Without a tab, Mercurial takes the name up to the first space.
        Rules::Mercurial => {
            let end = tab().or_else(|| text.iter().position(|&byte| byte == b' '));
            Some(text[..end.unwrap_or(text.len())].into())
        }
    }
}

/// The name that stands twice behind `diff --git `, as `a/X b/X`.
pub(super) fn twice(both: &[u8]) -> Option<Cow<'_, [u8]>> {
    let name = if both.starts_with(b"\"") {
        let (first, _) = unquoted(both)?;
        Cow::from(first.strip_prefix(b"a/")?.to_vec())
    } else if let Some(name) = halved(both) {
        Cow::from(name)
    } else {
        // The second name alone is in quotes.
        let middle = both.windows(2).position(|window| window == b" \"")?;
        Cow::from(both[..middle].strip_prefix(b"a/")?)
    };
    are(both, &name, &name).then_some(name)
}

/// The name X of `a/X b/X`, neither in quotes. Only its length shows where it ends.
fn halved(both: &[u8]) -> Option<&[u8]> {
    let length = both.len().checked_sub(b"a/ b/".len())? / 2;
    let name = both.get(2..2 + length)?;
    are(both, name, name).then_some(name)
}

/// Whether the text behind `diff --git ` has these two names, each in quotes or not.
pub(super) fn are(both: &[u8], old: &[u8], new: &[u8]) -> bool {
    let rest = match both {
        [b'"', ..] => unquoted(both)
            .filter(|(first, _)| first.strip_prefix(b"a/") == Some(old))
            .map(|(_, rest)| rest),
        _ => both
            .strip_prefix(b"a/")
            .and_then(|rest| rest.strip_prefix(old)),
    };
    let Some(second) = rest.and_then(|rest| rest.strip_prefix(b" ")) else {
        return false;
    };
    match second {
        [b'"', ..] => unquoted(second).is_some_and(|(second, rest)| {
            rest.is_empty() && second.strip_prefix(b"b/") == Some(new)
        }),
        _ => second.strip_prefix(b"b/") == Some(new),
    }
}

/// The text of a name in quotes, with its escapes as in C, and what follows on it.
fn unquoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        let end = memchr::memchr2(b'"', b'\\', rest)?;
        name.extend_from_slice(&rest[..end]);
        rest = match &rest[end..] {
            [b'"', after @ ..] => return Some((name, after)),
            [
                b'\\',
                high @ b'0'..=b'3',
                middle @ b'0'..=b'7',
                low @ b'0'..=b'7',
                after @ ..,
            ] => {
                name.push((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'));
                after
            }
            [b'\\', letter, after @ ..] => {
                name.push(match letter {
                    b'a' => 0x07,
                    b'b' => 0x08,
                    b't' => b'\t',
                    b'n' => b'\n',
                    b'v' => 0x0b,
                    b'f' => 0x0c,
                    b'r' => b'\r',
                    b'"' | b'\\' => *letter,
                    _ => return None,
                });
                after
            }
            _ => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIT: Rules = Rules::Git { submodules: false };

    #[test]
    fn quotes_and_escapes_are_those_of_git() {
        type Case<'a> = (&'a [u8], Option<&'a [u8]>);
        let table: [Case<'_>; 16] = [
            (b"plain", Some(b"plain")),
            (b"a b", Some(b"a b")),
            (b"caf\xc3\xa9", Some(b"caf\xc3\xa9")),
            (br#""caf\303\251""#, Some(b"caf\xc3\xa9")),
            (
                br#""\a\b\t\n\v\f\r\"\\""#,
                Some(b"\x07\x08\t\n\x0b\x0c\r\"\\"),
            ),
            (br#""\377\001""#, Some(b"\xff\x01")),
            (br#""""#, Some(b"")),
            (br#"a"b"#, Some(br#"a"b"#)),
            (br#"""#, None),
            (br#""a"#, None),
            (br#""a"b"#, None),
            (br#""\""#, None),
            (br#""\x41""#, None),
            (br#""\12""#, None),
            (br#""\400""#, None),
            (br#""\189""#, None),
        ];
        for (text, expected) in table {
            let shown = String::from_utf8_lossy(text);
            assert_eq!(whole(text, GIT).as_deref(), expected, "{shown}");
            assert_eq!(
                whole(text, Rules::Mercurial).as_deref(),
                Some(text),
                "{shown}"
            );
        }
    }

    #[test]
    fn name_that_stands_twice_is_found() {
        let table = [
            ("a/f b/f", Some("f")),
            ("a/f b/g", None),
            ("a/x b/y b/x b/y", Some("x b/y")),
            ("a/x b/x b/x b/x", Some("x b/x")),
            ("a/x  b/x ", Some("x ")),
            ("a/x\"y b/x\"y", Some("x\"y")),
            (r#""a/\303\244" "b/\303\244""#, Some("ä")),
            (r#""a/x" b/x"#, Some("x")),
            (r#"a/x "b/x""#, Some("x")),
            (r#""a/x" "b/y""#, None),
            (r#""a/x""#, None),
            ("a/ b/", Some("")),
            ("a/x", None),
            ("x/f y/f", None),
            ("", None),
        ];
        for (both, expected) in table {
            let found = twice(both.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{both}");
        }
        assert!(are(b"a/x b/y b/z", b"x b/y", b"z") && are(b"a/x b/y b/z", b"x", b"y b/z"));
        assert!(are(br#"a/x "b/\n""#, b"x", b"\n") && !are(br#"a/x "b/\n"x"#, b"x", b"\n"));
    }

    #[test]
    fn name_before_a_tab_can_hold_spaces() {
        for (text, git, mercurial) in [
            ("a/f", "a/f", "a/f"),
            ("a/f g\t", "a/f g", "a/f g"),
            ("a/f g", "a/f g", "a/f"),
            ("a/f \t2020-01-01", "a/f ", "a/f "),
        ] {
            let read = |rules| before_tab(text.as_bytes(), rules);
            assert_eq!(read(GIT).as_deref(), Some(git.as_bytes()), "{text:?}");
            assert_eq!(
                read(Rules::Mercurial).as_deref(),
                Some(mercurial.as_bytes()),
                "{text:?}"
            );
        }
        assert_eq!(
            before_tab(b"\"a/\\t\"\t", GIT).as_deref(),
            Some(&b"a/\t"[..])
        );
        assert_eq!(before_tab(b"\"a/\\t\"x", GIT), None);
    }
}
