//! Child processes that end with their use.
//!
//! A version control starts children of its own (ssh, hooks of a local Try repository). So every program leads a
//! process group, and the end of a [`Group`] ends all of it: SIGTERM to all, SIGKILL to the rest when the leader has
//! ended, after `ROLLBACK` at the latest. Then the leader is reaped. The order matters: until then no other process can
//! get its id, which is the group's too. SIGTERM comes first because Mercurial rolls its transaction back on it. After
//! a SIGKILL an abandoned transaction remains. In a Try that is reached by a path, that would stop every later push
//! until an operator ran `hg recover` there.
//!
//! A [`Group`] is ended and reaped when it is dropped. So a future that is dropped at a deadline or at shutdown ends
//! its processes.
//!
//! A leader that ends by itself can leave processes in its group, such as one that a hook started in the background.
//! [`Group::wait`] kills them, too, before it reaps the leader.

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        signal::{Signal, kill, killpg},
        stat::Mode,
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use rustix::process::{Resource, Rlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
};

use crate::{WorkerError, disk, text};

/// The most bytes that are kept of each output of a program.
const MAX_WORDS: u64 = 64 << 10;

/// The time for Mercurial to roll back a transaction, which takes milliseconds.
const ROLLBACK: Duration = Duration::from_secs(1);

/// The interval at which a dropped group is polled meanwhile.
const POLL: Duration = Duration::from_millis(5);

/// Makes the files of this process and its children readable for our user alone: patches and clones may be private.
/// Mercurial takes the mode of files in a repository from its directory, so a Try on this machine keeps its own.
pub fn keep_files_private() {
    nix::sys::stat::umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// A command with a minimal environment, in a process group of its own.
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

/// Our ends of the pipes of a child.
#[derive(Debug)]
pub struct Pipes {
    /// Its standard input.
    pub stdin: ChildStdin,
    /// Its standard output.
    pub stdout: ChildStdout,
    /// Its standard error.
    pub stderr: ChildStderr,
}

impl Group {
    /// Starts a command of [`bare`], which leads its group.
    pub fn spawn(mut command: Command) -> Result<(Self, Pipes), WorkerError> {
        let program = command.as_std().get_program().display().to_string();
        let doing = format!("start {program} (is it installed?)");
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

    /// Waits until the child ends by itself, and kills the rest of its group.
    ///
    /// The child is reaped last. A reaped child whose group is empty has given its id back, so another program may get
    /// it and lead a group with this id, which the signal would kill. As long as the child is not reaped, or a process
    /// is left in its group, the id is ours.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(leader) = self.leader() {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            // If this future is dropped, the thread waits on until `drop` has ended the child.
            disk::blocking(move || Ok(waitid(Id::Pid(leader), flags)?)).await?;
            self.signal(Signal::SIGKILL);
        }
        self.child.wait().await
    }

    /// Ends the group and reaps its leader, without blocking a thread of the runtime.
    pub async fn end(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }

    /// The resident memory of the child, in bytes.
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

    /// Limits the address space of the child, and of each process that it starts from now on.
    pub fn limit_memory(&self, bytes: u64) -> Result<(), WorkerError> {
        self.limit(Resource::As, bytes)
    }

    fn limit(&self, resource: Resource, bytes: u64) -> Result<(), WorkerError> {
        // A child that has ended needs no limit.
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
        match rustix::process::prlimit(Some(child), resource, limit) {
            Err(error) if error != rustix::io::Errno::SRCH => Err(WorkerError::io(
                "limit the resources of a process",
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
        // This fails only when no process is left to signal.
        let _ = killpg(pid, signal);
        Some(pid)
    }
}

impl Drop for Group {
    /// Blocks until the group is killed and its leader reaped, for about `ROLLBACK` at most. The next command, and the
    /// end of this process, rely on that.
    #[expect(
        clippy::disallowed_methods,
        reason = "a drop cannot wait in any other way"
    )]
    fn drop(&mut self) {
        let Some(pid) = self.signal(Signal::SIGTERM) else {
            // `wait` has killed the group.
            return;
        };
        let polls = ROLLBACK.as_millis() / POLL.as_millis();
        for _ in 0..polls {
            // The leader stays unreaped, so that the group's id stays ours for the last signal.
            let state = waitid(
                Id::Pid(pid),
                WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT,
            );
            if !matches!(state, Ok(WaitStatus::StillAlive)) {
                break;
            }
            std::thread::sleep(POLL);
        }
        // Even if the leader has ended: a hook or an ssh that ignores SIGTERM may have outlived it.
        self.signal(Signal::SIGKILL);
        let _ = waitpid(pid, None);
    }
}

/// The processor time of a process so far, as Linux counts it: in steps of 10 ms.
pub fn processor_time(process: Pid) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name is in parentheses, and can hold some itself. The state comes next, and 11 fields later the time.
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

/// Kills each process that `left` takes for one that a dead worker left, with its process group if it leads one; returns
/// whether there was one. `left` returns the words for it in the log. Only the process with the lock of a clone slot
/// calls this: no other one has a process on its clone.
pub fn kill_orphans(left: impl Fn(u32) -> Option<String>) -> io::Result<bool> {
    let mut found = false;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if let Some(what) = left(process) {
            tracing::warn!(process, "killing the `{what}` that a dead worker left");
            let process = Pid::from_raw(process.cast_signed());
            // One that has just ended, or that leads no group, needs no signal.
            let _ = killpg(process, Signal::SIGKILL);
            let _ = kill(process, Signal::SIGKILL);
            found = true;
        }
    }
    Ok(found)
}

