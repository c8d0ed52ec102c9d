//! Compares our application of patches with `git apply --cached --binary`.
//!
//! The test makes random files, changes some of them, and lets Git make the patch of that. The patch is applied to the
//! files as they were, and to files that have changed since; then it is spoilt and applied again. Ours and Git's have
//! to agree on whether it fits, and on each entry of the tree that it makes. Patches that our reader refuses are left
//! out: it is stricter than Git's on purpose.

use std::{
    fmt::Write as _,
    hash::{BuildHasher, Hasher, RandomState},
    str::FromStr,
};

use gix::objs::tree::EntryKind;
use worker::{
    Limits,
    patch::{self, Rules},
};

use super::{
    git::{self, Entries, Lab},
    mutations,
    trees::{self, Files, Random},
};
use crate::apply::{Fault, Time, apply};

/// The cases that fit into a few seconds. `PROPTEST_CASES` sets another number, and `PROPTEST_RNG_SEED` the first seed.
const CASES: u32 = 1000;

/// The patches that one `git diff-tree` makes.
const BATCH: usize = 50;

/// The message of Git about a file that a patch names but does not change. Phabricator writes those.
const UNCHANGED: &str = "patch with only garbage";

/// What became of the patches. Without applied ones, the test shows nothing.
#[derive(Debug, Default)]
struct Seen {
    /// By our reader.
    refused: u32,
    /// By both.
    misfits: u32,
    applied: u32,
    /// Where the two differ on purpose.
    deliberate: u32,
}

/// One case: files, and a patch.
struct Case {
    files: Files,
    patch: Vec<u8>,
}

fn number<T: FromStr>(variable: &str) -> Option<T> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn patches_make_what_git_apply_makes_of_them() {
    let cases = number("PROPTEST_CASES").unwrap_or(CASES);
    let mut seed =
        number("PROPTEST_RNG_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let mut seen = Seen::default();
    let mut count = 0;
    while count < cases {
        // A lab of its own for each batch: the objects of thousands of trees would fill the disk.
        let mut lab = Lab::new();
        let batch = batch(&lab, seed);
        for case in batch {
            count += 1;
            if let Err(difference) = compare(&mut lab, &case, count % 8 == 0, &mut seen) {
                panic!(
                    "{difference}\nrun it again with PROPTEST_RNG_SEED={seed} PROPTEST_CASES=1:\n{}",
                    shown(&case)
                );
            }
        }
        seed = seed.wrapping_add(1);
    }
    println!("{seen:?}, the next seed is {seed}");
    assert!(
        seen.applied > cases / 5 && seen.misfits > cases / 20,
        "enough patches get through to show something: {seen:?}"
    );
}

/// The cases of one seed.
fn batch(lab: &Lab, seed: u64) -> Vec<Case> {
    let rng = &mut Random::new(seed);
    let olds: Vec<Files> = (0..BATCH).map(|_| trees::files(rng)).collect();
    let pairs: Vec<_> = olds
        .iter()
        .map(|old| {
            let new = trees::edit(rng, old);
            (git::write(&lab.bases, old), git::write(&lab.edits, &new))
        })
        .collect();
    let context = ["-U3", "-U1", "-U0", "-U10", "-U32767", "-U32767"][rng.usize(..6)];
    let moves: &[&str] = [
        &["-M"][..],
        &["-M", "-C", "--find-copies-harder"],
        &["-M20%", "-C20%", "--find-copies-harder"],
        &["--no-renames"],
    ][rng.usize(..4)];
    let patches = lab.diff(&[&[context], moves].concat(), &pairs);
    let mut cases = Vec::new();
    for (index, old) in olds.iter().enumerate() {
        let patch = &patches[index];
        let other = &patches[rng.usize(..patches.len())];
        let mut case = |files: &Files, patch: Vec<u8>| {
            git::write(&lab.bases, files);
            cases.push(Case {
                files: files.clone(),
                patch,
            });
        };
        case(old, patch.clone());
        case(&trees::edit(rng, old), patch.clone());
        case(old, mutations::spoil(rng, patch, other));
        let (moved, spoilt) = (trees::edit(rng, old), mutations::spoil(rng, patch, other));
        case(&moved, spoilt);
    }
    cases
}

/// Fails with the difference between Git and us.
fn compare(lab: &mut Lab, case: &Case, with_tree: bool, seen: &mut Seen) -> Result<(), String> {
    let limits = Limits {
        stack_bytes: 1 << 20,
        ..Limits::default()
    };
    let rules = Rules::Git { submodules: true };
    let Ok(parsed) = patch::scan(&case.patch, &limits, rules) else {
        seen.refused += 1;
        return Ok(());
    };
    let base = git::write(&lab.bases, &case.files);
    let ours = match apply(&lab.ours, base, &case.patch, &parsed, &Time::ample()) {
        Err(Fault::ChangesNothing) => Ok(base),
        ours => ours,
    };
    // Git refuses binary data without the names of both contents, or takes them for a comment.
    if parsed
        .files
        .iter()
        .any(|file| file.binary.is_some() && file.index.is_none())
    {
        seen.deliberate += 1;
        return Ok(());
    }
    let mode_of = |path: &[u8]| {
        git::mode(
            case.files
                .get(path)
                .map_or(EntryKind::Blob, |file| file.kind),
        )
    };
    let patch = mutations::for_git(&case.patch, mode_of);
    let theirs = lab.apply(&case.files, &patch, with_tree);
    match (ours, theirs) {
        (Ok(ours), Ok((theirs, tree))) => {
            seen.applied += 1;
            let entries = git::entries(&lab.ours, ours);
            if entries != theirs {
                return Err(format!(
                    "other files, ours:\n{}Git's:\n{}",
                    listed(&entries),
                    listed(&theirs)
                ));
            }
            match tree {
                Some(tree) if tree != ours => Err("another tree of the same files".to_owned()),
                _ => Ok(()),
            }
        }
        (Err(Fault::DoesNotApply(_)), Err(_)) => {
            seen.misfits += 1;
            Ok(())
        }
        (Ok(_), Err(words)) if words.contains(UNCHANGED) => {
            seen.deliberate += 1;
            Ok(())
        }
        (ours, theirs) => Err(format!("ours: {ours:?}\nGit's: {:?}", theirs.map(|_| ()))),
    }
}

fn listed(entries: &Entries) -> String {
    entries
        .iter()
        .fold(String::new(), |mut text, (mode, id, path)| {
            _ = writeln!(text, "  {mode:06o} {id} {}", path.escape_ascii());
            text
        })
}

fn shown(case: &Case) -> String {
    let mut text = String::new();
    for (path, file) in &case.files {
        let path = path.escape_ascii();
        _ = writeln!(
            text,
            "{:?} {path}: {}",
            file.kind,
            file.content.escape_ascii()
        );
    }
    text + &String::from_utf8_lossy(&case.patch)
}
