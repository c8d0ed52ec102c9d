//! Repositories of Git.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    process::Stdio,
};

use testkit::repositories::git;

use crate::content::{Content, Shape, path, text};

/// The branch of sources.
const BRANCH: &str = "refs/heads/main";

/// Makes a source, without a working tree, packed as a server keeps it.
pub async fn make(shape: &Shape, directory: &Path) -> anyhow::Result<()> {
    import(directory, |mut to| {
        let content = Content::new();
        begin(&mut to, 0, "Add all files")?;
        for number in 0..shape.files {
            file(&mut to, &path(number), &text(&content.file(number)))?;
        }
        let mut written = Ok(());
        content.history(shape, |number, changes| {
            let changeset = || -> io::Result<()> {
                begin(&mut to, number, &format!("Change {number}"))?;
                for change in changes {
                    file(&mut to, &change.path, &change.content)?;
                }
                Ok(())
            };
            if written.is_ok() {
                written = changeset();
            }
        });
        written
    })
    .await?;
    git(directory, &["gc", "--quiet"]).await.map(drop)
}

/// Makes a source with these files.
pub async fn make_of(directory: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
    import(directory, |mut to| {
        begin(&mut to, 0, "Begin")?;
        files
            .iter()
            .try_for_each(|(name, content)| file(&mut to, name, content))
    })
    .await
}

/// Makes a repository of what `write` writes for `git fast-import`.
async fn import(
    directory: &Path,
    write: impl FnOnce(BufWriter<File>) -> io::Result<()>,
) -> anyhow::Result<()> {
    fs::create_dir(directory)?;
    git(
        directory,
        &["init", "--quiet", "--bare", "--initial-branch=main"],
    )
    .await?;
    let stream = directory.with_extension("stream");
    write(BufWriter::new(File::create(&stream)?))?;
    let status = super::original::git()
        .current_dir(directory)
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::from(File::open(&stream)?))
        .status()?;
    anyhow::ensure!(status.success(), "git fast-import failed");
    Ok(fs::remove_file(stream)?)
}

fn begin(to: &mut impl Write, number: usize, message: &str) -> io::Result<()> {
    let length = message.len();
    writeln!(
        to,
        "commit {BRANCH}\ncommitter Ada <ada@example.org> {number} +0000\ndata {length}\n{message}"
    )
}

fn file(to: &mut impl Write, path: &str, content: &str) -> io::Result<()> {
    let length = content.len();
    writeln!(to, "M 100644 inline {path}\ndata {length}\n{content}")
}

/// Makes a Try. With hard links.
pub async fn make_try(source: &Path, target: &Path) -> anyhow::Result<()> {
    let (from, to) = (source.display().to_string(), target.display().to_string());
    git(source, &["clone", "--bare", "--quiet", &from, &to])
        .await
        .map(drop)
}

/// How many heads were pushed to a Try.
pub async fn heads(target: &Path) -> anyhow::Result<usize> {
    let refs = git(target, &["for-each-ref", "--format=%(refname)"]).await?;
    Ok(refs.lines().filter(|name| *name != BRANCH).count())
}
