//! Random files, and random changes of them.

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use fastrand::Rng;
use gix::{ObjectId, objs::tree::EntryKind};

/// The source of all choices.
pub(super) struct Random {
    rng: Rng,
    /// Whether texts have two different lines only, so that a hunk fits at many places.
    dense: bool,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let dense = rng.u8(..3) == 0;
        Self { rng, dense }
    }
}

impl Deref for Random {
    type Target = Rng;

    fn deref(&self) -> &Rng {
        &self.rng
    }
}

impl DerefMut for Random {
    fn deref_mut(&mut self) -> &mut Rng {
        &mut self.rng
    }
}

/// A file, a symbolic link, or a submodule, whose content is the digits of its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) kind: EntryKind,
    pub(super) content: Vec<u8>,
}

impl File {
    pub(super) fn id(&self) -> ObjectId {
        match self.kind {
            EntryKind::Commit => ObjectId::from_hex(&self.content).unwrap(),
            _ => {
                let kind = gix::objs::Kind::Blob;
                gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, &self.content).unwrap()
            }
        }
    }
}

/// Files by their paths.
pub(super) type Files = BTreeMap<Vec<u8>, File>;

const PATHS: [&str; 26] = [
    "a",
    "b",
    "c.txt",
    "d/e",
    "d/f",
    "d/g/h",
    "d/g/i",
    "d.x",
    "d-x/y",
    "d0",
    "with space",
    "sp ace/x y",
    "tab b/c",
    "ünï",
    "日本/語",
    "q\"uote",
    "back/sl ash",
    "z/1",
    "z/2",
    "z/3/4",
    "z/3/5/6",
    "link/x",
    "link",
    "a/b",
    "B",
    ".gitignore",
];

/// Lines from which texts are made. Some are often equal, so that a hunk fits at several places.
const LINES: [&str; 22] = [
    "",
    "",
    "",
    "}",
    "}",
    "{",
    "    return;",
    "fn x() {",
    "fn y() {",
    " ",
    "\t",
    "x ",
    "one",
    "two",
    "three",
    "-- a",
    "++ b",
    "@@ -1 +1 @@",
    "diff --git a/a b/a",
    "ünï",
    "\\ No newline at end of file",
    "foo\0bar",
];

pub(super) fn line(rng: &mut Random) -> Vec<u8> {
    if rng.dense {
        let line: &[u8] = if rng.u8(..3) == 0 { b"one" } else { b"}" };
        return line.to_vec();
    }
    match rng.u8(..10) {
        0..7 => {
            // Git takes a file with a NUL for a binary one.
            let known = if rng.u8(..100) == 0 {
                LINES.len()
            } else {
                LINES.len() - 1
            };
            LINES[rng.usize(..known)].as_bytes().to_vec()
        }
        _ => format!("line {}", rng.u8(..40)).into_bytes(),
    }
}

fn text(rng: &mut Random) -> Vec<u8> {
    let count = match rng.u8(..10) {
        0 => 0,
        1..3 => rng.usize(..3),
        3..9 => rng.usize(..40),
        _ => rng.usize(..120),
    };
    let mut lines: Vec<Vec<u8>> = (0..count).map(|_| line(rng)).collect();
    if rng.bool() && lines.len() > 4 {
        double(rng, &mut lines);
    }
    let end: &[u8] = if rng.u8(..6) == 0 { b"\r\n" } else { b"\n" };
    let mut text: Vec<u8> = lines
        .into_iter()
        .flat_map(|line| [line, end.to_vec()].concat())
        .collect();
    if rng.u8(..5) == 0 {
        text.pop();
    }
    text
}

/// Repeats a block of lines elsewhere.
fn double(rng: &mut Random, lines: &mut Vec<Vec<u8>>) {
    let start = rng.usize(..lines.len());
    let end = rng.usize(start..=lines.len().min(start + 12));
    let block = lines[start..end].to_vec();
    let at = rng.usize(..=lines.len());
    lines.splice(at..at, block);
}

fn binary(rng: &mut Random) -> Vec<u8> {
    let count = rng.usize(..400);
    let mut content: Vec<u8> = (0..count).map(|_| rng.u8(..)).collect();
    content.push(0);
    content
}

fn content(rng: &mut Random, kind: EntryKind) -> Vec<u8> {
    match kind {
        EntryKind::Commit => format!("{:040x}", rng.u128(..)).into_bytes(),
        EntryKind::Link => format!("target/{}", rng.u8(..20)).into_bytes(),
        _ if rng.u8(..8) == 0 => binary(rng),
        _ => text(rng),
    }
}

fn file(rng: &mut Random) -> File {
    let kind = match rng.u8(..20) {
        0..13 => EntryKind::Blob,
        13..16 => EntryKind::BlobExecutable,
        16..19 => EntryKind::Link,
        _ => EntryKind::Commit,
    };
    File {
        kind,
        content: content(rng, kind),
    }
}

