//! A source and its Try with Git.
//!
//! Try has refs of other people, which no build may touch. It logs each write of a ref, so a ref that was written twice
//! shows that. A hook keeps the log of a ref that is deleted, which Git removes with the ref.

mod oracle;

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use async_trait::async_trait;
use runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::repositories::Repositories;

use self::oracle::Oracle;
use super::{
    Content, SourceAndTry,
    reflog::{self, Writes},
    run_git,
};
use crate::pipeline::{
    child_processes,
    vcs::Vcs,
    verify::{Head, Try},
};

/// The file that the last commit of a build adds, where builds have such a commit.
const FILE: &str = "ci/build.txt";

/// The directory with the logs of deleted refs at Try.
const DELETED: &str = "deleted";

/// The hook `reference-transaction`, which keeps them. It runs in the repository, while refs are locked (`prepared`), and
/// before a push is answered (`committed`). It takes a moment, so that a kill at Try often comes between these steps.
const HOOK: &str = r#"#!/bin/sh
sleep 0.03
[ "$1" = prepared ] || exit 0
while read -r _ new ref; do
    case $new in *[!0]*) continue ;; esac
    [ ! -e "logs/$ref" ] || { mkdir -p "deleted/${ref%/*}" && cp "logs/$ref" "deleted/$ref"; }
done
"#;

/// How long programs may serve Try after those that served it were killed.
const BUSY: Duration = Duration::from_secs(30);
/// How often that is checked.
const LOOK: Duration = Duration::from_millis(5);

pub(super) struct Git {
    repositories: Repositories,
    /// The refs of Try that are other people's, each with its object and its log.
    foreign: BTreeMap<String, (String, String)>,
    /// Whether the last commit of a build adds [`FILE`].
    has_file: bool,
}

impl Git {
    /// Puts refs of other people on Try.
    pub(super) async fn prepare(
        repositories: Repositories,
        has_file: bool,
    ) -> anyhow::Result<Self> {
        let at_try = &repositories.try_repository;
        run_git(at_try, &["config", "core.logAllRefUpdates", "always"]).await?;
        let hook = at_try.join("hooks/reference-transaction");
        fs::create_dir_all(at_try.join("hooks"))
            .and_then(|()| fs::write(&hook, HOOK))
            .and_then(|()| fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", hook.display()))?;
        for (name, commit) in [
            ("refs/heads/release", "main~1"),
            ("refs/tags/v1", "main"),
            ("refs/tags/phabricator/base/1", "main~1"),
            ("refs/notes/commits", "main"),
            ("refs/pull/1/head", "main"),
            // Beside the refs of builds, where some of them are to be expected, and where one of them could be.
            ("refs/heads/phabricator/release", "main"),
            ("refs/heads/phabricator/D1/notes", "main~1"),
            ("refs/heads/phabricator/D4000000/4000000", "main"),
        ] {
            run_git(at_try, &["update-ref", name, commit]).await?;
        }
        run_git(
            at_try,
            &["tag", "--annotate", "--message=Two", "v2", "main"],
        )
        .await?;
        let mut made = Self {
            repositories,
            foreign: BTreeMap::new(),
            has_file,
        };
        made.foreign = made.refs().await?;
        Ok(made)
    }

    /// The refs of Try, and where its `HEAD` leads, each with its object and its log.
    async fn refs(&self) -> anyhow::Result<BTreeMap<String, (String, String)>> {
        let at_try = &self.repositories.try_repository;
        let refs = ["for-each-ref", "--format=%(refname) %(objectname)"];
        let refs = run_git(at_try, &refs).await?;
        let mut found = BTreeMap::new();
        for (name, object) in refs.lines().filter_map(|line| line.split_once(' ')) {
            let log = self.log("logs", name)?.unwrap_or_default();
            found.insert(name.to_owned(), (object.to_owned(), log));
        }
        let head = run_git(at_try, &["symbolic-ref", "HEAD"]).await?;
        found.insert("HEAD".to_owned(), (head, String::new()));
        Ok(found)
    }

    /// The log of a ref in a directory of Try.
    fn log(&self, directory: &str, name: &str) -> anyhow::Result<Option<String>> {
        let path = self.repositories.try_repository.join(directory);
        match fs::read_to_string(path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            log => {
                Ok(Some(log.with_context(|| {
                    format!("cannot read the log of {name}")
                })?))
            }
        }
    }

    /// The writes of the ref of a build, or what is wrong with them. The ref of a closed revision may be deleted.
    fn writes(
        &self,
        refs: &BTreeMap<String, (String, String)>,
        build: &Content,
    ) -> anyhow::Result<Result<Writes, String>> {
        let name = build.reference();
        let deleted = self.log(DELETED, &name)?;
        Ok(match (refs.get(&name), deleted) {
            (None, None) => Ok(Writes::default()),
            (Some((now, log)), deleted) => {
                // A deletion that was cut off has kept a part of the log.
                if deleted.is_some_and(|deleted| !log.starts_with(&deleted)) {
                    Err("was deleted, and made again".to_owned())
                } else {
                    reflog::read(log, now)
                }
            }
            (None, Some(_)) if !build.closes => Err("was deleted".to_owned()),
            (None, Some(log)) => {
                let last = log.lines().last().and_then(|line| line.split(' ').nth(1));
                reflog::read(&log, last.unwrap_or_default())
            }
        })
    }

    /// What is wrong with refs of other people, and with the two repositories as such.
    async fn inspect(
        &self,
        refs: &BTreeMap<String, (String, String)>,
    ) -> anyhow::Result<Vec<(String, String)>> {
        let mut wrong = Vec::new();
        for (name, before) in &self.foreign {
            let now = refs.get(name);
            if now != Some(before) {
                let what = format!("is not ours, was {before:?}, and is {now:?}");
                wrong.push((name.clone(), what));
            }
        }
        let at_try = &self.repositories.try_repository;
        if let Err(error) = run_git(at_try, &["fsck", "--no-dangling", "--no-progress"]).await {
            wrong.push(("Try".to_owned(), format!("is damaged: {error:#}")));
        }
        let source = &self.repositories.source;
        let refs = run_git(source, &["for-each-ref", "--format=%(refname)"]).await?;
        if refs.trim() != "refs/heads/main" {
            wrong.push(("the source".to_owned(), format!("has the refs {refs:?}")));
        }
        Ok(wrong)
    }
}

#[async_trait]
impl SourceAndTry for Git {
    fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    fn keys(&self, try_url: String) -> Value {
        let mut keys = json!({
            "vcs": "git",
            "destination": { "git": { "url": try_url } },
            "jobs_url": "https://ci.example.com/{branch}/{commit}",
        });
        if self.has_file {
            keys["try_file"] = json!({ "path": FILE, "template": "{{ build.phid }}" });
        }
        keys
    }

