//! The output of `events check-config --online`: one line for each check.

use std::fmt::Display;

use anyhow::bail;
use notify::text::one_line;
use runtime::error_chain;

use crate::operate::counted;

/// The longest line. Peers' own words are in there.
const LONGEST: usize = 1000;

/// Prints lines, and counts those that failed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    failed: usize,
}

impl Lines {
    /// Something that works, and how that was found.
    pub(super) fn ok(&self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        print("ok", subject, finding)
    }

    /// Something that works, and that people may not want.
    pub(super) fn warning(&self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        print("WARNING", subject, finding)
    }

    /// Something that this command cannot check, and how a person does it.
    pub(super) fn by_hand(&self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        print("BY HAND", subject, finding)
    }

    /// Something that builds fail of.
    pub(super) fn failed(&mut self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        self.failed += 1;
        print("FAILED", subject, finding)
    }

    /// What an attempt came to.
    pub(super) fn say(
        &mut self,
        subject: &dyn Display,
        result: anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        match result {
            Ok(finding) => self.ok(subject, &finding),
            Err(error) => {
                let error: &(dyn std::error::Error + Send + Sync) = error.as_ref();
                self.failed(subject, &error_chain(error))
            }
        }
    }

    /// Fails when something did.
    pub(super) fn end(self) -> anyhow::Result<()> {
        match self.failed {
            0 => Ok(()),
            failed => bail!("{} failed", counted(failed, "check")),
        }
    }
}

fn print(verdict: &str, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
    let line = one_line(&format!("{subject}: {finding}"), LONGEST);
    crate::print(&format!("{verdict:<8}{line}"))
}
