//! The commits of a stack as patches.

use worker::{Integrity, WorkerError, process, revision::Revision, vcs::CommitPatch};

use crate::{clone::Source, quarantine::Quarantine};

/// The name of the command in errors.
const COMMAND: &str = "git log";

/// The commits after `base` up to `head`, which is in `quarantine`; see [`worker::vcs::VcsClone::export`].
pub(crate) async fn export(
    source: &Source,
    quarantine: Option<&Quarantine>,
    base: &Revision,
    head: &Revision,
    limit: usize,
) -> Result<Option<Vec<CommitPatch>>, WorkerError> {
    let doing = format!("export the commits of {}", head.short());
    let Some(quarantine) = quarantine else {
        return Err(WorkerError::Settings {
            reason: format!("cannot {doing}: there is no head"),
        });
    };
    let range = format!("{}..{}", base.id, head.id);
    let arguments = [
        "log",
        "--reverse",
        "--format=%x00%H%x00%an <%ae>%x00%at%x00%B%x00",
        "--patch",
        "--binary",
        "--full-index",
        "--no-color",
        "--no-ext-diff",
        "--no-textconv",
        "--end-of-options",
        range.as_str(),
    ];
    let output = process::run_keeping(
        limit.saturating_add(1) as u64,
        source.git.command(quarantine.git_dir()),
        arguments,
        COMMAND,
        source.limits.command,
    )
    .await?;
    let failed = |words| WorkerError::Command {
        doing: doing.clone(),
        words,
        integrity: Integrity::Unknown,
    };
    if output.code != 0 {
        return Err(failed(output.words()));
    }
    if output.stdout.len() > limit {
        return Ok(None);
    }
    let mut commits = CommitPatch::read_all(&output.stdout)
        .ok_or_else(|| failed("its output cannot be read".to_owned()))?;
    for commit in &mut commits {
        // Git prints empty lines before a patch.
        let lines = commit.diff.iter().take_while(|&&byte| byte == b'\n');
        let empty = lines.count();
        commit.diff.drain(..empty);
    }
    Ok(Some(commits))
}
