//! The file `.gitmodules`, which tells Git where the submodules of a repository come from.
//!
//! `git clone --recurse-submodules` and `git submodule update` take addresses, paths and commands from it. So a build
//! may only have one that Git's own check of received objects (`git fsck`) accepts: a plain file, in which no option
//! stands in the place of an address or a path, and no submodule is updated by a command.

use super::{FileChange, HunkLine, Kind, Lines, Mode, RejectReason, hunks, path};

/// Whether a file system that folds names may open this path as a file `.gitmodules`.
pub fn is_gitmodules(path: &[u8]) -> bool {
    let name = path
        .rsplit(|byte| b"/\\".contains(byte))
        .next()
        .unwrap_or_default();
    let name = path::folded(&String::from_utf8_lossy(name));
    name == ".gitmodules" || is_short_name(&name)
}

/// Whether Windows may use this short name for `.gitmodules`: `GITMOD~1` to `~4`, or from the fifth file on the first
/// letters of `GI7EBA` and a number, of eight characters together.
fn is_short_name(folded: &str) -> bool {
    let Some((letters, number)) = folded.split_once('~') else {
        return false;
    };
    if letters == "gitmod" && matches!(number, "1" | "2" | "3" | "4") {
        return true;
    }
    folded.len() == 8
        && "gi7eba".starts_with(letters)
        && !number.starts_with('0')
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Refuses a change that may give `.gitmodules` another form than that of a plain file, or a content that Git refuses.
/// `lines` have the file's part of the patch.
pub(super) fn check_change(file: &FileChange, lines: &Lines<'_>) -> Result<(), RejectReason> {
    if file.kind == Kind::Delete || !is_gitmodules(&file.path) {
        return Ok(());
    }
    let is_plain = |mode: Option<Mode>| matches!(mode, None | Some(Mode::File | Mode::Executable));
    let is_moved = matches!(file.kind, Kind::Copy(_) | Kind::Rename(_));
    if is_moved || !is_plain(file.modes.old) || !is_plain(file.modes.new) {
        return Err(lines.refuse(
            "it tells Git the addresses of submodules, so it must be made as a plain file",
        ));
    }
    if file.binary.is_some() {
        return Err(lines.refuse("it tells Git the addresses of submodules, so it must be text"));
    }
    let mut content = Vec::new();
    for hunk in hunks(lines.content(), file) {
        for line in hunk.lines() {
            if let HunkLine::Context(text) | HunkLine::Added(text) = line {
                content.extend_from_slice(text);
            }
        }
    }
    check_gitmodules(&content).map_err(|reason| lines.refuse(reason))
}

/// Returns the reason for refusing a file `.gitmodules` with this content, or with this part of its content.
pub fn check_gitmodules(content: &[u8]) -> Result<(), String> {
    let mut text = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    while let [first, rest @ ..] = text {
        match first {
            b'#' | b';' => {
                text = memchr::memchr(b'\n', text).map_or(&[], |end| &text[end..]);
            }
            b'[' => {
                let (name, rest) = section(rest);
                check_name(&name)?;
                text = rest;
            }
            _ if first.is_ascii_alphanumeric() => {
                let end = text
                    .iter()
                    .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-')
                    .unwrap_or(text.len());
                let (key, after) = text.split_at(end);
                let (value, rest) = value(after);
                check_value(&key.to_ascii_lowercase(), &value)?;
                text = rest;
            }
            _ => text = rest,
        }
    }
    Ok(())
}

/// The name in `[submodule "name"]`, behind its `[`, and the text that follows on the section's head.
fn section(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut name = Vec::new();
    let (mut quoted, mut at) = (false, 0);
    while let Some(byte) = text.get(at) {
        at += 1;
        match byte {
            b'\n' => break,
            b']' if !quoted => break,
            b'"' => quoted = !quoted,
            b'\\' if quoted => {
                name.extend(text.get(at));
                at += 1;
            }
            _ if quoted => name.push(*byte),
            _ => {}
        }
    }
    (name, text.get(at..).unwrap_or_default())
}

/// The value in ` = value`, and the text that follows. Git joins lines that end in a backslash, and reads quotation
/// marks, escapes and comments.
fn value(text: &[u8]) -> (Vec<u8>, &[u8]) {
    let blanks = text
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t'))
        .unwrap_or(text.len());
    let Some(text) = text[blanks..].strip_prefix(b"=") else {
        return (Vec::new(), &text[blanks..]);
    };
    let mut value = Vec::new();
    // The length up to the last byte that is not a blank out of quotes.
    let mut length = 0;
    let (mut quoted, mut at) = (false, 0);
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'\n' => break,
            b'#' | b';' if !quoted => {
                at += memchr::memchr(b'\n', &text[at..]).unwrap_or(text.len() - at);
                break;
            }
            b'"' => quoted = !quoted,
            b'\\' => {
                let next = match text.get(at..).unwrap_or_default() {
                    [b'\r', b'\n', ..] => {
                        at += 1;
                        b'\n'
                    }
                    [next, ..] => *next,
                    [] => break,
                };
                at += 1;
                match next {
                    b'\n' => continue,
                    b't' => value.push(b'\t'),
                    b'n' => value.push(b'\n'),
                    b'b' => value.push(0x08),
                    _ => value.push(next),
                }
                length = value.len();
            }
            _ if byte.is_ascii_whitespace() && !quoted => {
                if !value.is_empty() {
                    value.push(byte);
                }
            }
            _ => {
                value.push(byte);
                length = value.len();
            }
        }
    }
    value.truncate(length);
    (value, text.get(at..).unwrap_or_default())
}

