//! The bytes of the files that a stack makes, counted before Mercurial makes any.
//!
//! A patch of some kB can make gigabytes, by copies of a large file or by binary files that compress well. However
//! small the change of a file, Mercurial writes the whole file: to its temporary directory (the source of a copy or
//! rename too), to its memory, and to the store, from which the push reads it. So each file that a patch makes or
//! changes counts with its whole size. The base gives the sizes of files that the stack does not make itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::patch::{FileChange, Kind, NewSize, ParsedPatch};

/// The sizes of files of the base, in bytes.
pub type Sizes = HashMap<Vec<u8>, u64>;

/// A stack that makes more bytes of files than allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The bytes that it makes; a lower bound while the sizes of the base are unknown.
    pub bytes: u64,
    /// The bytes that are allowed.
    pub allowed: u64,
    /// The file with the largest part: its own bytes, and those of its copies and renames.
    pub largest: Vec<u8>,
    /// The bytes of that part.
    pub part: u64,
    /// The number of files of that part.
    pub files: u64,
}

/// The files whose sizes in the base [`check`] needs.
pub fn sized(stack: &[ParsedPatch]) -> BTreeSet<&[u8]> {
    let files = stack.iter().flat_map(|patch| &patch.files);
    files
        .filter(|file| matches!(file.size, NewSize::Changed { .. }))
        .filter_map(source)
        .collect()
}

/// Refuses a stack that makes more than `allowed` bytes of files on a base with these sizes. Otherwise returns, for
/// each patch, the sizes of its files before the patch: in bytes, in the order of the files, and 0 for a file that does
/// not exist.
pub fn check(stack: &[ParsedPatch], base: &Sizes, allowed: u64) -> Result<Vec<Vec<u64>>, TooLarge> {
    // The files that the stack has made so far: the size of each, and its origin (a file of the base, or the first one
    // that the stack made).
    let mut made: HashMap<&[u8], (u64, &[u8])> = HashMap::new();
    let mut parts: BTreeMap<&[u8], (u64, u64)> = BTreeMap::new();
    let mut bytes = 0_u64;
    let mut sizes = Vec::new();
    for patch in stack {
        let before = |path| {
            made.get(path)
                .copied()
                .unwrap_or_else(|| (base.get(path).copied().unwrap_or_default(), path))
        };
        let sources: Vec<_> = patch
            .files
            .iter()
            .map(|file| source(file).map_or((0, file.path.as_slice()), before))
            .collect();
        sizes.push(sources.iter().map(|(size, _)| *size).collect());
        let files = patch.files.iter().zip(sources);
        let after: Vec<_> = files
            .filter(|(file, _)| file.kind != Kind::Delete)
            .map(|(file, (size, origin))| (file.path.as_slice(), (file.size.after(size), origin)))
            .collect();
        for &(_, (size, origin)) in &after {
            bytes = bytes.saturating_add(size);
            let (part, files) = parts.entry(origin).or_default();
            *part = part.saturating_add(size);
            *files += 1;
        }
        made.extend(after);
    }
    if bytes <= allowed {
        return Ok(sizes);
    }
    let (largest, (part, files)) = parts
        .into_iter()
        .max_by_key(|(_, (part, _))| *part)
        .unwrap_or_default();
    Err(TooLarge {
        bytes,
        allowed,
        largest: largest.to_vec(),
        part,
        files,
    })
}

