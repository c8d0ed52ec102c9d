//! Builds, and the patches of their stacks.

use build::{Build, BuildRequest, Diff, Patch, Revision};
use jiff::Timestamp;

use super::{KnownPatch, World, phid};
use crate::{Repository, Side};

/// A patch of a stack, with what it holds.
#[derive(Clone)]
pub struct TestPatch {
    pub revision_id: u64,
    pub diff: Diff,
    pub author: Option<String>,
    pub message: String,
    pub content: Vec<u8>,
    pub abandoned: bool,
}

impl<S: Side> World<S> {
    /// A patch for revision `D<number>`, made on the source's newest changeset.
    pub fn patch(&self, number: u64, content: impl Into<Vec<u8>>) -> TestPatch {
        TestPatch {
            revision_id: number,
            diff: Diff {
                id: number + 1000,
                phid: phid(&format!("PHID-DIFF-{number}")),
                created_at: "2026-11-21T11:00:00Z".parse().unwrap(),
                base: Some(self.source.newest()),
            },
            author: Some("Ada <ada@example.org>".to_owned()),
            message: format!("Bug {number} - Do it"),
            content: content.into(),
            abandoned: false,
        }
    }

    /// A build of a stack, for the revision of its last patch.
    pub fn build_of(&self, stack: Vec<TestPatch>) -> Build {
        let mut known = self.contents.known.lock();
        let keep = |patch: TestPatch| {
            let content = KnownPatch {
                author: patch.author,
                message: patch.message,
                content: patch.content,
            };
            known.insert(patch.diff.id, content);
            Patch {
                revision_id: patch.revision_id,
                diff: patch.diff,
                message: None,
                abandoned: patch.abandoned,
            }
        };
        let stack: Vec<Patch> = stack.into_iter().map(keep).collect();
        let top = stack.last().expect("a patch").clone();
        Build {
            request: BuildRequest {
                target: phid(&format!("PHID-HMBT-{}", top.revision_id)),
                diff_id: top.diff.id,
                repository: phid("PHID-REPO-central"),
                revision_id: top.revision_id,
                accepted_at: Timestamp::UNIX_EPOCH,
                staged: None,
            },
            vcs: self.settings.repositories[0].vcs.kind(),
            revision: Revision {
                id: top.revision_id,
                phid: phid(&format!("PHID-DREV-{}", top.revision_id)),
                url: format!("https://phabricator.example.org/D{}", top.revision_id),
                author: phid("PHID-USER-ada"),
                reviewers: Vec::new(),
            },
            diff: top.diff,
            stack,
            landed: Vec::new(),
        }
    }

    /// A build of one patch that can be applied.
    pub fn simple_build(&self, number: u64) -> Build {
        self.build_of(vec![self.patch(number, add("new.txt", "hello"))])
    }
}

/// A git patch that adds a file of one line.
pub fn add(path: &str, line: &str) -> String {
    add_mode(path, line, "100644")
}

pub fn add_mode(path: &str, line: &str, mode: &str) -> String {
    format!(
        "diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+{line}\n\\ No newline at end of file\n"
    )
}

/// A git patch that changes line 5 of `hello.txt`.
pub fn change(from: &str, to: &str) -> String {
    format!(
        "diff --git a/hello.txt b/hello.txt\n--- a/hello.txt\n+++ b/hello.txt\n@@ -4,3 +4,3 @@\n line 4\n-{from}\n+{to}\n line 6\n"
    )
}
