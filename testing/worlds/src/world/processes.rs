//! The processes that a hook leaves.

use std::{fs, path::Path, process::Command};

/// A hook that says in the file `note` which process group it is in, and then does not end.
pub fn hanging_hook(note: &Path) -> String {
    // The note appears whole, by renaming.
    let note = note.display();
    format!("ps -o pgid= -p $$ > {note}.new && mv {note}.new {note} && sleep 1000")
}

/// The processes of the group that a hanging hook noted. Killed ones that only wait for their parent don't count.
pub fn living_in_group(note: &Path) -> Vec<String> {
    let group = fs::read_to_string(note).unwrap().trim().to_owned();
    let processes = Command::new("ps")
        .args(["-eo", "pgid=,stat=,args="])
        .output()
        .unwrap()
        .stdout;
    let processes = String::from_utf8_lossy(&processes).into_owned();
    let fields = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let lives = |line: &&str| matches!(fields(line).as_slice(), [pgid, stat, ..] if *pgid == group && !stat.starts_with('Z'));
    processes.lines().filter(lives).map(str::to_owned).collect()
}
