//! Stacks of patches, the same for both sides.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
};

use build::{
    Build, BuildRequest, Diff, Patch, PatchContent, PatchFile, Phid, Revision, VersionControl,
};
use parking_lot::Mutex;
use runtime::{Clock, SystemClock};

use crate::{
    content::{KEPT, change, directory, path},
    stage::Stage,
};

/// The author of every patch.
pub const AUTHOR: &str = "Ada <ada@example.org>";

/// The patches of all builds, by the numbers of their diffs: there is no Phabricator to load them from.
static PATCHES: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());

/// Stores the patches of a build in `directory`.
pub fn store(build: &Build, directory: &Path) -> io::Result<Vec<PatchContent>> {
    let known = PATCHES.lock();
    let stored = build.stack.iter().enumerate().map(|(place, patch)| {
        let mut file = PatchFile::create(directory, place)?;
        let content = known.get(&patch.diff.id).ok_or(io::ErrorKind::NotFound)?;
        file.write_all(content.as_bytes())?;
        Ok(PatchContent {
            author: Some(AUTHOR.to_owned()),
            message: message(patch.revision_id),
            file: file.finish(),
        })
    });
    stored.collect()
}

/// The message of a revision's patch.
pub fn message(revision_id: u64) -> String {
    format!("Bug {revision_id} - Do it")
}

pub struct Stack {
    /// Tells stacks apart.
    pub number: u64,
    vcs: VersionControl,
    /// Each one changes a file and adds one.
    pub patches: Vec<String>,
    /// The commit they are made on.
    base: String,
}

impl Stack {
    pub fn new(stage: &Stage, number: u64, length: usize) -> Self {
        // Steps that share no factor with a number of files: no two patches of a stack change the same one.
        let file = |at: usize| {
            (at * 104_729 + usize::try_from(number).expect("small") * 7_919) % stage.shape.files
        };
        let patch = |at: usize| {
            let (file, text) = (file(at), format!("stack {number}, patch {at}"));
            let mut patch = String::new();
            change(
                &mut patch,
                &path(file),
                &mut stage.content.file(file),
                KEPT - 2,
                text.clone(),
            );
            let added = format!("{}/added-{number}-{at}.txt", directory(file));
            patch + &add(&added, &[&text])
        };
        Self {
            number,
            patches: (0..length).map(patch).collect(),
            vcs: stage.vcs.kind(),
            base: stage.tip.clone(),
        }
    }

    pub fn of(stage: &Stage, number: u64, patches: Vec<String>) -> Self {
        Self {
            number,
            patches,
            vcs: stage.vcs.kind(),
            base: stage.tip.clone(),
        }
    }

    /// A stack of one patch, which adds files of `stage`'s lines until it has `bytes`.
    pub fn huge(stage: &Stage, number: u64, bytes: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(number);
        let mut patch = String::with_capacity(bytes + (2 << 20));
        for file in 0.. {
            let lines: Vec<&str> = (0..16_000)
                .map(|_| stage.content.line(&mut random))
                .collect();
            patch.push_str(&add(&format!("huge/file{file}.txt"), &lines));
            if patch.len() >= bytes {
                break;
            }
        }
        Self {
            number,
            patches: vec![patch],
            vcs: stage.vcs.kind(),
            base: stage.tip.clone(),
        }
    }

    /// The build that brings it to the worker.
    pub fn build(&self, repository: Phid) -> Build {
        let phid = |kind: &str, number: u64| {
            Phid::parse(&format!("PHID-{kind}-{number:020}")).expect("a PHID")
        };
        let patches = self.patches.iter().zip(1..).map(|(content, at)| {
            let revision_id = self.number * 100 + at;
            let diff = Diff {
                id: revision_id,
                phid: phid("DIFF", revision_id),
                created_at: SystemClock.now(),
                base: Some(self.base.clone()),
            };
            PATCHES.lock().insert(diff.id, content.clone());
            Patch {
                revision_id,
                diff,
                message: None,
                abandoned: false,
            }
        });
        let stack: Vec<Patch> = patches.collect();
        let Patch {
            revision_id, diff, ..
        } = stack.last().expect("a stack has patches").clone();
        let request = BuildRequest {
            target: phid("HMBT", revision_id),
            diff_id: diff.id,
            repository,
            revision_id,
            accepted_at: SystemClock.now(),
            staged: None,
        };
        let revision = Revision {
            id: revision_id,
            phid: phid("DREV", revision_id),
            url: format!("https://phabricator.example.org/D{revision_id}"),
            author: phid("USER", 1),
            reviewers: Vec::new(),
        };
        Build {
            request,
            vcs: self.vcs,
            revision,
            diff,
            stack,
            landed: Vec::new(),
        }
    }
}

/// A patch that adds a file.
pub fn add(path: &str, lines: &[&str]) -> String {
    let (count, added) = (lines.len(), lines.join("\n+"));
    format!(
        "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{count} @@\n+{added}\n"
    )
}
