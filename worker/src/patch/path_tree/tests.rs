use super::*;
use crate::{
    TRY_CONFIG,
    patch::{FileChange, Modes, NewSize, Rules},
};

/// The tree with these paths, as far as it matters to `stack`.
fn tree(paths: &[&str], stack: &[ParsedPatch]) -> Tree {
    let mut paths = paths.to_vec();
    paths.sort_unstable();
    let mut filter = PathFilter::new(stack, Some(TRY_CONFIG));
    paths.iter().for_each(|path| filter.pass(path.as_bytes()));
    filter.tree()
}

fn patch(changes: &[(&str, Kind)]) -> ParsedPatch {
    let file = |(path, kind): &(&str, Kind)| FileChange {
        path: path.as_bytes().to_vec(),
        kind: kind.clone(),
        modes: Modes::default(),
        hunks: None,
        binary: None,
        index: None,
        size: NewSize::Changed {
            added: 0,
            removed: 0,
        },
    };
    ParsedPatch {
        rules: Rules::Mercurial,
        files: changes.iter().map(file).collect(),
        prepared: None,
    }
}

#[test]
fn no_file_lies_below_another() {
    let rename = |source: &str| Kind::Rename(source.as_bytes().to_vec());
    let copy = |source: &str| Kind::Copy(source.as_bytes().to_vec());
    let base = ["a", "d/e/f", "d/e/g", "d-e", "link", "z"];
    type Case<'a> = (
        &'a str,
        Vec<Vec<(&'a str, Kind)>>,
        Option<(&'a str, &'a str)>,
    );
    let table: Vec<Case<'_>> = vec![
        (
            "a file beside others",
            vec![vec![("d/e/h", Kind::Add), ("n/m", Kind::Add)]],
            None,
        ),
        (
            "a name that others begin with",
            vec![vec![("d/e/fg", Kind::Add), ("li", Kind::Add)]],
            None,
        ),
        (
            "below a link of the base",
            vec![vec![("link/x", Kind::Add)]],
            Some(("link/x", "link")),
        ),
        (
            "far below a file",
            vec![vec![("a/b/c/d", Kind::Add)]],
            Some(("a/b/c/d", "a")),
        ),
        (
            "a file for a directory",
            vec![vec![("d", Kind::Add)]],
            Some(("d", "d/e/f")),
        ),
        (
            "a copy for a directory",
            vec![vec![("d/e", copy("a"))]],
            Some(("d/e", "d/e/f")),
        ),
        (
            "below a link of the same patch",
            vec![vec![("l", Kind::Add), ("l/x", Kind::Add)]],
            Some(("l", "l/x")),
        ),
        (
            "below a link of an earlier patch",
            vec![vec![("l", Kind::Add)], vec![("l/x", Kind::Add)]],
            Some(("l/x", "l")),
        ),
        (
            "above a file of an earlier patch",
            vec![vec![("l/x", Kind::Add)], vec![("l", Kind::Add)]],
            Some(("l", "l/x")),
        ),
        (
            "below a file that went before",
            vec![vec![("link", Kind::Delete)], vec![("link/x", Kind::Add)]],
            None,
        ),
        (
            "below a file that moves there",
            vec![vec![("a/b", rename("a"))]],
            None,
        ),
        (
            "below a file that came back",
            vec![
                vec![("a", Kind::Delete)],
                vec![("a", Kind::Add)],
                vec![("a/b", Kind::Add)],
            ],
            Some(("a/b", "a")),
        ),
        (
            "for a directory that is emptied",
            vec![vec![
                ("d/e/f", Kind::Delete),
                ("d/e/g", Kind::Delete),
                ("d/e", Kind::Add),
            ]],
            None,
        ),
        (
            "for a directory that is nearly emptied",
            vec![vec![("d/e/f", Kind::Delete), ("d/e", Kind::Add)]],
            Some(("d/e", "d/e/g")),
        ),
        (
            "two files that change places",
            vec![
                vec![("a", rename("z")), ("z", rename("a"))],
                vec![("z/b", Kind::Add)],
            ],
            Some(("z/b", "z")),
        ),
        (
            "below our own file",
            vec![vec![("try_task_config.json/x", Kind::Add)]],
            Some(("try_task_config.json/x", "try_task_config.json")),
        ),
    ];
    for (case, patches, expected) in table {
        let stack: Vec<ParsedPatch> = patches.iter().map(|changes| patch(changes)).collect();
        let expected = expected.map_or(Ok(()), |(path, other)| {
            Err(Conflict {
                path: path.as_bytes().to_vec(),
                other: other.as_bytes().to_vec(),
                clash: Clash::Nesting,
            })
        });
        let mut tree = tree(&base, &stack);
        let found = stack.iter().try_for_each(|patch| tree.apply(patch));
        assert_eq!(found, expected, "{case}");
    }
}

