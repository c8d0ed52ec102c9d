//! The version control of a campaign, and what differs between the two beside [their repositories](super::repository).

use serde::Serialize;
use testkit::repositories::Side;

/// The version control of a campaign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Vcs {
    /// Mercurial
    #[default]
    Hg,
    /// Git
    Git,
}

impl Vcs {
    /// Its program, which is also its name.
    pub fn program(self) -> &'static str {
        match self {
            Self::Hg => "hg",
            Self::Git => "git",
        }
    }

    /// The repositories of the tests with it.
    pub fn side(self) -> Side {
        match self {
            Self::Hg => Side::Mercurial,
            Self::Git => Side::Git,
        }
    }

    /// The name of the unit about patches on a build target.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Hg => "mercurial",
            Self::Git => "git",
        }
    }

    /// A patch that would have it run a program of the author's choice.
    pub fn hostile_patch(self) -> String {
        let (path, lines) = match self {
            Self::Hg => (".hg/hgrc", ["[hooks]", "update = touch owned"]),
            Self::Git => (".git/config", ["[core]", "fsmonitor = touch owned"]),
        };
        let [section, key] = lines;
        format!(
            "diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,2 @@\n\
             +{section}\n+{key}\n"
        )
    }

    /// Whether a process of this name, and with this command, serves the repository in `directory` to those who push
    /// to it. `within` is whether it runs there.
    pub fn serves(self, directory: &str, name: &str, command: &str, within: bool) -> bool {
        match self {
            // The shell and the ssh that were told to start it say the same, under other names.
            Self::Hg => name == "hg" && command.contains(&format!("-R {directory} serve --stdio")),
            // `git-receive-pack` enters the repository, and starts other programs there.
            Self::Git => name.starts_with("git") && within,
        }
    }
}