/// The name of a submodule is a directory below `.git/modules`.
fn check_name(name: &[u8]) -> Result<(), String> {
    let mut components = name.split(|byte| b"/\\".contains(byte));
    if components.any(|component| component == b"..") {
        return Err("the name of a submodule has a `..` component".to_owned());
    }
    Ok(())
}

fn check_value(key: &[u8], value: &[u8]) -> Result<(), String> {
    let refuse = |what: &str| Err(format!("Git refuses {what} in it"));
    match key {
        b"url" | b"path" if value.starts_with(b"-") => refuse(&format!(
            "a submodule's {} that begins with `-`",
            String::from_utf8_lossy(key)
        )),
        b"url" if has_line_break(value) => refuse("a submodule's url with a line break"),
        b"url" if leaves_its_root(value) => refuse("a submodule's url that leaves its host"),
        b"update" if value.starts_with(b"!") => {
            refuse("a command that updates a submodule (`update = !…`)")
        }
        _ => Ok(()),
    }
}

/// Whether an address has a line break, also as `%0a`: helpers for credentials read lines.
fn has_line_break(url: &[u8]) -> bool {
    url.contains(&b'\n')
        || url
            .windows(3)
            .any(|window| window.eq_ignore_ascii_case(b"%0a"))
}

/// Whether a relative address has `../` before a host: `../../::host`.
fn leaves_its_root(url: &[u8]) -> bool {
    let (mut rest, mut up) = (url, false);
    loop {
        rest = match rest {
            [b'.', b'.', b'/' | b'\\', after @ ..] => {
                up = true;
                after
            }
            [b'.', b'/' | b'\\', after @ ..] => after,
            _ => return up && matches!(rest, [b':' | b'/', ..]),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fold_onto_gitmodules_are_found() {
        let table = [
            (".gitmodules", true),
            ("a/.gitmodules", true),
            (".GitModules", true),
            (".gitmodules . .", true),
            (".gitmodules::$DATA", true),
            (".git\u{200c}modules", true),
            ("a\\.gitmodules", true),
            ("GITMOD~1", true),
            ("gitmod~4", true),
            ("gitmod~1 .", true),
            ("GI7EBA~1", true),
            ("gi7eba~9", true),
            ("gi7eb~10", true),
            ("gi7~1234", true),
            ("~1000000", true),
            ("gitmod~5", false),
            ("gitmod~0", false),
            ("gi7eba~0", false),
            ("gi7eba~10", false),
            ("gi7ebx~1", false),
            ("gitmodules", false),
            (".gitmodules2", false),
            (".gitmodules/x", false),
            ("", false),
        ];
        for (path, expected) in table {
            assert_eq!(is_gitmodules(path.as_bytes()), expected, "{path:?}");
        }
    }

    #[test]
    fn only_harmless_options_are_accepted() {
        let good = [
            "",
            "[submodule \"a/b\"]\n\tpath = a/b\n\turl = https://example.org/a.git\n\tbranch = -x\n",
            "[submodule \"a\"]\nurl = ../a.git\nupdate = rebase\n",
            "# url = -x\n; path = -y\n[submodule \"a\"] path = a\n",
            "[submodule \"a\"]\nurl = \"https://example.org/-x\" ; -x\n",
            "[submodule \"a..b\"]\nshallow\nurl = ./a\n",
            "[other]\nurls = -x\n",
            "url = ../../a/b\n",
        ];
        for content in good {
            assert_eq!(check_gitmodules(content.as_bytes()), Ok(()), "{content:?}");
        }
        let bad = [
            ("[submodule \"a\"]\n\turl = -u./x\n", "url that begins"),
            ("[submodule \"a\"] url=--upload-pack=x", "url that begins"),
            ("url = \"-x\"\n", "url that begins"),
            ("URL =\t\"\"-x\n", "url that begins"),
            ("url = \\\n  -x\n", "url that begins"),
            ("url = \\\r\n-x\n", "url that begins"),
            ("url = \"\\\n-x\"\n", "url that begins"),
            ("\u{feff}url = -x\n", "url that begins"),
            ("x = \"a\\\\\" # c\nurl = -x\n", "url that begins"),
            ("path = -x\n", "path that begins"),
            ("update = !rm\n", "a command"),
            ("update = \"!rm\"\n", "a command"),
            ("[submodule \"../a\"]\n", "`..`"),
            ("[submodule \"a/..\\\\b\"]\n", "`..`"),
            ("[submodule \"\\.\\./a\"]\n", "`..`"),
            ("url = https://example.org/%0ahost=x\n", "line break"),
            ("url = \"https://example.org/\\nhost\"\n", "line break"),
            ("url = ../../::example.org/a\n", "leaves its host"),
            ("url = .././/example.org/a\n", "leaves its host"),
        ];
        for (content, expected) in bad {
            let refusal = check_gitmodules(content.as_bytes()).expect_err(content);
            assert!(refusal.contains(expected), "{content:?}: {refusal}");
        }
    }
}
