//! Runs the program, and inspects what it left behind.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// A campaign whose files are in a directory of the test's.
pub fn command(arguments: &str, directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command
        .args(arguments.split_whitespace())
        .env("TMPDIR", directory.path());
    command
}

/// The report of a campaign that must pass and clean up.
pub fn passes(arguments: &str) -> Value {
    let directory = TempDir::new().unwrap();
    let Output {
        status,
        stdout,
        stderr,
    } = command(arguments, &directory)
        .arg("--json")
        .output()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(
        status.success(),
        "{stdout}\n{stderr}\n{}",
        logs_within(directory.path())
    );
    assert_clean(&directory);
    serde_json::from_str(stdout.lines().last().unwrap()).unwrap()
}

/// The end of each log that a failed campaign kept: its directory goes with the test.
fn logs_within(directory: &Path) -> String {
    let mut text = String::new();
    let campaigns = std::fs::read_dir(directory).unwrap().flatten();
    for file in campaigns.flat_map(|campaign| std::fs::read_dir(campaign.path()).unwrap().flatten())
    {
        let path = file.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            text.push_str(&format!("{}:\n{}\n", path.display(), last.join("\n")));
        }
    }
    text
}

/// Neither a file nor a process is left.
pub fn assert_clean(directory: &TempDir) {
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        0,
        "the campaign's directory is gone"
    );
    assert_eq!(processes_within(directory.path()), Vec::<String>::new());
}

/// Processes that run in `directory`: all that a campaign starts do.
pub fn processes_within(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let within = std::fs::read_link(process.path().join("cwd"))
            .is_ok_and(|cwd| cwd.starts_with(directory));
        if within {
            found.push(std::fs::read_to_string(process.path().join("cmdline")).unwrap_or_default());
        }
    }
    found
}
