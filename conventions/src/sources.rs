//! The files of a directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// All files in `directory` whose names end with one of `ends`, in order. Hidden directories and what was built are left
/// out.
pub(crate) fn files(directory: &Path, ends: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    left.push(entry.path());
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The text of a file.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
