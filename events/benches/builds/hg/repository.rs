//! Repositories of Mercurial.

use std::{fmt::Write as _, fs, path::Path};

use testkit::repositories::hg;

use crate::content::{Content, Shape, path, text};

pub async fn make(shape: &Shape, directory: &Path) -> anyhow::Result<()> {
    let content = Content::new();
    fs::create_dir(directory)?;
    hg(directory, &["init"]).await?;
    for number in 0..shape.files {
        let file = directory.join(path(number));
        fs::create_dir_all(file.parent().expect("a directory"))?;
        fs::write(file, text(&content.file(number)))?;
    }
    let commit = [
        "commit",
        "--addremove",
        "--quiet",
        "--user=Ada",
        "--date=0 0",
        "--message=Add all files",
    ];
    hg(directory, &commit).await?;
    let history = directory.with_extension("patches");
    fs::write(&history, patches(&content, shape))?;
    let patches = history.display().to_string();
    hg(
        directory,
        &["import", "--bypass", "--quiet", "--", &patches],
    )
    .await?;
    fs::remove_file(history)?;
    // Nobody needs its working copy.
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name() != ".hg" {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(fs::remove_file(directory.join(".hg/dirstate"))?)
}

/// All changesets but the first, as `hg import` takes them from one file.
fn patches(content: &Content, shape: &Shape) -> String {
    let mut patches = String::new();
    content.history(shape, |number, changes| {
        let _ = write!(
            patches,
            "# HG changeset patch\n# User Ada <ada@example.org>\n# Date {number} 0\nChange {number}\n\n"
        );
        patches.extend(changes.into_iter().map(|change| change.patch));
    });
    patches
}

/// Makes a repository with these files.
pub async fn make_of(directory: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
    fs::create_dir(directory)?;
    hg(directory, &["init"]).await?;
    for (name, content) in files {
        fs::write(directory.join(name), content)?;
    }
    let commit = [
        "commit",
        "--addremove",
        "--quiet",
        "--user=Ada",
        "--message=Begin",
    ];
    hg(directory, &commit).await.map(drop)
}

/// Makes a Try. With hard links: the first push pays for them, and is not timed.
pub async fn make_try(source: &Path, target: &Path) -> anyhow::Result<()> {
    let (from, to) = (source.display().to_string(), target.display().to_string());
    hg(source, &["clone", "--noupdate", "--quiet", &from, &to]).await?;
    Ok(fs::write(
        target.join(".hg/hgrc"),
        "[phases]\npublish = False\n",
    )?)
}

/// How many heads were pushed to a Try.
pub async fn heads(target: &Path) -> anyhow::Result<usize> {
    let heads = ["log", "--rev=head() and not public()", "--template=x"];
    Ok(hg(target, &heads).await?.len())
}