/// Whether a process of this machine has this argument.
pub fn has_argument(process: u32, wanted: &[u8]) -> bool {
    let Ok(arguments) = std::fs::read(format!("/proc/{process}/cmdline")) else {
        return false;
    };
    arguments
        .split(|&byte| byte == 0)
        .any(|argument| argument == wanted)
}

/// The output of a command.
#[derive(Debug, Default)]
pub struct CommandOutput {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Limits of a program that reads what is foreign, and of each process that it starts.
#[derive(Debug, Clone, Copy)]
pub struct ChildLimits {
    /// The most address space, in bytes.
    pub memory: u64,
    /// The most bytes of a file that it writes.
    pub file: u64,
}

/// Runs one program to its end, and keeps the first `MAX_WORDS` bytes of each output. A program that takes longer than
/// `deadline` is killed, and the error calls it `name`.
pub async fn run(
    command: Command,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    name: &str,
    deadline: Duration,
) -> Result<CommandOutput, WorkerError> {
    run_with(MAX_WORDS, None, command, arguments, name, deadline).await
}

/// [`run`], which keeps the first `most` bytes of each output.
pub async fn run_keeping(
    most: u64,
    command: Command,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    name: &str,
    deadline: Duration,
) -> Result<CommandOutput, WorkerError> {
    run_with(most, None, command, arguments, name, deadline).await
}

/// As [`run`], with limits.
pub async fn run_limited(
    command: Command,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    name: &str,
    deadline: Duration,
    limits: Option<ChildLimits>,
) -> Result<CommandOutput, WorkerError> {
    run_with(MAX_WORDS, limits, command, arguments, name, deadline).await
}

async fn run_with(
    most: u64,
    limits: Option<ChildLimits>,
    mut command: Command,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    name: &str,
    deadline: Duration,
) -> Result<CommandOutput, WorkerError> {
    command.args(arguments);
    let (mut group, pipes) = Group::spawn(command)?;
    if let Some(ChildLimits { memory, file }) = limits {
        group.limit(Resource::As, memory)?;
        group.limit(Resource::Fsize, file)?;
    }
    drop(pipes.stdin);
    let mut output = CommandOutput::default();
    let running = async {
        // Side by side: an output ends with the last process of the group that holds it, and `wait` kills these.
        let (out, err, status) = futures::join!(
            keep_start(most, pipes.stdout, &mut output.stdout),
            keep_start(most, pipes.stderr, &mut output.stderr),
            group.wait()
        );
        out.and(err).and(status)
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

/// Reads an output to its end, and keeps the first `most` bytes. A program that writes more must not block on a full
/// pipe.
async fn keep_start(
    most: u64,
    output: impl AsyncRead + Unpin,
    kept: &mut Vec<u8>,
) -> io::Result<()> {
    let mut output = output.take(most);
    output.read_to_end(kept).await?;
    tokio::io::copy(&mut output.into_inner(), &mut tokio::io::sink()).await?;
    Ok(())
}

impl CommandOutput {
    /// Its standard output, without white space at the end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    /// Its standard error in one line.
    pub fn words(&self) -> String {
        let words = text::one_line(&self.stderr);
        if words.is_empty() {
            format!("no message, exit code {}", self.code)
        } else {
            words
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    async fn run_script(script: &str) -> CommandOutput {
        run(bare(Path::new("sh")), ["-c", script], "sh", TIMEOUT)
            .await
            .expect("it ends before the deadline")
    }

    #[tokio::test]
    async fn program_that_prints_more_than_is_kept_succeeds() {
        let output =
            run_script("printf first; head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2")
                .await;
        assert_eq!(output.code, 0);
        assert!(output.stdout.starts_with(b"first"));
        assert_eq!([output.stdout.len(), output.stderr.len()], [64 << 10; 2]);
    }

    #[tokio::test]
    async fn processes_that_a_leader_leaves_are_killed() {
        // The background process holds the outputs, so they end with it.
        let output = run_script("sleep 600 & echo done").await;
        assert_eq!((output.code, output.text().as_str()), (0, "done"));
    }
}