#[test]
fn only_paths_that_matter_to_the_stack_are_kept() {
    let paths: Vec<String> = (0..2000)
        .map(|number| format!("dir{}/file{number}", number % 7))
        .collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let gone = Kind::Delete;
    let stack = [patch(&[
        ("dir3/file3", gone),
        ("dir3", Kind::Add),
        ("dir4/file4/x", Kind::Add),
        ("new", Kind::Add),
    ])];
    let tree = tree(&paths, &stack);
    let found: Vec<_> = tree
        .base
        .iter()
        .map(|path| String::from_utf8_lossy(path).into_owned())
        .collect();
    assert_eq!(found, ["dir3/file10", "dir3/file1004", "dir4/file4"]);
    assert!(!tree.has_last());
}

/// The tree with these paths, as a version control looks it up.
fn looked_up(paths: &[&str], stack: &[ParsedPatch]) -> Tree {
    let mut filter = PathFilter::new(stack, Some(TRY_CONFIG));
    let owned = |paths: Vec<&[u8]>| paths.into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let wanted = filter.wanted();
    let (files, enough) = (owned(wanted.paths), wanted.enough);
    let (mut directories, listed) = (owned(wanted.directories), owned(wanted.listed));
    for directory in listed {
        let directory = String::from_utf8(directory).expect("UTF-8");
        for path in paths {
            let inside = match directory.as_str() {
                "" => Some(*path),
                _ => path
                    .strip_prefix(&directory)
                    .and_then(|rest| rest.strip_prefix('/')),
            };
            let Some(inside) = inside else { continue };
            let length = path.len() - inside.len() + inside.find('/').unwrap_or(inside.len());
            if filter.keep_entry(&path.as_bytes()[..length], length < path.len()) {
                directories.push(path.as_bytes()[..length].to_vec());
            }
        }
    }
    for file in files
        .iter()
        .filter(|file| paths.iter().any(|path| path.as_bytes() == *file))
    {
        filter.keep(file);
    }
    for directory in directories {
        let inside = [&directory, &b"/"[..]].concat();
        let inside = paths
            .iter()
            .filter(|path| path.as_bytes().starts_with(&inside));
        inside
            .take(enough)
            .for_each(|path| filter.keep(path.as_bytes()));
    }
    filter.tree()
}

