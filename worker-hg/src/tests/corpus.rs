//! Patches to start from, and ways to spoil them.

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*, sample::Index};

/// The files of the repository to which the patches apply, as a patch: those that the recorded patches change, and some
/// with unusual names and kinds.
pub(super) fn base() -> Vec<u8> {
    let numbered = |prefix: &str, count: u32| {
        (1..=count)
            .map(|n| format!("{prefix} {n}\n"))
            .collect::<String>()
    };
    let files: [(&str, &str, Vec<u8>); 20] = [
        ("hello.txt", "100644", numbered("line", 20).into()),
        (
            "unicode.txt",
            "100644",
            "héllo wörld\nсъешь ещё\n日本語 テキスト\nplain\n".into(),
        ),
        ("latin1.txt", "100644", "café crème\nplain\nthird\n".into()),
        ("noeol.txt", "100644", "alpha\nbeta\ngamma".into()),
        ("with space.txt", "100644", "a\nb\nc\n".into()),
        ("old_name.txt", "100644", numbered("rename me", 6).into()),
        ("old_pure.txt", "100644", "pure\n".into()),
        ("copysrc.txt", "100644", numbered("copy src", 7).into()),
        (
            "crlf.txt",
            "100644",
            "one\r\ntwo\r\nthree\r\nfour\r\n".into(),
        ),
        ("todelete.txt", "100644", "bye\nbye\n".into()),
        ("script.sh", "100644", "#!/bin/sh\n".into()),
        ("stack.txt", "100644", numbered("stack line", 10).into()),
        ("data.bin", "100644", fixture("data.bin.before")),
        ("dir/file", "100644", "in\na\ndirectory\n".into()),
        ("dir/sub/deep", "100644", "deep\n".into()),
        ("a c/d e", "100755", "x\ny\n".into()),
        ("x y", "100644", "x\ny\n".into()),
        ("link", "120000", "hello.txt".into()),
        (
            "odd.txt",
            "100644",
            "a\x0cb\x0bc\n\u{2028}\u{85}\n\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n".into(),
        ),
        ("empty", "100644", Vec::new()),
    ];
    let mut patch = Vec::new();
    for (path, mode, content) in files {
        patch.extend(format!("diff --git a/{path} b/{path}\nnew file mode {mode}\n").into_bytes());
        if !content.is_empty() {
            patch.extend(worker::patch::encode(&content).expect("encoded"));
        }
    }
    patch
}

/// Patches of all forms, recorded and written by hand.
pub(super) fn patches() -> Vec<Vec<u8>> {
    let recorded = [
        "simple",
        "nocommit",
        "unicode",
        "raw-unicode",
        "latin1",
        "crlf",
        "raw-crlf",
        "noeol",
        "raw-noeol",
        "rename",
        "raw-rename",
        "binary",
        "raw-binary",
        "mixed",
        "modes",
        "stack1",
    ];
    let by_hand = include_str!("corpus.patches")
        .split("=====\n")
        .map(|patch| patch.as_bytes().to_vec());
    recorded
        .into_iter()
        .map(recorded_patch)
        .chain(by_hand)
        .collect()
}

fn recorded_patch(name: &str) -> Vec<u8> {
    let exchange: serde_json::Value =
        serde_json::from_slice(&fixture(&format!("differential.getrawdiff.{name}.json")))
            .expect("JSON");
    exchange["response"]["result"]
        .as_str()
        .expect("a patch")
        .as_bytes()
        .to_vec()
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name),
    )
    .expect("a fixture")
}

