//! The application of patches, on files and patches that often fit together.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use worker_git::fuzzing;

const PATHS: [&str; 8] = ["a", "b", "d/e", "d/f", "d/g/h", "d.x", "a/b", "link"];

/// Few, so that a hunk fits at many places.
const LINES: [&[u8]; 6] = [
    b"",
    b"}",
    b"one",
    b"two\r",
    b"\xe9",
    b"\\ No newline at end of file",
];

#[derive(Debug, Arbitrary)]
struct Input {
    files: Vec<File>,
    sections: Vec<Section>,
}

#[derive(Debug, Arbitrary)]
struct File {
    path: u8,
    kind: u8,
    text: Text,
}

#[derive(Debug, Arbitrary)]
enum Text {
    Lines { lines: Vec<u8>, ends: bool },
    Bytes(Vec<u8>),
}

/// The part of a patch about one file.
#[derive(Debug, Arbitrary)]
struct Section {
    path: u8,
    header: Header,
    hunks: Vec<Hunk>,
}

#[derive(Debug, Arbitrary)]
enum Header {
    Modify,
    Mode {
        old: u8,
        new: u8,
    },
    Add {
        mode: u8,
    },
    Delete {
        mode: u8,
    },
    Rename {
        from: u8,
    },
    Copy {
        from: u8,
    },
    /// Lines of a binary patch, or of anything.
    Raw(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
struct Hunk {
    old: u16,
    new: u16,
    lines: Vec<(u8, u8)>,
}

fn path(number: u8) -> &'static str {
    PATHS[usize::from(number) % PATHS.len()]
}

fn line(number: u8) -> &'static [u8] {
    LINES[usize::from(number) % LINES.len()]
}

fn mode(number: u8) -> &'static str {
    ["100644", "100755", "120000", "160000"][usize::from(number) % 4]
}

fn content(text: &Text) -> Vec<u8> {
    match text {
        Text::Lines { lines, ends } => {
            let mut content = lines
                .iter()
                .map(|&number| line(number))
                .collect::<Vec<_>>()
                .join(&b'\n');
            if *ends && !content.is_empty() {
                content.push(b'\n');
            }
            content
        }
        Text::Bytes(bytes) => bytes.clone(),
    }
}

fn write_section(section: &Section, patch: &mut Vec<u8>) {
    let new = path(section.path);
    let old = match section.header {
        Header::Rename { from } | Header::Copy { from } => path(from),
        _ => new,
    };
    let mut put = |text: &str| patch.extend_from_slice(text.as_bytes());
    put(&format!("diff --git a/{old} b/{new}\n"));
    let (mut before, mut after) = (format!("a/{old}"), format!("b/{new}"));
    match &section.header {
        Header::Modify => {}
        Header::Mode { old, new } => put(&format!(
            "old mode {}\nnew mode {}\n",
            mode(*old),
            mode(*new)
        )),
        Header::Add { mode: number } => {
            before = "/dev/null".to_owned();
            put(&format!("new file mode {}\n", mode(*number)));
        }
        Header::Delete { mode: number } => {
            after = "/dev/null".to_owned();
            put(&format!("deleted file mode {}\n", mode(*number)));
        }
        Header::Rename { .. } => put(&format!("rename from {old}\nrename to {new}\n")),
        Header::Copy { .. } => put(&format!("copy from {old}\ncopy to {new}\n")),
        Header::Raw(bytes) => patch.extend_from_slice(bytes),
    }
    if section.hunks.is_empty() {
        return;
    }
    patch.extend_from_slice(format!("--- {before}\n+++ {after}\n").as_bytes());
    for hunk in &section.hunks {
        let count = |signs: [u8; 2]| {
            let lines = hunk.lines.iter();
            lines
                .filter(|(sign, _)| signs.contains(&(sign % 3)))
                .count()
        };
        let (removed, added) = (count([0, 1]), count([0, 2]));
        let head = format!("@@ -{},{removed} +{},{added} @@\n", hunk.old, hunk.new);
        patch.extend_from_slice(head.as_bytes());
        for (sign, number) in &hunk.lines {
            patch.push([b' ', b'-', b'+'][usize::from(sign % 3)]);
            patch.extend_from_slice(line(*number));
            patch.push(b'\n');
            if sign % 16 == 15 {
                patch.extend_from_slice(b"\\ No newline at end of file\n");
            }
        }
    }
}

fuzz_target!(|input: Input| {
    let files: Vec<(&str, u8, Vec<u8>)> = input
        .files
        .iter()
        .map(|file| (path(file.path), file.kind, content(&file.text)))
        .collect();
    let mut patch = Vec::new();
    for section in &input.sections {
        write_section(section, &mut patch);
    }
    fuzzing::apply(&files, &patch);
});
