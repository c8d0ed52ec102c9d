//! Servers as child processes, with their descendants.

use std::{
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use runtime::{Clock, SystemClock};
use tokio::net::TcpStream;

/// How long a server may take to answer, or to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a process is checked meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// The output of a server goes to this file, in its directory.
const OUTPUT: &str = "output";

/// A child process and the process group that it leads. The whole group ends with this value.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
}

impl Group {
    /// Starts a process that writes its output to a file in `directory`.
    pub(crate) fn spawn(command: &mut Command, directory: &Path) -> io::Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(directory.join(OUTPUT))?;
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let child = command.spawn().map_err(|error| {
            let name = command.get_program().display();
            io::Error::new(
                error.kind(),
                format!("cannot start {name} (is it installed?): {error}"),
            )
        })?;
        Ok(Self { child })
    }

    /// The same, and waits until the process accepts connections on `port`.
    pub(crate) async fn serve(
        command: &mut Command,
        directory: &Path,
        port: u16,
    ) -> io::Result<Self> {
        let mut group = Self::spawn(command, directory)?;
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok()
            {
                return Ok(group);
            }
            group.check(directory)?;
            SystemClock.sleep(PAUSE).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nobody listens on port {port}"),
        ))
    }

    /// `BrokenPipe`, with the process's output, when it has ended.
    pub(crate) fn check(&mut self, directory: &Path) -> io::Result<()> {
        let Some(status) = self.ended()? else {
            return Ok(());
        };
        let output = fs::read_to_string(directory.join(OUTPUT)).unwrap_or_default();
        Err(io::Error::new(
            io::ErrorKind::BrokenPipe,
            format!("a server ended at its start, {status}: {output}"),
        ))
    }

    /// How the process ended, if it has.
    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The process itself.
    pub(crate) fn leader(&self) -> io::Result<Pid> {
        i32::try_from(self.child.id())
            .map(Pid::from_raw)
            .map_err(io::Error::other)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match killpg(self.leader()?, signal) {
            // All of it has ended.
            Err(Errno::ESRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Asks the group to end (SIGTERM), and waits for `patience` until the process has. Then kills what is left.
    pub(crate) async fn end(mut self, patience: Duration) -> io::Result<()> {
        self.signal(Signal::SIGTERM)?;
        for _ in 0..patience.as_millis() / PAUSE.as_millis() {
            if self.ended()?.is_some() {
                return self.kill();
            }
            SystemClock.sleep(PAUSE).await;
        }
        self.kill()?;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("a server did not end within {patience:?} of SIGTERM"),
        ))
    }

    /// Kills the group (SIGKILL), and reaps its process.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)?;
        self.child.wait().map(|_| ())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Kills the processes, and waits until they are gone or only wait for a parent that does not look.
pub(crate) async fn kill_and_wait(processes: &[Pid]) -> io::Result<()> {
    kill_all(processes);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if !processes
            .iter()
            .any(|&pid| stat(pid).is_some_and(|(state, _)| state != "Z"))
        {
            return Ok(());
        }
        SystemClock.sleep(PAUSE).await;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("some of the processes {processes:?} do not go"),
    ))
}

/// Kills the processes.
pub(crate) fn kill_all(processes: &[Pid]) {
    for &process in processes {
        // It fails only when the process is gone.
        let _ = kill(process, Signal::SIGKILL);
    }
}

/// The processes that `parent` started.
pub(crate) fn children(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let pid = Pid::from_raw(pid);
        if stat(pid).is_some_and(|(_, of)| of == parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// The processes below `parent`, those that others started first.
pub(crate) fn descendants(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut found = children(parent)?;
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        found.extend(children(next)?);
        at += 1;
    }
    Ok(found)
}

/// The state and the parent of a process. `None` when it is gone.
fn stat(pid: Pid) -> Option<(String, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before them stands in parentheses, and may hold some.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.to_owned();
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// Runs a tool that has to succeed, and returns what it prints.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("cannot start {program} (is it installed?): {error}"),
            )
        })?;
    let words = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    let words = String::from_utf8_lossy(&words).trim_end().to_owned();
    if output.status.success() {
        Ok(words)
    } else {
        Err(io::Error::other(format!("{program}: {words}")))
    }
}
