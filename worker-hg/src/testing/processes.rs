//! What the servers have in common: ports, processes and their descendants.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    process::{Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use runtime::{Clock, SystemClock};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::process::{Group, Pipes};

/// How long a server may take to answer, or to be gone.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a server is started again because another process took its port.
pub(super) const TRIES: usize = 5;

/// A port that nobody listens on at the moment.
pub(super) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// A server that runs, and its standard streams.
#[derive(Debug)]
pub(super) struct Server {
    group: Group,
    /// Held, because a server may take their end as its own.
    pipes: Pipes,
}

impl Server {
    /// Starts a server, and waits until it accepts connections on `port`. `BrokenPipe`, with the server's own words,
    /// when it ends instead: another process may have taken the port.
    pub(super) async fn start(command: tokio::process::Command, port: u16) -> io::Result<Self> {
        let (group, pipes) = Group::spawn(command).map_err(io::Error::other)?;
        let mut server = Self { group, pipes };
        let pause = Duration::from_millis(10);
        for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
            let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok();
            if let Ok(status) = tokio::time::timeout(pause, server.group.wait()).await {
                let (status, mut words) = (status?, String::new());
                server.pipes.stderr.read_to_string(&mut words).await?;
                return Err(io::Error::new(
                    io::ErrorKind::BrokenPipe,
                    format!("a server ended, {status}: {words}"),
                ));
            }
            if connected {
                return Ok(server);
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nobody listens on port {port}"),
        ))
    }

    /// The process itself. `None` when it has ended.
    pub(super) fn leader(&self) -> Option<Pid> {
        self.group.leader()
    }

    /// Ends it and its process group.
    pub(super) async fn end(self) {
        self.group.end().await;
    }
}

/// Kills the processes, and waits until they are gone or only wait for a parent that does not look.
pub(super) async fn kill_and_wait(processes: &[Pid]) -> io::Result<()> {
    kill_all(processes);
    let pause = Duration::from_millis(10);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        if !processes
            .iter()
            .any(|&pid| stat(pid).is_some_and(|(state, _)| state != "Z"))
        {
            return Ok(());
        }
        SystemClock.sleep(pause).await;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("some of the processes {processes:?} do not go"),
    ))
}

/// Kills the processes.
pub(super) fn kill_all(processes: &[Pid]) {
    for &process in processes {
        // It fails only when the process is gone.
        let _ = kill(process, Signal::SIGKILL);
    }
}

/// The processes that `parent` started.
pub(super) fn children(parent: Pid) -> io::Result<Vec<Pid>> {
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
pub(super) fn descendants(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut found = children(parent)?;
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        found.extend(children(next)?);
        at += 1;
    }
    Ok(found)
}

/// The state and the parent of a process, as the kernel tells. `None` when it is gone.
fn stat(pid: Pid) -> Option<(String, Pid)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before them stands in parentheses, and may hold some.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.to_owned();
    Some((state, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// Runs a tool that has to succeed, and returns what it prints.
pub(super) fn tool(program: &str, arguments: &[&str]) -> io::Result<String> {
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
