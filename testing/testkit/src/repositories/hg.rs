//! The repositories in Mercurial.

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{AUTHOR, DATE, write};

/// Runs `hg`, untouched by what the user has configured.
pub async fn hg(directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("hg")
        .args(arguments)
        .current_dir(directory)
        .env("HGRCPATH", "")
        .env("HGPLAIN", "1")
        .env("HGENCODING", "UTF-8")
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot start hg: install Mercurial (apt-get install mercurial)")?;
    if !output.status.success() {
        bail!(
            "hg {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) async fn init(directory: &Path, name: &str) -> anyhow::Result<()> {
    hg(directory, &["init", name]).await?;
    Ok(())
}

/// A repository with the history of the source. Heads there are thrown away some day: they never become public.
pub(super) async fn destination(directory: &Path) -> anyhow::Result<()> {
    hg(
        directory,
        &["clone", "--quiet", "--noupdate", "source", "try"],
    )
    .await?;
    write(
        &directory.join("try/.hg/hgrc"),
        b"[phases]\npublish = False\n",
    )
    .await
}

pub(super) async fn checkout(directory: &Path) -> anyhow::Result<()> {
    hg(directory, &["clone", "--quiet", "source", "checkout"]).await?;
    Ok(())
}

pub(super) async fn rename(repository: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    hg(repository, &["rename", from, to]).await?;
    Ok(())
}

pub(super) async fn commit(repository: &Path, title: &str) -> anyhow::Result<()> {
    let (user, message) = (format!("--user={AUTHOR}"), format!("--message={title}"));
    let date = format!("--date={DATE} 0");
    hg(
        repository,
        &["commit", "--addremove", "--quiet", &date, &user, &message],
    )
    .await?;
    Ok(())
}

pub(super) async fn tip(repository: &Path) -> anyhow::Result<String> {
    hg(repository, &["log", "--rev=tip", "--template={node}"]).await
}

pub(super) async fn patch(repository: &Path) -> anyhow::Result<String> {
    hg(repository, &["diff", "--git", "--change=."]).await
}

/// The heads that are not public.
pub(super) async fn heads(destination: &Path) -> anyhow::Result<Vec<(String, Option<String>)>> {
    let heads = hg(
        destination,
        &[
            "log",
            "--rev=head() and not public()",
            "--template={node}\n",
        ],
    )
    .await?;
    Ok(heads.lines().map(|head| (head.to_owned(), None)).collect())
}

pub(super) async fn pushed(destination: &Path) -> anyhow::Result<usize> {
    Ok(
        hg(destination, &["log", "--rev=not public()", "--template=x"])
            .await?
            .len(),
    )
}

pub(super) async fn log(destination: &Path) -> anyhow::Result<String> {
    let template = "--template={node|short}  {author|person}: {desc|firstline}\n";
    hg(destination, &["log", "--graph", "--limit=6", template]).await
}
