//! The repositories in Git.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{DATE, MAIL, NAME};

/// Runs `git`, untouched by what the user has configured.
pub async fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let date = format!("{DATE} +0000");
    let output = Command::new("git")
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", NAME)
        .env("GIT_AUTHOR_EMAIL", MAIL)
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_NAME", NAME)
        .env("GIT_COMMITTER_EMAIL", MAIL)
        .env("GIT_COMMITTER_DATE", &date)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot start git: install Git (apt-get install git)")?;
    if !output.status.success() {
        bail!(
            "git {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) async fn init(directory: &Path, name: &str) -> anyhow::Result<()> {
    git(
        directory,
        &["init", "--quiet", "--initial-branch=main", name],
    )
    .await?;
    Ok(())
}

/// A bare repository with the history of the source.
pub(super) async fn destination(directory: &Path) -> anyhow::Result<()> {
    git(directory, &["clone", "--quiet", "--bare", "source", "try"]).await?;
    Ok(())
}

pub(super) async fn checkout(directory: &Path) -> anyhow::Result<()> {
    git(directory, &["clone", "--quiet", "source", "checkout"]).await?;
    Ok(())
}

pub(super) async fn rename(repository: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    git(repository, &["mv", from, to]).await?;
    Ok(())
}

pub(super) async fn commit(repository: &Path, title: &str) -> anyhow::Result<()> {
    git(repository, &["add", "--all"]).await?;
    let message = format!("--message={title}");
    git(repository, &["commit", "--quiet", &message]).await?;
    Ok(())
}

pub(super) async fn tip(repository: &Path) -> anyhow::Result<String> {
    let tip = git(repository, &["rev-parse", "HEAD"]).await?;
    Ok(tip.trim().to_owned())
}

/// The patch of the newest commit, as `arc` sends it.
pub(super) async fn patch(repository: &Path) -> anyhow::Result<String> {
    git(
        repository,
        &["diff", "--binary", "--full-index", "-M", "HEAD~1", "HEAD"],
    )
    .await
}

/// The commits that refs other than the source's branch name, each with its ref.
pub(super) async fn heads(destination: &Path) -> anyhow::Result<Vec<(String, Option<String>)>> {
    let refs = git(
        destination,
        &["for-each-ref", "--format=%(objectname) %(refname)"],
    )
    .await?;
    let heads = refs.lines().filter_map(|line| line.split_once(' '));
    Ok(heads
        .filter(|(_, name)| *name != "refs/heads/main")
        .map(|(commit, name)| (commit.to_owned(), Some(name.to_owned())))
        .collect())
}

pub(super) async fn pushed(destination: &Path) -> anyhow::Result<usize> {
    let commits = git(
        destination,
        &["rev-list", "--count", "--all", "^refs/heads/main"],
    )
    .await?;
    commits.trim().parse().context("git counts no commits")
}

pub(super) async fn log(destination: &Path) -> anyhow::Result<String> {
    git(
        destination,
        &[
            "log",
            "--graph",
            "--all",
            "--max-count=6",
            "--format=%h  %an: %s%d",
        ],
    )
    .await
}
