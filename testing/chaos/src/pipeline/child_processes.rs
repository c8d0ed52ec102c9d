//! The programs that the pipeline's processes start: found by what only they have to do with, the campaign's directory.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::vcs::Vcs;

/// A process, as the kernel tells of it.
struct Process {
    pid: Pid,
    name: String,
    command: String,
    /// Whether it runs in the directory, or below it.
    within: bool,
}

/// The processes called `name` that a worker with its clones in `directory` started: they run there, or name it.
/// Those that a dead worker left are among them.
pub fn of_worker(directory: &Path, name: &str) -> Vec<Pid> {
    let theirs = directory.display().to_string();
    pids(processes(directory).filter(|process| {
        process.name == name && (process.within || process.command.contains(&theirs))
    }))
}

/// The programs of the version control that serve the repository in `directory` to those who push to it.
pub fn servers_of(vcs: Vcs, directory: &Path) -> Vec<Pid> {
    let served = directory.display().to_string();
    pids(
        processes(directory)
            .filter(|process| vcs.serves(&served, &process.name, &process.command, process.within)),
    )
}

/// SIGKILL to all of them; `false` when that reached nobody.
pub fn kill_all(processes: &[Pid]) -> bool {
    // It fails only for one that is gone.
    processes
        .iter()
        .filter(|&&pid| kill(pid, Signal::SIGKILL).is_ok())
        .count()
        > 0
}

fn pids(found: impl Iterator<Item = Process>) -> Vec<Pid> {
    let mut pids: Vec<Pid> = found.map(|process| process.pid).collect();
    pids.sort_unstable();
    pids
}

/// All processes that can be inspected.
fn processes(directory: &Path) -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(move |entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let text = |file: &str| {
            fs::read(entry.path().join(file))
                .map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        Some(Process {
            pid: Pid::from_raw(pid),
            name: text("comm").ok()?.trim_end().to_owned(),
            command: text("cmdline").ok()?.replace('\0', " "),
            within: fs::read_link(entry.path().join("cwd"))
                .is_ok_and(|cwd| cwd.starts_with(directory)),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn only_processes_of_the_directory_are_found() {
        let [ours, other] = [(); 2].map(|()| TempDir::new().unwrap());
        let sleep = |directory: &TempDir| {
            Command::new("sleep")
                .arg("1000")
                .current_dir(directory.path())
                .spawn()
                .unwrap()
        };
        let mut children = [sleep(&ours), sleep(&other)];
        let pid = Pid::from_raw(children[0].id().try_into().unwrap());
        // Spawning returns when the new program has its memory. The system names it right after that.
        for _ in 0..1000 {
            if !of_worker(ours.path(), "sleep").is_empty() {
                break;
            }
            std::thread::yield_now();
        }
        assert_eq!(of_worker(ours.path(), "sleep"), [pid]);
        assert_eq!(of_worker(ours.path(), "hg"), []);
        assert_eq!(servers_of(Vcs::Hg, ours.path()), []);
        assert_eq!(servers_of(Vcs::Git, ours.path()), []);
        assert!(kill_all(&[pid]));
        assert!(!kill_all(&[]));
        for child in &mut children {
            let _ = child.kill();
            child.wait().unwrap();
        }
        assert_eq!(of_worker(ours.path(), "sleep"), []);
    }
}
