//! The state directory of the user.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::Variables;

/// The path of a file of this program, below `XDG_STATE_HOME`, else below `~/.local/state`.
pub(super) fn file(name: &str, variables: Variables<'_>) -> anyhow::Result<PathBuf> {
    let home = || variables("HOME").map(|home| Path::new(&home).join(".local/state"));
    // The XDG specification ignores a relative path.
    let state = variables("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home);
    let state = state.context("cannot find the state directory: set HOME or XDG_STATE_HOME")?;
    Ok(state.join("code-review-events").join(name))
}
