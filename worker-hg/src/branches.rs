//! The lines of development of a repository.

use std::{path::Path, time::Duration};

use worker::{
    RepositorySettings,
    process::{self, CommandOutput},
    text,
};

use crate::program;

/// The time for one listing.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The open branches of a clone that another process may use at the same time. `None` if Mercurial fails.
pub(crate) async fn of(program: &Path, clone: &Path) -> Option<Vec<String>> {
    let repository = format!("--repository={}", clone.display());
    let [command, template] = COMMAND;
    let arguments = [&repository, command, template];
    let output = process::run(
        program::hg(program, None),
        arguments,
        "hg branches",
        TIMEOUT,
    )
    .await
    .ok()?;
    (output.code == 0).then(|| names(&output))
}

/// The command that lists the open branches.
pub(crate) const COMMAND: [&str; 2] = ["branches", r"--template={branch}\n"];

/// The branches in the output of [`COMMAND`].
pub(crate) fn names(output: &CommandOutput) -> Vec<String> {
    output.text().lines().map(str::to_owned).collect()
}

/// The default of `default_revision`.
pub(crate) const UNSET: &str = "tip";

/// The warning for a source with several lines of development and no configured `default_revision`: the tip is on the
/// line that was pushed to last.
pub(crate) fn ambiguous(repository: &RepositorySettings, lines: &[String]) -> Option<String> {
    const SHOWN: usize = 5;
    if repository.default_revision != UNSET || lines.len() < 2 {
        return None;
    }
    let mut shown = lines
        .iter()
        .take(SHOWN)
        .map(|line| text::path(line.as_bytes()))
        .collect::<Vec<_>>()
        .join(", ");
    if lines.len() > SHOWN {
        shown.push_str(", …");
    }
    Some(format!(
        "the source of {} has {} lines of development ({shown}), and builds without a known base go on the newest \
         changeset of any of them: set `default_revision`",
        repository.name,
        lines.len()
    ))
}