/// Lines that mean something to some reader of patches.
const LINES: [&[u8]; 64] = [
    b"",
    b"\r",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\0",
    b"\x1c",
    b"\xc2\x85",
    b"\xe2\x80\xa8",
    b"diff --git a/hello.txt b/hello.txt",
    b"diff --git a/.hg/hgrc b/.hg/hgrc",
    b"diff --git a/../x b/../x",
    b"diff --git a/link/x b/link/x",
    b"diff --git a/new b/new",
    b"diff --git \"a/q\" \"b/q\"",
    b"diff --git x y",
    b"diff -r 000000000000 -r 111111111111 hello.txt",
    b"diff -r 0 .hg/hgrc",
    b"Index: .hg/hgrc",
    b"Index: hello.txt",
    b"RCS file: x",
    b"retrieving revision 1.1",
    b"--- a/hello.txt",
    b"+++ b/hello.txt",
    b"--- /dev/null",
    b"+++ /dev/null",
    b"--- a/.hg/hgrc",
    b"+++ b/.hg/hgrc",
    b"--- a/hello.txt\tFri",
    b"+++ b/hello.txt ",
    b"*** a/hello.txt",
    b"*** /dev/null",
    b"***************",
    b"*** 0 ****",
    b"--- 1,1 ----",
    b"+ evil",
    b"! evil",
    b"@@ -0,0 +1 @@",
    b"@@ -0,0 +1,1 @@ From x",
    b"@@ -1 +1 @@",
    b"@@ -1,0 +1,0 @@",
    b"@@",
    b"+evil",
    b"-line 5",
    b" line 5",
    b"\\ No newline at end of file",
    b"\\ x",
    b"new file mode 100644",
    b"new file mode 120000",
    b"new file mode 160000",
    b"deleted file mode 100644",
    b"old mode 100644",
    b"new mode 120000",
    b"new mode 100755",
    b"rename from hello.txt",
    b"rename to .hg/hgrc",
    b"copy from hello.txt",
    b"copy to evil",
    b"GIT binary patch",
    b"literal 1",
    b"IcmZPo000310RR91",
    b"index 000..111 100644",
    b"similarity index 50%",
];

/// Lines of mails and exports, and comments.
const TEXTS: [&[u8]; 18] = [
    b"# HG changeset patch",
    b"# User Eve <eve@example.org>",
    b"# Date 0 0",
    b"# Branch evil",
    b"# comment",
    b"From eve@example.org Thu Jan  1 00:00:00 1970",
    b"From: Eve <eve@example.org>",
    b"Subject: [PATCH] evil",
    b"Content-Type: text/plain",
    b"Content-Type: multipart/mixed; boundary=x",
    b"--x",
    b"MIME-Version: 1.0",
    b"Content-Transfer-Encoding: base64",
    b"Content-Transfer-Encoding: quoted-printable",
    b"X-Mercurial-Node: 0",
    b"---",
    b"-- ",
    b"Binary files a/hello.txt and b/hello.txt differ",
];

/// Names of the base's files, valid names, and invalid ones.
const NAMES: [&[u8]; 57] = [
    b"hello.txt",
    b"noeol.txt",
    b"with space.txt",
    b"old_name.txt",
    b"old_pure.txt",
    b"copysrc.txt",
    b"data.bin",
    b"dir/file",
    b"dir",
    b"dir/sub",
    b"dir/sub/deep",
    b"a c/d e",
    b"x y",
    b"x b/y",
    b"link",
    b"link/x",
    b"hello.txt/x",
    b"empty",
    b"new",
    b"new/x",
    b"new/x/y",
    b"n b/n",
    b"n b/new b/n",
    b"caf\xe9",
    "日本/é".as_bytes(),
    b"a: b",
    b"From x",
    b"# HG changeset patch",
    b"rename to x",
    b"re:.*",
    b"glob:*",
    b"set:all()",
    b"path:hello.txt",
    b"-x",
    b"--config=x",
    b"{node}",
    b"\"q\"",
    b"a'b",
    b"a\xe2\x80\xa8b",
    b"a\xc2\x85b",
    b"a\xc2\xa0",
    b"\xc2\xa0a",
    b"a.",
    b"x:y",
    b"try_task_config.json",
    b".hgignore",
    b".hgtags",
    b".hgx",
    b"dev/null",
    b"../x",
    b".hg/hgrc",
    b".HG/x",
    b".hgsub",
    b"a//b",
    b"/dev/null",
    b"a\tb",
    b"a b",
];

