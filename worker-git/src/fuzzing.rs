//! What the fuzz targets call: see `fuzz/`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a fault that is found ends the fuzzer"
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use gix::{ObjectId, Repository, objs::tree::EntryKind};
use worker::{
    Limits,
    patch::{self, Rules},
};

use crate::apply::{self, Fault, Time};

/// The longest time for one patch. The fuzzer's own limit is longer.
const ALLOWED: Duration = Duration::from_secs(5);

thread_local! {
    static REPOSITORY: Repository = empty();
}

/// A repository whose objects are in memory.
fn empty() -> Repository {
    let home = tempfile::tempdir().expect("a directory").keep();
    gix::init_bare(&home).expect("a repository")
}

/// Applies a patch to files with these paths, kinds and contents. The last of two files that cannot be beside each
/// other stays. Panics when the result is not the same twice, or changes a file that the patch does not name.
pub fn apply(files: &[(&str, u8, Vec<u8>)], content: &[u8]) {
    let rules = Rules::Git { submodules: true };
    let Ok(parsed) = patch::scan(content, &Limits::default(), rules) else {
        return;
    };
    let repository = REPOSITORY.with(Clone::clone).with_object_memory();
    let mut editor = repository.empty_tree().edit().expect("an editor");
    for (path, kind, content) in files {
        let kind = match kind % 4 {
            0 | 1 => EntryKind::Blob,
            2 => EntryKind::BlobExecutable,
            _ => EntryKind::Link,
        };
        let id = repository.write_blob(content).expect("written").detach();
        editor.upsert(*path, kind, id).expect("an entry");
    }
    let base = editor.write().expect("a tree").detach();
    let run = || {
        let time = Time::new(ALLOWED, Arc::new(AtomicBool::new(false)));
        apply::apply(&repository, base, content, &parsed, &time)
    };
    match (run(), run()) {
        (Ok(tree), Ok(again)) => {
            assert_eq!(tree, again, "the same patch makes the same tree");
            let (before, mut after) = (entries(&repository, base), entries(&repository, tree));
            let touched: Vec<&[u8]> = parsed.touched().collect();
            for (path, entry) in before {
                if !touched.contains(&path.as_slice()) {
                    assert_eq!(after.remove(&path), Some(entry), "no other file is changed");
                }
            }
            for path in after.keys() {
                assert!(touched.contains(&path.as_slice()), "no other file is made");
            }
        }
        (Err(Fault::DoesNotApply(report)), Err(Fault::DoesNotApply(again))) => {
            assert_eq!(report, again, "the same patch has the same report");
        }
        (Err(Fault::ChangesNothing), Err(Fault::ChangesNothing)) => {}
        (one, other) => panic!("{one:?}, then {other:?}"),
    }
}

/// The files of a tree.
fn entries(repository: &Repository, tree: ObjectId) -> BTreeMap<Vec<u8>, (EntryKind, ObjectId)> {
    let tree = repository.find_tree(tree).expect("a tree");
    let files = tree.traverse().breadthfirst.files().expect("its files");
    files
        .into_iter()
        .filter(|file| !file.mode.is_tree())
        .map(|file| (file.filepath.to_vec(), (file.mode.kind(), file.oid)))
        .collect()
}
