//! The lines of development of a repository.

use std::{path::Path, time::Duration};

use worker::{
    RepositorySettings,
    process::{self, CommandOutput},
    text,
};

use crate::program;

/// The time for the question.
const TIME: Duration = Duration::from_secs(60);

/// The open branches of a clone, which others may have meanwhile. `None` when they cannot be told.
pub(crate) async fn of(program: &Path, clone: &Path) -> Option<Vec<String>> {
    let repository = format!("--repository={}", clone.display());
    let [command, template] = COMMAND;
    let arguments = [&repository, command, template];
    let output = process::run(program::hg(program, None), arguments, "hg branches", TIME)
        .await
        .ok()?;
    (output.code == 0).then(|| names(&output))
}

/// Lists the open branches.
pub(crate) const COMMAND: [&str; 2] = ["branches", r"--template={branch}\n"];

/// What [`COMMAND`] has printed.
pub(crate) fn names(output: &CommandOutput) -> Vec<String> {
    output.text().lines().map(str::to_owned).collect()
}

/// What `default_revision` is when nobody has set it.
pub(crate) const UNSET: &str = "tip";

/// What to warn about when no `default_revision` is configured and the source has several lines of development: the tip
/// is on the one that was pushed to last.
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
