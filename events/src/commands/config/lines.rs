//! The output of `events config check --online`: one line for each check.

use std::fmt::Display;

use anyhow::bail;
use notify::text::one_line;
use runtime::error_chain;

use crate::commands::counted;

/// The longest line in characters: it may quote a peer.
const LONGEST: usize = 1000;

/// Prints lines, and counts those that failed.
#[derive(Debug, Default)]
pub(super) struct Lines {
    failed: usize,
}

impl Lines {
    /// Reports a check that passed, with its finding.
    pub(super) fn ok(&self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        print("ok", subject, finding)
    }

    /// Reports a check that passed, with a finding that may not be intended.
    pub(super) fn warning(&self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        print("WARNING", subject, finding)
    }

    /// Reports a check that the command cannot do, with the way to do it by hand.
    pub(super) fn by_hand(&self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        print("BY HAND", subject, finding)
    }

    /// Reports a check that failed.
    pub(super) fn failed(&mut self, subject: &dyn Display, finding: &str) -> anyhow::Result<()> {
        self.failed += 1;
        print("FAILED", subject, finding)
    }

    /// Reports the result of a check.
    pub(super) fn report(
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

    /// Fails when a check failed.
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
