//! The version control of a repository.

use serde::{Deserialize, Serialize};

/// The version control of a repository. Messages and records from before it was in them are of Mercurial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionControl {
    /// Mercurial.
    #[default]
    #[serde(rename = "hg")]
    Mercurial,
    /// Git.
    #[serde(rename = "git")]
    Git,
}

impl VersionControl {
    /// Its name, as authors know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mercurial => "Mercurial",
            Self::Git => "Git",
        }
    }

    /// Its word for a commit.
    pub fn commit(self) -> &'static str {
        match self {
            Self::Mercurial => "changeset",
            Self::Git => "commit",
        }
    }
}