/// Removes the files above and below a path.
fn clear(files: &mut Files, path: &[u8]) {
    let is_above = |above: &[u8], below: &[u8]| {
        below
            .strip_prefix(above)
            .is_some_and(|rest| rest.starts_with(b"/"))
    };
    files.retain(|other, _| !is_above(other, path) && !is_above(path, other));
}

fn put(files: &mut Files, path: Vec<u8>, file: File) {
    clear(files, &path);
    files.insert(path, file);
}

fn new_path(rng: &mut Random) -> Vec<u8> {
    match rng.u8(..4) {
        0 => format!("new/{}", rng.u8(..9)).into_bytes(),
        _ => PATHS[rng.usize(..PATHS.len())].as_bytes().to_vec(),
    }
}

fn some_path(rng: &mut Random, files: &Files) -> Option<Vec<u8>> {
    (!files.is_empty()).then(|| files.keys().nth(rng.usize(..files.len())).unwrap().clone())
}

pub(super) fn files(rng: &mut Random) -> Files {
    let mut files = Files::new();
    for _ in 0..rng.usize(1..9) {
        let path = new_path(rng);
        put(&mut files, path, file(rng));
    }
    files
}

/// Changes lines of a text, or bytes of another file.
fn edit_content(rng: &mut Random, file: &mut File) {
    match file.kind {
        EntryKind::Commit | EntryKind::Link => file.content = content(rng, file.kind),
        _ if file.content.contains(&0) && rng.u8(..4) > 0 => {
            let bytes = &mut file.content;
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..=bytes.len());
                let end = rng.usize(at..=bytes.len().min(at + 9));
                let new: Vec<u8> = (0..rng.usize(..9)).map(|_| rng.u8(..)).collect();
                bytes.splice(at..end, new);
            }
        }
        _ => edit_text(rng, &mut file.content),
    }
}

fn edit_text(rng: &mut Random, text: &mut Vec<u8>) {
    let crlf = text.windows(2).any(|pair| pair == b"\r\n");
    let mut lines: Vec<Vec<u8>> = text
        .split_inclusive(|&byte| byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let new_line = |rng: &mut Random| {
        let mut line = line(rng);
        line.extend_from_slice(if crlf { b"\r\n" } else { b"\n" });
        line
    };
    for _ in 0..rng.usize(1..4) {
        let at = rng.usize(..=lines.len());
        let end = rng.usize(at..=lines.len().min(at + 3));
        match rng.u8(..12) {
            0..4 => {
                let new: Vec<_> = (0..rng.usize(..4)).map(|_| new_line(rng)).collect();
                lines.splice(at..end, new);
            }
            4..6 => _ = lines.splice(at..at, [new_line(rng)]),
            6..8 => _ = lines.drain(at..end),
            8 if !lines.is_empty() => double(rng, &mut lines),
            9 => {
                let last = lines.last_mut();
                if let Some(last) = last
                    && last.pop_if(|end| *end == b'\n').is_none()
                {
                    last.push(b'\n');
                }
            }
            10 => {
                if let Some(line) = lines.get_mut(at) {
                    match line.ends_with(b"\r\n") {
                        true => _ = line.remove(line.len() - 2),
                        false if line.ends_with(b"\n") => line.insert(line.len() - 1, b'\r'),
                        false => line.extend_from_slice(b" \n"),
                    }
                }
            }
            _ => {
                if let Some(line) = lines.get_mut(at) {
                    line.insert(0, b" x\t"[rng.usize(..3)]);
                }
            }
        }
    }
    // A line without a break may have come into the middle.
    *text = lines.concat();
}

/// Changes some files.
pub(super) fn edit(rng: &mut Random, files: &Files) -> Files {
    let mut new = files.clone();
    for _ in 0..rng.usize(1..5) {
        edit_once(rng, &mut new);
    }
    new
}

fn edit_once(rng: &mut Random, files: &mut Files) {
    let Some(path) = some_path(rng, files) else {
        return put(files, new_path(rng), file(rng));
    };
    let mut old = files[&path].clone();
    match rng.u8(..20) {
        0..9 => {
            edit_content(rng, &mut old);
            files.insert(path, old);
        }
        9..11 => put(files, new_path(rng), file(rng)),
        11 => _ = files.remove(&path),
        12..15 => {
            files.remove(&path);
            if rng.bool() {
                edit_content(rng, &mut old);
            }
            put(files, new_path(rng), old);
        }
        15..17 => {
            if rng.bool() {
                edit_content(rng, &mut old);
            }
            put(files, new_path(rng), old);
        }
        17 => {
            old.kind = match old.kind {
                EntryKind::Blob => EntryKind::BlobExecutable,
                EntryKind::BlobExecutable => EntryKind::Blob,
                kind => kind,
            };
            files.insert(path, old);
        }
        18 => _ = files.insert(path, file(rng)),
        _ => {
            // Two files change places.
            let Some(other) = some_path(rng, files) else {
                return;
            };
            let moved = files.insert(other, old);
            files.extend(moved.map(|moved| (path, moved)));
        }
    }
}