/// The file that a change is made from. Of deleted files, only one whose lines are compared.
fn source(file: &FileChange) -> Option<&[u8]> {
    match &file.kind {
        Kind::Modify => Some(&file.path),
        Kind::Delete if file.hunks.is_some() => Some(&file.path),
        Kind::Copy(source) | Kind::Rename(source) => Some(source),
        Kind::Add | Kind::Delete => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Limits,
        patch::{self, Rules},
    };

    const MB: u64 = 1_000_000;

    fn scanned(patches: &[&str]) -> Vec<ParsedPatch> {
        patches
            .iter()
            .map(|patch| {
                patch::scan(patch.as_bytes(), &Limits::default(), Rules::Mercurial)
                    .expect("a good patch")
            })
            .collect()
    }

    fn copy(from: &str, to: &str) -> String {
        format!("diff --git a/{from} b/{to}\ncopy from {from}\ncopy to {to}\n")
    }

    fn rename(from: &str, to: &str) -> String {
        copy(from, to).replace("copy", "rename")
    }

    /// A hunk that removes a line of ten bytes and adds `lines` lines of ten bytes.
    fn with_hunk(header: &str, path: (&str, &str), lines: usize) -> String {
        let (old, new) = path;
        let added = "+123456789\n".repeat(lines);
        format!("{header}--- a/{old}\n+++ b/{new}\n@@ -1,1 +1,{lines} @@\n-987654321\n{added}")
    }

    fn modify(path: &str, lines: usize) -> String {
        with_hunk(
            &format!("diff --git a/{path} b/{path}\n"),
            (path, path),
            lines,
        )
    }

    fn bytes(patches: &[&str]) -> u64 {
        let base = Sizes::from([(b"big".to_vec(), 13 * MB), (b"small".to_vec(), 1000)]);
        check(&scanned(patches), &base, 0)
            .expect_err("more than nothing")
            .bytes
    }

    #[test]
    fn each_file_counts_with_its_whole_size_afterwards() {
        let add = |path: &str, lines: usize| {
            let added = "+123456789\n".repeat(lines);
            format!(
                "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{lines} @@\n{added}"
            )
        };
        let edited = with_hunk(&copy("big", "c"), ("big", "c"), 3);
        let mode = "diff --git a/big b/big\nold mode 100644\nnew mode 100755\n";
        let deleted = "diff --git a/big b/big\ndeleted file mode 100644\n";
        let data = String::from_utf8(patch::encode(&[0; 5000]).expect("encoded")).expect("ascii");
        let binary = |header: &str| format!("{header}index 1..2\n{data}");
        let table: Vec<(&str, Vec<String>, u64)> = vec![
            ("a new file", vec![add("a", 7)], 70),
            ("a changed file", vec![modify("small", 3)], 1020),
            ("another mode", vec![mode.to_owned()], 13 * MB),
            (
                "copies",
                vec![copy("big", "c") + &copy("big", "d")],
                26 * MB,
            ),
            ("a rename", vec![rename("big", "c")], 13 * MB),
            ("a copy with an edit", vec![edited.clone()], 13 * MB + 20),
            (
                "a copy of a copy",
                vec![edited, copy("c", "d")],
                2 * (13 * MB + 20),
            ),
            (
                "a copy of a file that grew before",
                vec![modify("small", 101), copy("small", "d")],
                2 * 2000,
            ),
            (
                "a file that grows again and again",
                vec![modify("small", 101), modify("small", 101)],
                2000 + 3000,
            ),
            (
                "two files that change places",
                vec![rename("big", "small") + &rename("small", "big")],
                13 * MB + 1000,
            ),
            (
                "a binary file",
                vec![binary("diff --git a/big b/big\n")],
                5000,
            ),
            (
                "a binary copy",
                vec![binary(&copy("big", "c")), copy("c", "d")],
                10_000,
            ),
            (
                "a file of nowhere",
                vec![add("a", 1), copy("nowhere", "d")],
                10,
            ),
            (
                "a file that goes",
                vec![add("a", 1), deleted.to_owned()],
                10,
            ),
        ];
        for (case, patches, expected) in table {
            let patches: Vec<&str> = patches.iter().map(String::as_str).collect();
            assert_eq!(bytes(&patches), expected, "{case}");
        }
    }

    #[test]
    fn largest_part_is_named_with_all_copies() {
        let base = Sizes::from([(b"big".to_vec(), 13 * MB), (b"small".to_vec(), 1000)]);
        let copies: String = (0..120)
            .map(|number| copy("big", &format!("c{number}")))
            .collect();
        let stack = scanned(&[&modify("small", 1), &copies]);
        let expected = TooLarge {
            bytes: 120 * 13 * MB + 1000,
            allowed: 256 * MB,
            largest: b"big".to_vec(),
            part: 120 * 13 * MB,
            files: 120,
        };
        assert_eq!(check(&stack, &base, 256 * MB), Err(expected));
        let chain = scanned(&[
            &copy("big", "c"),
            &(copy("c", "d") + &copy("c", "e")),
            &rename("d", "f"),
        ]);
        let too_large = check(&chain, &base, 0).expect_err("more than nothing");
        assert_eq!((too_large.largest, too_large.files), (b"big".to_vec(), 4));
        let sizes = check(&stack, &base, 120 * 13 * MB + 1000).expect("as much as is allowed");
        assert_eq!(sizes, [vec![1000], vec![13 * MB; 120]]);
        let unknown = check(&stack, &Sizes::new(), 256 * MB);
        assert!(unknown.is_ok(), "nothing is known of the base yet");
        assert_eq!(sized(&stack), BTreeSet::from([b"big".as_slice(), b"small"]));
    }
}