/// One way to spoil a patch.
#[derive(Debug, Clone)]
pub(super) enum Spoil {
    Delete(Index),
    Duplicate(Index),
    Swap(Index, Index),
    Move(Index, Index),
    Insert(Index, Vec<u8>),
    /// Inserts another patch, or its last files, in front of a file or at the end.
    Join(Index, Index, Index),
    /// Replaces a name by another one, on all lines or on one only.
    Rename(Index, Index, Option<Index>),
    /// Replaces a digit of a line.
    Count(Index, Index, u8),
    /// Inserts a byte into a line, or at one of its ends.
    Byte(Index, Index, u8),
    /// Replaces a byte of a line.
    Replace(Index, Index, u8),
    /// Removes the modes of added and deleted files.
    WithoutModes,
    /// Adds a file that the patch deletes or moves away, in this form.
    AddAgain(Index, &'static str),
}

/// The forms of files that are added again.
const AGAIN: [&str; 4] = [
    "new file mode 120000\n--- /dev/null\n+++ b/NAME\n@@ -0,0 +1 @@\n+hello.txt\n\\ No newline at end of file\n",
    "--- /dev/null\n+++ b/NAME\n@@ -0,0 +1,2 @@\n+a\n+b\r\n",
    "new file mode 100755\n",
    "new file mode 100644\nGIT binary patch\nliteral 4\nLc$`aQNa6wj0#*Rd\n\n",
];

pub(super) fn spoil() -> impl Strategy<Value = Spoil> {
    let line = prop_oneof![
        4 => prop::sample::select(LINES.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::sample::select(TEXTS.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..12),
    ];
    let byte = prop::sample::select(b"\r\n\0\t\x0b\x0c\x1c\x85 /\\@+-a\"'.:\xe9".to_vec());
    let at = any::<Index>;
    prop_oneof![
        2 => at().prop_map(Spoil::Delete),
        1 => at().prop_map(Spoil::Duplicate),
        1 => (at(), at()).prop_map(|(a, b)| Spoil::Swap(a, b)),
        1 => (at(), at()).prop_map(|(a, b)| Spoil::Move(a, b)),
        3 => (at(), line).prop_map(|(a, line)| Spoil::Insert(a, line)),
        4 => (at(), at(), at()).prop_map(|(a, b, c)| Spoil::Join(a, b, c)),
        8 => (at(), at(), prop::option::weighted(0.2, at())).prop_map(|(a, b, c)| Spoil::Rename(a, b, c)),
        2 => (at(), at(), 0_u8..5).prop_map(|(a, b, number)| Spoil::Count(a, b, number)),
        2 => (at(), at(), byte.clone()).prop_map(|(a, b, byte)| Spoil::Byte(a, b, byte)),
        1 => (at(), at(), byte).prop_map(|(a, b, byte)| Spoil::Replace(a, b, byte)),
        1 => Just(Spoil::WithoutModes),
        2 => (at(), prop::sample::select(AGAIN.to_vec())).prop_map(|(a, form)| Spoil::AddAgain(a, form)),
    ]
}

/// A patch of the corpus, spoilt.
pub(super) fn spoilt(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let first = any::<Index>();
    (first, vec(spoil(), 0..5)).prop_map(move |(first, spoils)| {
        let start = lines_of(first.get::<Vec<u8>>(&corpus));
        let lines = spoils
            .iter()
            .fold(start, |lines, spoil| spoil.apply(lines, &corpus));
        lines.concat()
    })
}

/// The lines with their line breaks.
fn lines_of(patch: &[u8]) -> Vec<Vec<u8>> {
    patch
        .split_inclusive(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

impl Spoil {
    fn apply(&self, mut lines: Vec<Vec<u8>>, corpus: &[Vec<u8>]) -> Vec<Vec<u8>> {
        if lines.is_empty() {
            return lines;
        }
        let count = lines.len();
        match self {
            Self::Delete(at) => {
                lines.remove(at.index(count));
            }
            Self::Duplicate(at) => lines.insert(at.index(count), at.get(&lines).clone()),
            Self::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
            Self::Move(from, to) => {
                let line = lines.remove(from.index(count));
                lines.insert(to.index(count), line);
            }
            Self::Insert(at, line) => {
                lines.insert(at.index(count + 1), [line, b"\n".as_slice()].concat())
            }
            Self::Join(at, other, from) => {
                let sections = |lines: &[Vec<u8>]| -> Vec<usize> {
                    (0..lines.len())
                        .filter(|&at| lines[at].starts_with(b"diff --git"))
                        .collect()
                };
                let mut other = lines_of(other.get::<Vec<u8>>(corpus));
                let starts = sections(&other);
                if !starts.is_empty() {
                    other.drain(..*from.get(&starts));
                }
                let mut places = sections(&lines);
                places.push(count);
                let place = *at.get(&places);
                lines.splice(place..place, other);
            }
            Self::Rename(from, to, only) => {
                let there: Vec<&[u8]> = NAMES
                    .into_iter()
                    .filter(|name| lines.iter().any(|l| holds(l, name)))
                    .collect();
                if there.is_empty() {
                    return lines;
                }
                let (from, to) = (*from.get(&there), *to.get(&NAMES));
                let held: Vec<usize> = (0..count).filter(|&at| holds(&lines[at], from)).collect();
                let only = only.map(|only| *only.get(&held));
                for at in held
                    .into_iter()
                    .filter(|at| only.is_none_or(|only| only == *at))
                {
                    lines[at] = replace(&lines[at], from, to);
                }
            }
            Self::Count(at, which, number) => {
                let line = &mut lines[at.index(count)];
                let digits: Vec<usize> = (0..line.len())
                    .filter(|&at| line[at].is_ascii_digit())
                    .collect();
                if !digits.is_empty() {
                    line[*which.get(&digits)] = b'0' + number;
                }
            }
            Self::Byte(at, column, byte) => {
                let line = &mut lines[at.index(count)];
                line.insert(column.index(line.len() + 1), *byte);
            }
            Self::Replace(at, column, byte) => {
                let line = &mut lines[at.index(count)];
                if !line.is_empty() {
                    let column = column.index(line.len());
                    line[column] = *byte;
                }
            }
            Self::WithoutModes => {
                let gives_mode = |line: &[u8]| {
                    [b"new file mode".as_slice(), b"deleted file mode"]
                        .iter()
                        .any(|start| line.starts_with(start))
                };
                lines.retain(|line| !gives_mode(line));
            }
            Self::AddAgain(at, form) => {
                let gone: Vec<Vec<u8>> = lines
                    .windows(2)
                    .filter_map(|pair| {
                        let moved = pair[0].strip_prefix(b"rename from ");
                        moved.or_else(|| {
                            pair[0]
                                .strip_prefix(b"--- a/")
                                .filter(|_| pair[1].starts_with(b"+++ /dev/null"))
                        })
                    })
                    .map(|name| name.trim_ascii_end().to_vec())
                    .collect();
                if gone.is_empty() {
                    return lines;
                }
                let name = gone[at.index(gone.len())].as_slice();
                lines.push([b"\ndiff --git a/", name, b" b/", name, b"\n"].concat());
                lines.extend(lines_of(&replace(form.as_bytes(), b"NAME", name)));
            }
        }
        lines
    }
}

fn holds(line: &[u8], name: &[u8]) -> bool {
    line.windows(name.len()).any(|window| window == name)
}

fn replace(line: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        replaced.extend(&rest[..at]);
        replaced.extend(to);
        rest = &rest[at + from.len()..];
    }
    replaced.extend(rest);
    replaced
}