#[test]
fn paths_that_differ_by_case_only_are_refused_for_git() {
    let rename = |source: &str| Kind::Rename(source.as_bytes().to_vec());
    let base = [
        "Both",
        "README",
        "both",
        "text/a",
        "text/b",
        "link",
        "src/main.rs",
        "ünder",
    ];
    type Case<'a> = (
        &'a str,
        Vec<Vec<(&'a str, Kind)>>,
        Option<(&'a str, &'a str)>,
    );
    let table: Vec<Case<'_>> = vec![
        (
            "new names",
            vec![vec![("src/lib.rs", Kind::Add), ("new/x", Kind::Add)]],
            None,
        ),
        (
            "a file of the base",
            vec![vec![("readme", Kind::Add)]],
            Some(("readme", "README")),
        ),
        (
            "a file below",
            vec![vec![("src/Main.rs", Kind::Add)]],
            Some(("src/Main.rs", "src/main.rs")),
        ),
        (
            "a directory",
            vec![vec![("Text/c", Kind::Add)]],
            Some(("Text/c", "text")),
        ),
        (
            "a file for a directory",
            vec![vec![("SRC", Kind::Add)]],
            Some(("SRC", "src")),
        ),
        (
            "a directory for a link",
            vec![vec![("Link/x", Kind::Add)]],
            Some(("Link/x", "link")),
        ),
        (
            "beyond ASCII",
            vec![vec![("ÜNDER", Kind::Add)]],
            Some(("ÜNDER", "ünder")),
        ),
        (
            "what HFS+ ignores",
            vec![vec![("li\u{200d}nk", Kind::Add)]],
            Some(("li\u{200d}nk", "link")),
        ),
        (
            "two of one patch",
            vec![vec![("x/a", Kind::Add), ("x/A", Kind::Add)]],
            Some(("x/a", "x/A")),
        ),
        (
            "two directories of one patch",
            vec![vec![("x/a", Kind::Add), ("X/b", Kind::Add)]],
            Some(("x/a", "X")),
        ),
        (
            "two patches",
            vec![vec![("x", Kind::Add)], vec![("X", Kind::Add)]],
            Some(("X", "x")),
        ),
        (
            "our own file",
            vec![vec![("Try_Task_Config.json", Kind::Add)]],
            Some(("Try_Task_Config.json", "try_task_config.json")),
        ),
        (
            "a file that is spelled in another way",
            vec![vec![("Readme", rename("README"))]],
            None,
        ),
        (
            "a file that went before",
            vec![vec![("README", Kind::Delete)], vec![("readme", Kind::Add)]],
            None,
        ),
        (
            "a directory that is spelled in another way",
            vec![vec![
                ("Text/a", rename("text/a")),
                ("Text/b", rename("text/b")),
            ]],
            None,
        ),
        (
            "a directory that is spelled in another way in part",
            vec![vec![("Text/a", rename("text/a"))]],
            Some(("Text/a", "text")),
        ),
        (
            "both were there",
            vec![vec![("both", Kind::Delete)], vec![("both", Kind::Add)]],
            None,
        ),
        (
            "a change",
            vec![vec![("both", Kind::Modify), ("README", Kind::Modify)]],
            None,
        ),
    ];
    for (case, patches, expected) in table {
        let git = |rules| -> Vec<ParsedPatch> {
            patches
                .iter()
                .map(|changes| ParsedPatch {
                    rules,
                    ..patch(changes)
                })
                .collect()
        };
        let stack = git(Rules::Git { submodules: false });
        let expected = expected.map_or(Ok(()), |(path, other)| {
            Err(Conflict {
                path: path.as_bytes().to_vec(),
                other: other.as_bytes().to_vec(),
                clash: Clash::Spelling,
            })
        });
        for (how, mut tree) in [
            ("all", tree(&base, &stack)),
            ("looked up", looked_up(&base, &stack)),
        ] {
            let found = stack.iter().try_for_each(|patch| tree.apply(patch));
            assert_eq!(found, expected, "{case}, {how}");
        }
        let stack = git(Rules::Mercurial);
        let mut tree = tree(&base, &stack);
        let found = stack.iter().try_for_each(|patch| tree.apply(patch));
        assert_eq!(found, Ok(()), "{case}, for Mercurial");
    }
}

#[test]
fn tree_that_is_looked_up_is_the_one_that_is_passed() {
    let base = ["a", "d/e/f", "d/e/g", "d-e", "link", "z"];
    let copy = |source: &str| Kind::Copy(source.as_bytes().to_vec());
    for changes in [
        vec![("link/x", Kind::Add)],
        vec![("d", Kind::Add)],
        vec![("d/e", copy("a")), ("d/e/f", Kind::Delete)],
        vec![("D/e", Kind::Add), ("d/E/h", Kind::Add)],
    ] {
        for rules in [Rules::Mercurial, Rules::Git { submodules: true }] {
            let stack = [ParsedPatch {
                rules,
                ..patch(&changes)
            }];
            let (passed, looked_up) = (tree(&base, &stack), looked_up(&base, &stack));
            assert_eq!(passed.base, looked_up.base, "{changes:?}");
            assert_eq!(passed.entries, looked_up.entries, "{changes:?}");
        }
    }
}

#[test]
fn own_file_needs_its_directory() {
    let stack = [patch(&[("ci", Kind::Add)])];
    let mut tree = PathFilter::new(&stack, Some("ci/try.json")).tree();
    let conflict = tree
        .apply(&stack[0])
        .expect_err("a file where a directory is needed");
    assert_eq!(conflict.other, b"ci/try.json");
}
