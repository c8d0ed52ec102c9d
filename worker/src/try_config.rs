//! The last commit of a build, which configures the decision task on Try.

use build::Build;
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::{TryMode, WorkerError, vcs::LastCommit};

/// The file that the decision task reads, at the root of the tree.
pub const PATH: &str = "try_task_config.json";

// The fields are in alphabetical order, as they have to be in the file.

#[derive(Serialize)]
struct Config<P> {
    parameters: P,
    version: u32,
}

#[derive(Serialize)]
struct JsonParameters<'a> {
    optimize_target_tasks: bool,
    phabricator_diff: &'a str,
    target_tasks_method: &'static str,
}

#[derive(Serialize)]
struct SyntaxParameters<'a> {
    #[serde(rename = "code-review")]
    code_review: CodeReview<'a>,
}

#[derive(Serialize)]
struct CodeReview<'a> {
    #[serde(rename = "phabricator-build-target")]
    target: &'a str,
}

/// The file that the last commit of a build makes. `None` if a build has no last commit.
pub(crate) fn path(mode: &TryMode) -> Option<&str> {
    match mode {
        TryMode::Json | TryMode::Syntax(_) => Some(PATH),
    }
}

/// The last commit of a build, if it has one. `exists` tells whether its file exists before.
pub(crate) fn last_commit(
    mode: &TryMode,
    build: &Build,
    exists: bool,
) -> Result<Option<LastCommit>, WorkerError> {
    let Some(path) = path(mode) else {
        return Ok(None);
    };
    Ok(Some(LastCommit {
        path: path.to_owned(),
        content: content(mode, build)?,
        exists,
        message: message(mode, build),
        date: build.diff.created_at,
        revision_id: build.request.revision_id,
    }))
}

/// The content of the file.
fn content(mode: &TryMode, build: &Build) -> Result<Vec<u8>, WorkerError> {
    let target = build.request.target.as_str();
    let written = match mode {
        TryMode::Json => {
            let method = "codereview";
            let parameters = JsonParameters {
                optimize_target_tasks: true,
                phabricator_diff: target,
                target_tasks_method: method,
            };
            write(&Config {
                parameters,
                version: 2,
            })
        }
        TryMode::Syntax(_) => write(&Config {
            parameters: SyntaxParameters {
                code_review: CodeReview { target },
            },
            version: 2,
        }),
    };
    written.map_err(|error| WorkerError::io(format!("write {PATH}"))(error.into()))
}

fn write(config: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut bytes, PrettyFormatter::with_indent(b"    "));
    config.serialize(&mut serializer)?;
    Ok(bytes)
}

/// The message of the commit.
fn message(mode: &TryMode, build: &Build) -> String {
    let url = &build.revision.url;
    match mode {
        TryMode::Json => {
            let what = if url.is_empty() { "code-review" } else { url };
            format!(
                "try_task_config for {what}\nDifferential Diff: {}",
                build.diff.phid
            )
        }
        TryMode::Syntax(syntax) => format!("try: {syntax}\nPhabricator Revision: {url}"),
    }
}
