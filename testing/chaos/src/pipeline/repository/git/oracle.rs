//! What the head of a build has to be, by Git itself: `git apply` makes the tree of the stack on its base.

use std::{collections::HashSet, fs};

use anyhow::Context;
use tempfile::TempDir;
use testkit::repositories::Repositories;

use super::{Content, FILE, run_git};
use crate::pipeline::verify::Head;

/// A clone that has all objects of the source and of Try.
pub(super) struct Oracle {
    directory: TempDir,
    /// The commits of the source.
    history: HashSet<String>,
    has_file: bool,
}

/// A commit: its hash, its parents and its message.
struct Commit {
    id: String,
    parents: Vec<String>,
    message: String,
}

impl Oracle {
    pub(super) async fn make(repositories: &Repositories, has_file: bool) -> anyhow::Result<Self> {
        let source = &repositories.source;
        let directory = TempDir::new_in(source.parent().unwrap_or(source))
            .context("cannot make a directory")?;
        let place = directory.path().display().to_string();
        let clone = ["clone", "--quiet", "--shared", "--no-checkout", ".", &place];
        run_git(source, &clone).await?;
        let alternates = directory.path().join(".git/objects/info/alternates");
        let lent: String = [
            source.join(".git/objects"),
            repositories.try_repository.join("objects"),
        ]
        .iter()
        .map(|objects| format!("{}\n", objects.display()))
        .collect();
        fs::write(&alternates, lent)
            .with_context(|| format!("cannot write {}", alternates.display()))?;
        let history = run_git(directory.path(), &["rev-list", "origin/main"]).await?;
        Ok(Self {
            directory,
            history: history.lines().map(str::to_owned).collect(),
            has_file,
        })
    }

    /// How many commits these heads have that the source has not.
    pub(super) async fn count(&self, heads: &[Head]) -> anyhow::Result<usize> {
        let mut arguments = vec!["rev-list", "--count"];
        arguments.extend(heads.iter().map(|head| head.node.as_str()));
        arguments.extend(["--not", "origin/main"]);
        let count = self.git(&arguments).await?;
        count.trim().parse().context("git counts no commits")
    }

    /// The target that a head says it is for, and what is wrong with the head of a build: each as what it does.
    pub(super) async fn examine(
        &self,
        head: &str,
        build: &Content,
    ) -> anyhow::Result<(Option<String>, Vec<String>)> {
        let mut wrong = Vec::new();
        let count = build.patches.len() + usize::from(self.has_file);
        let commits = self.commits(head, count + 1).await?;
        let Some((base, ours)) = commits.split_last().filter(|(_, ours)| ours.len() == count)
        else {
            return Ok((None, vec![format!("has fewer commits than {count}")]));
        };
        if let Some(merge) = ours.iter().find(|commit| commit.parents.len() != 1) {
            wrong.push(format!("has the merge {}", merge.id));
        }
        if !self.history.contains(&base.id) {
            wrong.push(format!("is on {}, which the source does not have", base.id));
        }
        if let Some(named) = build.base.as_ref().filter(|named| **named != base.id) {
            wrong.push(format!("is on {}, and its stack names {named}", base.id));
        }
        // The commit with the file names the diff that is built.
        let diffs = build.patches.iter().map(|(diff, _)| diff.as_str());
        let diffs = diffs.chain(self.has_file.then(|| build.diff()));
        for (commit, diff) in ours.iter().rev().zip(diffs) {
            let line = format!("Differential Diff: {diff}");
            if !commit.message.lines().any(|found| found == line) {
                wrong.push(format!("has {} without {line:?}", commit.id));
            }
        }
        let target = if self.has_file {
            Some(self.git(&["show", &format!("{head}:{FILE}")]).await?)
        } else {
            None
        };
        let tree = self
            .git(&["rev-parse", &format!("{head}^{{tree}}")])
            .await?;
        let expected = self.tree(&base.id, build, target.as_deref()).await?;
        if tree != expected {
            wrong.push(format!(
                "has the tree {}, and its stack makes {}",
                tree.trim(),
                expected.trim()
            ));
        }
        Ok((target, wrong))
    }

    /// The newest commits of a head, the newest first.
    async fn commits(&self, head: &str, count: usize) -> anyhow::Result<Vec<Commit>> {
        let count = format!("--max-count={count}");
        let format = "--format=%H%x00%P%x00%B%x01";
        let log = self
            .git(&["log", "--first-parent", &count, format, head])
            .await?;
        let commit = |text: &str| {
            let mut fields = text.trim_start().splitn(3, '\0');
            Some(Commit {
                id: fields.next()?.to_owned(),
                parents: fields.next()?.split(' ').map(str::to_owned).collect(),
                message: fields.next()?.to_owned(),
            })
        };
        Ok(log.split('\u{1}').filter_map(commit).collect())
    }

    /// The tree of a stack on its base, with the file for this target.
    async fn tree(
        &self,
        base: &str,
        build: &Content,
        target: Option<&str>,
    ) -> anyhow::Result<String> {
        self.git(&["read-tree", base]).await?;
        let mut arguments = vec!["apply".to_owned(), "--cached".to_owned()];
        for (place, (_, patch)) in build.patches.iter().enumerate() {
            arguments.push(self.write(&format!("{place}.patch"), patch)?);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.git(&arguments).await?;
        if let Some(target) = target {
            let file = self.write("file", target)?;
            let blob = self.git(&["hash-object", "-w", &file]).await?;
            let entry = format!("100644,{},{FILE}", blob.trim());
            self.git(&["update-index", "--add", "--cacheinfo", &entry])
                .await?;
        }
        self.git(&["write-tree"]).await
    }

    /// Writes a file beside the clone's own; returns its name.
    fn write(&self, name: &str, text: &str) -> anyhow::Result<String> {
        let path = self.directory.path().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(name.to_owned())
    }

    async fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        run_git(self.directory.path(), arguments).await
    }
}