    async fn history(&self) -> anyhow::Result<Vec<String>> {
        let history = run_git(&self.repositories.source, &["rev-list", "main"]).await?;
        Ok(history.lines().map(str::to_owned).collect())
    }

    async fn commit(&self) -> anyhow::Result<()> {
        let arguments = ["commit", "--quiet", "--all", "--message=Go on"];
        run_git(&self.repositories.source, &arguments).await?;
        Ok(())
    }

    /// Removes the locks of refs whose program was killed: Git does not know that nobody holds them any more, and would
    /// refuse each later push to such a ref.
    async fn recover_try(&self) -> anyhow::Result<()> {
        let at_try = &self.repositories.try_repository;
        let is_busy = || !child_processes::servers_of(Vcs::Git, at_try).is_empty();
        let until = SystemClock.now().checked_add(BUSY)?;
        while SystemClock.now() < until {
            // A lock that was there while no program was is nobody's.
            if !is_busy() {
                let mut locks = Vec::new();
                find_locks(at_try, &mut locks)?;
                find_locks(&at_try.join("refs"), &mut locks)?;
                if !is_busy() {
                    for lock in locks {
                        fs::remove_file(&lock)
                            .with_context(|| format!("cannot remove {}", lock.display()))?;
                    }
                    return Ok(());
                }
            }
            SystemClock.sleep(LOOK).await;
        }
        bail!("programs serve Try without a pause");
    }

    async fn pushed(&self, builds: &[&Content]) -> anyhow::Result<Try> {
        let refs = self.refs().await?;
        let oracle = Oracle::make(&self.repositories, self.has_file).await?;
        let mut pushed = Try {
            own_commits: usize::from(self.has_file),
            wrong: self.inspect(&refs).await?,
            ..Try::default()
        };
        for name in refs.keys() {
            let is_ours = builds.iter().any(|build| build.reference() == *name);
            if !is_ours && !self.foreign.contains_key(name) {
                let what = "is a ref of no build".to_owned();
                pushed.wrong.push((name.clone(), what));
            }
        }
        let mut seen = HashSet::new();
        for build in builds {
            let name = build.reference();
            // A restarted build has the ref of the first one.
            if !seen.insert(name.clone()) {
                continue;
            }
            let writes = match self.writes(&refs, build)? {
                Ok(writes) => writes,
                Err(what) => {
                    pushed.wrong.push((name, what));
                    continue;
                }
            };
            pushed.cut_off_writes += writes.cut_off;
            for node in &writes.objects {
                let (target, faults) = oracle.examine(node, build).await?;
                let faults = faults.into_iter();
                let faults = faults.map(|what| (name.clone(), format!("had {node}, which {what}")));
                pushed.wrong.extend(faults);
                pushed.heads.push(Head {
                    diff: build.diff().to_owned(),
                    link: format!("https://ci.example.com/{}/{node}", build.branch()),
                    target,
                    replaced: writes.objects.last() != Some(node),
                    node: node.clone(),
                });
            }
        }
        pushed.changesets = oracle.count(&pushed.heads).await?;
        Ok(pushed)
    }
}

impl Content {
    /// The ref of the build.
    fn reference(&self) -> String {
        format!("refs/heads/{}", self.branch())
    }

    fn branch(&self) -> String {
        format!("phabricator/D{}/{}", self.revision_id, self.diff_id)
    }

    /// The diff that is built.
    fn diff(&self) -> &str {
        self.patches.last().map_or("", |(diff, _)| diff.as_str())
    }
}

/// Finds the lock files in a directory; below `refs` also those in its directories.
fn find_locks(directory: &Path, locks: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let read = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(read)? {
        let entry = entry.with_context(read)?;
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "lock") {
            locks.push(path);
        } else if directory
            .components()
            .any(|part| part.as_os_str() == "refs")
            && entry.file_type().with_context(read)?.is_dir()
        {
            find_locks(&path, locks)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
