//! The two repositories of the demo, and a developer's patches against them: real Mercurial or Git throughout.

mod git;
mod hg;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

pub use self::{git::git, hg::hg};

/// The version control of repositories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Mercurial.
    Mercurial,
    /// Git.
    Git,
}

/// Calls the function of the version control's module.
macro_rules! on {
    ($side:expr, $function:ident($($argument:expr),*)) => {
        match $side {
            Side::Mercurial => hg::$function($($argument),*).await,
            Side::Git => git::$function($($argument),*).await,
        }
    };
}

/// A repository that is cloned from, the Try that is pushed to, and a developer's checkout.
pub struct Repositories {
    side: Side,
    /// What the product's history is.
    pub source: PathBuf,
    /// Where heads are pushed to.
    pub try_repository: PathBuf,
    checkout: PathBuf,
    /// The newest commit of the source: the base of the stack.
    pub base: String,
}

/// A commit of the developer, as a patch.
pub struct Work {
    /// The first line of its message.
    pub title: &'static str,
    /// The patch in git's format.
    pub patch: String,
}

const AUTHOR: &str = "Zoë Example <zoe@example.com>";
const NAME: &str = "Zoë Example";
const MAIL: &str = "zoe@example.com";
/// The date of each commit, in seconds since 1970.
const DATE: u64 = 1_700_000_000;

impl Repositories {
    /// Makes them in `directory`, with Mercurial.
    pub async fn create(directory: &Path) -> anyhow::Result<Self> {
        Self::create_with(Side::Mercurial, directory).await
    }

    /// Makes them in `directory`.
    pub async fn create_with(side: Side, directory: &Path) -> anyhow::Result<Self> {
        let made = Self {
            side,
            ..Self::at(directory, String::new())
        };
        let source = &made.source;
        on!(side, init(directory, "source"))?;
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
        on!(side, commit(source, "Import the product"))?;
        write(
            &source.join("README.md"),
            b"A small product, with a history.\n",
        )
        .await?;
        on!(side, commit(source, "Say that there is a history"))?;
        let base = on!(side, tip(source))?;
        on!(side, destination(directory))?;
        on!(side, checkout(directory))?;
        Ok(Self { base, ..made })
    }

    /// Those of Mercurial that are in `directory`, with the newest changeset of the source.
    pub fn at(directory: &Path, base: String) -> Self {
        let [source, try_repository, checkout] =
            ["source", "try", "checkout"].map(|name| directory.join(name));
        Self {
            side: Side::Mercurial,
            source,
            try_repository,
            checkout,
            base,
        }
    }

    /// A stack of three: a rename, a binary file, and text beyond ASCII.
    pub async fn work(&self) -> anyhow::Result<Vec<Work>> {
        let checkout = &self.checkout;
        on!(self.side, rename(checkout, "src/engine.rs", "src/motor.rs"))?;
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
        on!(self.side, commit(&self.checkout, title))?;
        let patch = on!(self.side, patch(&self.checkout))?;
        Ok(Work { title, patch })
    }

    /// The log of Try, drawn as a graph.
    pub async fn try_log(&self) -> anyhow::Result<String> {
        on!(self.side, log(&self.try_repository))
    }

    /// The heads on Try that builds pushed, as full hashes.
    pub async fn try_heads(&self) -> anyhow::Result<Vec<String>> {
        let heads = self.try_refs().await?;
        Ok(heads.into_iter().map(|(head, _)| head).collect())
    }

    /// The same heads, each with the ref that names it if the version control has refs.
    pub async fn try_refs(&self) -> anyhow::Result<Vec<(String, Option<String>)>> {
        on!(self.side, heads(&self.try_repository))
    }

    /// How many commits were pushed to Try.
    pub async fn try_changesets(&self) -> anyhow::Result<usize> {
        on!(self.side, pushed(&self.try_repository))
    }
}

/// Who wrote the stack, as `Name <mail>`.
pub fn author() -> &'static str {
    AUTHOR
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
