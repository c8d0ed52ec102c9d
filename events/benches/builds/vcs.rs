//! The version control that builds are measured with.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use build::VersionControl;
use clap::ValueEnum;
use serde_json::{Value, json};
use testkit::repositories;
use worker::{Backend, GitSettings, TryMode, VcsSettings};
use worker_git::Git;
use worker_hg::Mercurial;

use crate::{
    content::Shape,
    git::{self, original::Llvm},
    hg::{self, original::Mozilla},
    original::Original,
    stage::{Stage, Try},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Vcs {
    Hg,
    Git,
}

impl Vcs {
    /// The name of its program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hg => "hg",
            Self::Git => "git",
        }
    }

    /// Runs its program, untouched by what the user has configured. Returns what it prints.
    pub async fn run(self, directory: &Path, arguments: &[&str]) -> anyhow::Result<String> {
        match self {
            Self::Hg => repositories::hg(directory, arguments).await,
            Self::Git => repositories::git(directory, arguments).await,
        }
    }

    pub fn backend(self) -> Backend {
        match self {
            Self::Hg => Backend::new(Arc::new(Mercurial::new())),
            Self::Git => Backend::new(Arc::new(Git::new())),
        }
    }

    pub fn kind(self) -> VersionControl {
        match self {
            Self::Hg => VersionControl::Mercurial,
            Self::Git => VersionControl::Git,
        }
    }

    pub fn settings(self) -> VcsSettings {
        match self {
            Self::Hg => VcsSettings::Mercurial,
            Self::Git => VcsSettings::Git(GitSettings::default()),
        }
    }

    /// The last commit of a build, as where the configuration names none.
    pub fn try_mode(self) -> TryMode {
        match self {
            Self::Hg => TryMode::Json,
            Self::Git => TryMode::None,
        }
    }

    /// The keys of a repository with this destination.
    pub fn keys(self, target: &str) -> Value {
        match self {
            Self::Hg => json!({ "try_url": target }),
            Self::Git => json!({ "vcs": "git", "destination": { "git": { "url": target } } }),
        }
    }

    /// Makes a source.
    pub async fn make(self, shape: &Shape, directory: &Path) -> anyhow::Result<()> {
        match self {
            Self::Hg => hg::repository::make(shape, directory).await,
            Self::Git => git::repository::make(shape, directory).await,
        }
    }

    /// Makes a source of one commit with these files.
    pub async fn make_of(self, directory: &Path, files: &[(&str, String)]) -> anyhow::Result<()> {
        match self {
            Self::Hg => hg::repository::make_of(directory, files).await,
            Self::Git => git::repository::make_of(directory, files).await,
        }
    }

    /// The newest commit of a source.
    pub async fn tip(self, source: &Path) -> String {
        let arguments: &[&str] = match self {
            Self::Hg => &["log", "--rev=tip", "--template={node}"],
            Self::Git => &["rev-parse", "main"],
        };
        let tip = self.run(source, arguments).await;
        tip.expect("the source has commits").trim().to_owned()
    }

    /// Makes a Try that has what the source has.
    pub async fn make_try(self, source: &Path, target: &Path) -> anyhow::Result<()> {
        match self {
            Self::Hg => hg::repository::make_try(source, target).await,
            Self::Git => git::repository::make_try(source, target).await,
        }
    }

    /// How many heads were pushed to a Try.
    pub async fn heads(self, target: &Path) -> usize {
        let heads = match self {
            Self::Hg => hg::repository::heads(target).await,
            Self::Git => git::repository::heads(target).await,
        };
        heads.expect("a Try has heads")
    }

    /// Makes the clone of the original.
    pub fn clone_original(self, stage: &Stage) -> PathBuf {
        match self {
            Self::Hg => Mozilla::clone(stage),
            Self::Git => Llvm::clone(stage),
        }
    }

    /// The original on its clone.
    pub fn original(self, stage: &Stage, copy: &Path, target: &Try) -> Box<dyn Original> {
        match self {
            Self::Hg => Box::new(Mozilla::start(stage, copy, target)),
            Self::Git => Box::new(Llvm::start(stage, copy, target)),
        }
    }
}
