//! Child processes that cannot outlive their use.
//!
//! A version control starts children of its own (ssh, hooks of a local Try repository). So every program leads a
//! process group, and whoever ends it ends the group: SIGTERM to all, SIGKILL to what is left after `ROLLBACK`, then
//! the leader is reaped. The order matters: until it is reaped its id, and with it the group's, cannot go to somebody
//! else. SIGTERM comes first because Mercurial takes its transaction back on it; killed outright it leaves an abandoned
//! one, and in a Try that is reached by a path that would stop every later push until somebody ran `hg recover` there.
//!
//! A [`Group`] is ended and reaped when it is dropped. So a future that is dropped in the middle of a command, for a
//! deadline or because the process ends, takes its processes along.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, killpg},
        stat::Mode,
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use rustix::process::{Resource, Rlimit};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::{WorkerError, text};

/// The most of a failing program's words that is kept.
const MAX_WORDS: u64 = 64 << 10;

/// The time that Mercurial has to take back a transaction. It is a matter of milliseconds.
const ROLLBACK: Duration = Duration::from_secs(1);

/// How often a dropped group is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(5);

/// What this process and its children write is for our user alone: patches and clones may be private. Mercurial takes the
/// mode of files in a repository from its directory, so a Try on this machine keeps its own.
pub fn keep_files_private() {
    nix::sys::stat::umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// A program with next to nothing in its environment, in a process group of its own.
pub fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("LANG", "C")
        .current_dir("/")
        .process_group(0);
    command
}

/// A child process and the process group that it leads.
#[derive(Debug)]
pub struct Group {
    child: Child,
}

/// The ends of a child's pipes that are ours.
#[derive(Debug)]
pub struct Pipes {
    /// What it reads.
    pub stdin: ChildStdin,
    /// What it prints.
    pub stdout: ChildStdout,
    /// What it complains of.
    pub stderr: ChildStderr,
}

impl Group {
    /// Starts a program, which leads a group.
    pub fn spawn(mut command: Command) -> Result<(Self, Pipes), WorkerError> {
        let program = command.as_std().get_program().display().to_string();
        let doing = format!("start {program}, is it installed");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(WorkerError::io(doing.as_str()))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Self { child };
        match pipes {
            (Some(stdin), Some(stdout), Some(stderr)) => Ok((
                group,
                Pipes {
                    stdin,
                    stdout,
                    stderr,
                },
            )),
            _ => Err(WorkerError::io(doing)(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// Waits until the child ends by itself.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Ends the group and reaps its leader, without blocking a thread of the runtime.
    pub async fn end(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// How much memory the child takes, in bytes.
    pub fn memory(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// The most address space that the child ever had, in bytes.
    pub fn peak(&self) -> Option<u64> {
        self.status("VmPeak:")
    }

    fn status(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.leader()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
    }

    /// Bounds the address space of the child, and of each process that it starts from now on.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), WorkerError> {
        // One that has ended already needs no bound.
        let Some(child) = self
            .child
            .id()
            .and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?))
        else {
            return Ok(());
        };
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        match rustix::process::prlimit(Some(child), Resource::As, limit) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(WorkerError::io(
                "limit the memory of Mercurial",
            )(error.into())),
            _ => Ok(()),
        }
    }

    /// The child, which leads the group; `None` when it has been reaped.
    pub fn leader(&self) -> Option<Pid> {
        Some(Pid::from_raw(i32::try_from(self.child.id()?).ok()?))
    }

    /// Signals the group; `None` when its leader has been reaped.
    fn signal(&self, signal: Signal) -> Option<Pid> {
        let pid = self.leader()?;
        // It fails only when nothing is left to signal.
        let _ = killpg(pid, signal);
        Some(pid)
    }
}

impl Drop for Group {
    /// Blocks until nothing is left, for `ROLLBACK` at most: that is what lets the next command, and the end of this
    /// process, be sure of it.
    #[expect(
        clippy::disallowed_methods,
        reason = "a drop cannot wait in any other way"
    )]
    fn drop(&mut self) {
        let Some(pid) = self.signal(Signal::SIGTERM) else {
            return;
        };
        let looks = ROLLBACK.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            // The leader stays unreaped, so that the group's id stays ours for the last signal.
            let state = waitid(
                Id::Pid(pid),
                WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
            );
            if !matches!(state, Ok(WaitStatus::StillAlive)) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        // Also when the leader has ended: a hook or an ssh that does not mind SIGTERM may have outlived it.
        self.signal(Signal::SIGKILL);
        let _ = waitpid(pid, None);
    }
}

/// How long a process has computed so far, as Linux counts it: in steps of 10 ms.
pub fn processor_time(process: Pid) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses, and can hold some itself. The state comes next, and 11 fields later the time.
    let fields: Vec<&str> = stat
        .get(stat.rfind(')')? + 1..)?
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let milliseconds = ticks(11)?.saturating_add(ticks(12)?).saturating_mul(1000);
    milliseconds
        .checked_div(rustix::param::clock_ticks_per_second())
        .map(Duration::from_millis)
}

/// What a command gave.
#[derive(Debug, Default)]
pub struct CommandOutput {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// What it complained of.
    pub stderr: Vec<u8>,
}

/// Runs one program to its end. `name` is what the error calls it when that takes longer than `deadline`.
pub async fn run(
    mut command: Command,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    name: &str,
    deadline: Duration,
) -> Result<CommandOutput, WorkerError> {
    command.args(arguments);
    let (mut group, pipes) = Group::spawn(command)?;
    drop(pipes.stdin);
    let mut output = CommandOutput::default();
    let mut stdout = pipes.stdout.take(MAX_WORDS);
    let mut stderr = pipes.stderr.take(MAX_WORDS);
    let running = async {
        let (out, err) = futures::join!(
            stdout.read_to_end(&mut output.stdout),
            stderr.read_to_end(&mut output.stderr)
        );
        out.and(err)?;
        group.wait().await
    };
    match tokio::time::timeout(deadline, running).await {
        Ok(status) => {
            let status = status.map_err(WorkerError::io(format!("wait for `{name}`")))?;
            output.code = status.code().unwrap_or(-1);
            Ok(output)
        }
        Err(_) => {
            group.end().await;
            Err(WorkerError::Deadline {
                command: name.to_owned(),
                is_push: false,
                seconds: deadline.as_secs(),
            })
        }
    }
}

impl CommandOutput {
    /// What was printed, without the line break at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Its complaint in one line.
    pub fn words(&self) -> String {
        let words = text::one_line(&self.stderr);
        if words.is_empty() {
            format!("it said nothing and ended with code {}", self.code)
        } else {
            words
        }
    }
}
