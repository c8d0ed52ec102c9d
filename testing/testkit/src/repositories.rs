//! The two repositories of the demo, and a developer's patches against them: real Mercurial throughout.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, bail};
use tokio::process::Command;

/// A repository that is cloned from, the Try that is pushed to, and a developer's checkout.
pub struct Repositories {
    /// What the product's history is.
    pub source: PathBuf,
    /// Where heads are pushed to.
    pub try_repository: PathBuf,
    checkout: PathBuf,
    /// The newest changeset of the source: the base of the stack.
    pub base: String,
}

/// A changeset of the developer, as a patch.
pub struct Work {
    /// The first line of its message.
    pub title: &'static str,
    /// The patch in git's format.
    pub patch: String,
}

const AUTHOR: &str = "Zoë Example <zoe@example.com>";

impl Repositories {
    /// Makes them in `directory`.
    pub async fn create(directory: &Path) -> anyhow::Result<Self> {
        let made = Self::at(directory, String::new());
        let Self {
            source,
            try_repository,
            ..
        } = &made;
        hg(directory, &["init", "source"]).await?;
        for (file, text) in [
            ("README.md", "A small product.\n".to_owned()),
            (
                "src/engine.rs",
                (1..40).map(|n| format!("fn step_{n}() {{}}\n")).collect(),
            ),
            ("docs/greeting.txt", "Hello\n".to_owned()),
        ] {
            write(&source.join(file), text.as_bytes()).await?;
        }
        commit(source, "Import the product").await?;
        write(
            &source.join("README.md"),
            b"A small product, with a history.\n",
        )
        .await?;
        commit(source, "Say that there is a history").await?;
        let base = hg(source, &["log", "--rev=tip", "--template={node}"]).await?;

        hg(
            directory,
            &["clone", "--quiet", "--noupdate", "source", "try"],
        )
        .await?;
        // Heads on Try are thrown away some day: they never become public.
        write(
            &try_repository.join(".hg/hgrc"),
            b"[phases]\npublish = False\n",
        )
        .await?;
        hg(directory, &["clone", "--quiet", "source", "checkout"]).await?;
        Ok(Self { base, ..made })
    }

    /// Those that are in `directory`, with the newest changeset of the source.
    pub fn at(directory: &Path, base: String) -> Self {
        let [source, try_repository, checkout] =
            ["source", "try", "checkout"].map(|name| directory.join(name));
        Self {
            source,
            try_repository,
            checkout,
            base,
        }
    }

    /// A stack of three: a rename, a binary file, and text beyond ASCII.
    pub async fn work(&self) -> anyhow::Result<Vec<Work>> {
        let checkout = &self.checkout;
        hg(checkout, &["rename", "src/engine.rs", "src/motor.rs"]).await?;
        let renamed: String = (1..40).map(|n| format!("fn step_{n}() {{}}\n")).collect();
        write(
            &checkout.join("src/motor.rs"),
            renamed.replace("step_7()", "seventh_step()").as_bytes(),
        )
        .await?;
        let mut stack = vec![self.take("Rename the engine and its seventh step").await?];
        let pixels: Vec<u8> = (0..2048_u32).map(|n| (n * n % 251) as u8).collect();
        write(&checkout.join("icons/logo.bin"), &pixels).await?;
        stack.push(self.take("Add a logo").await?);
        write(
            &checkout.join("docs/greeting.txt"),
            "Grüße aus Köln\nこんにちは\n🦊\n".as_bytes(),
        )
        .await?;
        stack.push(self.take("Greet the world: Grüße, こんにちは").await?);
        Ok(stack)
    }

    async fn take(&self, title: &'static str) -> anyhow::Result<Work> {
        commit(&self.checkout, title).await?;
        let patch = hg(&self.checkout, &["diff", "--git", "--change=."]).await?;
        Ok(Work { title, patch })
    }

    /// The log of Try, drawn as a graph.
    pub async fn try_log(&self) -> anyhow::Result<String> {
        let template = "--template={node|short}  {author|person}: {desc|firstline}\n";
        hg(
            &self.try_repository,
            &["log", "--graph", "--limit=6", template],
        )
        .await
    }

    /// The heads on Try that are not public, as full changesets.
    pub async fn try_heads(&self) -> anyhow::Result<Vec<String>> {
        let heads = hg(
            &self.try_repository,
            &[
                "log",
                "--rev=head() and not public()",
                "--template={node}\n",
            ],
        )
        .await?;
        Ok(heads.lines().map(str::to_owned).collect())
    }
    /// How many changesets were pushed to Try.
    pub async fn try_changesets(&self) -> anyhow::Result<usize> {
        Ok(hg(
            &self.try_repository,
            &["log", "--rev=not public()", "--template=x"],
        )
        .await?
        .len())
    }
}

/// Who wrote the stack, as `Name <mail>`.
pub fn author() -> &'static str {
    AUTHOR
}

async fn commit(repository: &Path, title: &str) -> anyhow::Result<()> {
    let (user, message) = (format!("--user={AUTHOR}"), format!("--message={title}"));
    hg(
        repository,
        &[
            "commit",
            "--addremove",
            "--quiet",
            "--date=1700000000 0",
            &user,
            &message,
        ],
    )
    .await?;
    Ok(())
}

async fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = async {
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await?;
        }
        tokio::fs::write(path, bytes).await
    };
    write
        .await
        .with_context(|| format!("cannot write {}", path.display()))
}

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
