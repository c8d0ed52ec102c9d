//! The commit that `default_revision` names at the source.

use std::fs;

use gix::ObjectId;
use worker::{Peer, WorkerError, disk::write_atomically, text};

use super::{BRANCHES, GitClone};
use crate::{
    program::SOURCE,
    quarantine::{self, git_dir},
    remote,
};

/// The names of `default_revision` for the default branch of the source.
pub(super) const DEFAULT_BRANCH: [&str; 2] = ["HEAD", "tip"];

/// The refs for which a `default_revision` may stand at the source, in the order in which they count. That of an
/// annotated tag is followed by its commit (`^{}`).
pub(crate) fn candidates(name: &str) -> Vec<String> {
    if DEFAULT_BRANCH.contains(&name) {
        vec!["HEAD".to_owned()]
    } else if name.starts_with("refs/") {
        vec![format!("{name}^{{}}"), name.to_owned()]
    } else {
        vec![
            format!("refs/heads/{name}"),
            format!("refs/tags/{name}^{{}}"),
            format!("refs/tags/{name}"),
        ]
    }
}

/// A name at the source.
struct Listed {
    commit: ObjectId,
    /// The ref, if it is not a branch.
    other: Option<String>,
    /// The default branch, if that was asked for.
    head: Option<String>,
}

impl GitClone {
    /// The commit that `default_revision` names at the source now. It is fetched if the clone lacks it.
    pub(crate) async fn default_revision(&mut self) -> Result<ObjectId, WorkerError> {
        let name = self.source.default_revision.clone();
        let listed = if text::is_hash(&name) {
            ObjectId::from_hex(name.as_bytes())
                .ok()
                .map(|commit| Listed {
                    commit,
                    other: Some(name.clone()),
                    head: None,
                })
        } else {
            self.list(&name).await?
        };
        let listed = listed.ok_or_else(|| self.unknown(&name))?;
        if let Some(head) = &listed.head {
            self.write_head(head)?;
        }
        let commit = listed.commit;
        let mut is_there = self.has_commit(commit).await?;
        if !is_there {
            self.fetch(&[BRANCHES], self.source.limits.transfer).await?;
            is_there = self.has_commit(commit).await?;
        }
        if !is_there && let Some(other) = &listed.other {
            let spec = if text::is_hash(other) {
                other.clone()
            } else {
                format!("+{other}:{other}")
            };
            match self.fetch(&[&spec], self.source.limits.transfer).await {
                // The source refuses hashes that it does not know.
                Err(WorkerError::Remote { .. }) if text::is_hash(other) => {
                    return Err(self.unknown(&name));
                }
                fetched => fetched?,
            }
            is_there = self.has_commit(commit).await?;
        }
        if !is_there {
            let words =
                format!("it is {commit} at the source, and a fetch did not bring such a commit");
            return Err(WorkerError::Remote {
                peer: Peer::Source,
                doing: format!("fetch {} of {}", remote::shown(&name), self.source.name),
                words,
            });
        }
        if commit != self.tip {
            self.write_tip(commit)?;
        }
        Ok(commit)
    }

    /// The commit and the ref that `name` stands for at the source.
    async fn list(&self, name: &str) -> Result<Option<Listed>, WorkerError> {
        let is_head = DEFAULT_BRANCH.contains(&name);
        let candidates = candidates(name);
        let mut arguments = vec!["ls-remote", "--quiet", "--symref", SOURCE];
        arguments.extend(candidates.iter().map(String::as_str));
        let doing = format!("list the branches of {}", self.source.name);
        let output = self
            .source
            .git
            .run(
                &git_dir(&self.directory),
                arguments,
                "git ls-remote",
                self.source.limits.transfer,
            )
            .await?;
        if output.code != 0 {
            return Err(remote::failure(Peer::Source, doing, &output));
        }
        let listed = output.text();
        let lines: Vec<(&str, &str)> = listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let found = candidates.iter().find_map(|candidate| {
            let is_it = |(value, name): &&(&str, &str)| name == candidate && text::is_hash(value);
            let (value, _) = lines.iter().find(is_it)?;
            Some((candidate, ObjectId::from_hex(value.as_bytes()).ok()?))
        });
        let head = lines.iter().find_map(|(value, name)| {
            let branch = value.strip_prefix("ref: ")?;
            (is_head && *name == "HEAD" && branch.starts_with("refs/heads/"))
                .then(|| branch.to_owned())
        });
        Ok(found.map(|(candidate, commit)| {
            let name = candidate.strip_suffix("^{}").unwrap_or(candidate);
            let is_fetched = is_head || name.starts_with("refs/heads/");
            Listed {
                commit,
                other: (!is_fetched).then(|| name.to_owned()),
                head,
            }
        }))
    }

    fn unknown(&self, name: &str) -> WorkerError {
        WorkerError::NoDefaultRevision {
            repository: self.source.name.clone(),
            revision: remote::shown(name),
        }
    }

    /// Writes the default branch of the source, if it is another one.
    fn write_head(&self, branch: &str) -> Result<(), WorkerError> {
        let (path, content) = (
            git_dir(&self.directory).join("HEAD"),
            quarantine::head(branch),
        );
        if fs::read(&path).is_ok_and(|old| old == content.as_bytes()) {
            return Ok(());
        }
        write_atomically(&path, content.as_bytes()).map_err(WorkerError::io(format!(
            "write the default branch of {}",
            self.source.name
        )))
    }
}
